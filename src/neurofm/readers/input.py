"""What a reader is given: one recording's files, verified, and the facts the catalogue states about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.recording import SHARED_CLOCK, ManifestRecording, Modality, Unreadable


@dataclass(frozen=True, kw_only=True)
class ReaderInput:
    """One recording's files and what the catalogue says of them."""

    dataset: str
    modality: Modality
    species: str
    root: Path
    """Folder that manifest paths are relative to."""
    entry: ManifestRecording
    clock: str = ""
    """The catalogue's word for recordings that were made at once."""

    @property
    def clock_id(self) -> str:
        """Equal for recordings that were made at once, as far as the catalogue says it."""
        entry = self.entry
        if not self.clock:
            return f"{self.dataset}/{entry.id}"
        return f"{SHARED_CLOCK}{self.clock}/{entry.subject}/{entry.session}/{entry.task}/{entry.run}"

    def path(self, role: str = "main") -> Path:
        """Return the file that plays `role`.

        Raises
        ------
        Unreadable
            If the recording has no such file.
        """
        files: Mapping[str, str] = self.entry.files
        if role not in files:
            msg = f"{self.entry.id} has no {role!r} file; the catalogue's `recordings.roles` must name one"
            raise Unreadable(msg)
        return self.root / files[role]
