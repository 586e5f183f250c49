"""One recording: read, preprocess, write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.preprocess import Common, modality_module, preprocess_recording
from neurofm.readers import read_recording, reader_module
from neurofm.readers.input import ReaderInput
from neurofm.recording import ManifestRecording, Modality, Unreadable
from neurofm.settings import Settings
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.write import VERSION as SHARD_VERSION
from neurofm.units import Outcome, Superseded, code_digest


@dataclass(frozen=True, kw_only=True)
class IngestTask:
    """All that turning one recording into a shard needs, in a form that a worker process can be sent."""

    entry: CatalogEntry
    recording: ManifestRecording
    root: Path
    """Folder that manifest paths are relative to."""
    digests: Mapping[str, str]
    """``<kind>:<value>`` per input path."""
    source_id: str
    version: str
    settings: Settings
    """`preprocess.<modality>` in params.yaml."""
    common: Common
    """`preprocess.common` in params.yaml."""
    shard: Path
    code: Mapping[str, str]
    """What its key says of code and libraries."""


def ingest(task: IngestTask) -> Outcome:
    """Read, preprocess and write one recording; then read the shard back, so that what is kept is readable.

    Raises
    ------
    Unreadable
        For a damaged file or a recording that cannot be stored.
    Superseded
        If the code or a library here is not the one of the unit's key: it was edited while the unit waited for its
        turn, and what is made now must not be taken for what was asked for then.
    """
    if {**code_of(task.entry), **libraries_of(task.entry)} != task.code:
        raise Superseded("code or libraries have changed since it was submitted; the next run takes the new ones")
    # Two OpenMP threads under load ran six times slower than one; units run side by side instead.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    source = reader_input(task.entry, task.recording, root=task.root)
    recording = read_recording(task.entry.reader, source, dict(task.entry.reader_options))
    recording = preprocess_recording(recording, settings=task.settings, common=task.common)
    provenance = Provenance(
        archive=task.entry.source.archive,
        source_id=task.source_id,
        version=task.version,
        files=tuple(sorted(task.digests.items())),
        licence=task.entry.licence,
        citation=task.entry.citation,
        libraries=libraries_of(task.entry),
    )
    try:
        write_shard(recording, provenance=provenance, path=task.shard)
    except ValueError as error:
        raise Unreadable(f"{task.recording.id}: {error}") from error
    shard = read_shard(task.shard, extra=True)
    return Outcome(
        facts={
            "samples": len(shard.stored),
            "channels": shard.stored.shape[1],
            "duration_s": round(len(shard.stored) / shard.sampling_rate_hz, 3),
        }
    )


def reader_input(entry: CatalogEntry, recording: ManifestRecording, *, root: Path) -> ReaderInput:
    """Return what the reader is given for one recording whose files lie below `root`."""
    return ReaderInput(
        dataset=entry.id,
        modality=entry.modality,
        species=entry.species,
        root=root,
        entry=recording,
        clock=entry.clock,
    )


def code_of(entry: CatalogEntry) -> dict[str, str]:
    """Return version and digest of every module that a shard's bytes come from."""
    return dict(_code_of(entry.reader, entry.modality))


@cache
def _code_of(reader: str, modality: Modality) -> dict[str, str]:
    """Do the same; read once by each process, which goes on with the code that it has imported."""
    reads, cleans = reader_module(reader), modality_module(modality)
    return {
        "reader": f"{reads.VERSION}-{code_digest(f'neurofm.readers.{reader}')}",
        "preprocess": f"{cleans.VERSION}-{code_digest(f'neurofm.preprocess.{modality}')}",
        "shard": f"{SHARD_VERSION}-{code_digest('neurofm.shards.write')}",
    }


def libraries_of(entry: CatalogEntry) -> dict[str, str]:
    """Return the versions of the libraries whose arithmetic ends up in a shard."""
    names = {*reader_module(entry.reader).LIBRARIES, *modality_module(entry.modality).LIBRARIES, "zarr", "numcodecs"}
    return {name: version(name) for name in sorted(names)}
