"""What a reader is given for a file that a test made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from neurofm.readers import ReaderInput
from neurofm.recording import ManifestRecording, Modality
from tests.readers.ophys_layouts import Miniscope, real_miniscope

SourceOf = Callable[..., ReaderInput]


@pytest.fixture(scope="session")
def source_of() -> SourceOf:
    """Return a function from a file to what a reader is given for it."""

    def make(
        main: Path,
        modality: Modality,
        *,
        roles: Mapping[str, str] | None = None,
        extra: Sequence[str] = (),
        subject: str = "test:01",
        root: Path | None = None,
    ) -> ReaderInput:
        folder = root or main.parent
        files = {"main": str(main.relative_to(folder)), **(roles or {})}
        entry = ManifestRecording(id="rec", subject=subject, files=files, extra=tuple(extra))
        return ReaderInput(dataset="made", modality=modality, species="Homo sapiens", root=folder, entry=entry)

    return make


@pytest.fixture(scope="session")
def miniscope(sample_raw: Callable[[str], Path]) -> Miniscope:
    """Return the traces and footprints of ten cells of A0634."""
    return real_miniscope(sample_raw("cnmfe-miniscope") / "A0634-210127.nwb")
