"""How the tests of the programs that extract traces read a result, and take it to a shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.read import Shard
from tests.readers.ophys_layouts import beside

PREPROCESS = load_params(Path(__file__).resolve().parents[2]).preprocess
PROVENANCE = Provenance(
    archive="local",
    source_id="lab",
    version="local",
    files=(("main", "sha256:00"),),
    licence="MIT",
    citation="Viejo 2023",
    libraries={},
)
Source = Callable[..., ReaderInput]


def read(reader: str, source_of: Source, main: Path, modality: Modality, **options: Any) -> Recording:
    """Read `main` with every file beside it."""
    source = source_of(main, modality, extra=beside(main, main.parent), root=main.parent)
    return read_recording(reader, source, options)


def shard_of(recording: Recording, path: Path) -> Shard:
    """Return the recording as its shard at `path` gives it back, after preprocessing by the project's settings."""
    settings = PREPROCESS.of(recording.modality)
    clean = preprocess_recording(recording, settings=settings, common=PREPROCESS.common)
    write_shard(clean, provenance=PROVENANCE, path=path)
    return read_shard(path)


def values_of(recording: Recording) -> np.ndarray[Any, Any]:
    """Return the signal's values, [time, cell]."""
    assert recording.signal is not None
    return recording.signal.values
