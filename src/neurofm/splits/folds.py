"""Folds: what every recording is for, as ``data/splits.json`` says it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from neurofm.files import write_json
from neurofm.recording import Modality
from neurofm.settings import Settings

Role = Literal["train", "validation", "test"]
Kind = Literal["subject", "session", "time", "train-only"]
UNSEEN: frozenset[Kind] = frozenset({"subject", "session"})
"""Kinds whose whole recordings are held out: of a being, or of a day, that is not learned from."""


class Segment(Settings):
    """Samples [start, stop) of a recording's signal."""

    start: int = Field(ge=0)
    stop: int

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            msg = f"empty segment [{self.start}, {self.stop})"
            raise ValueError(msg)
        return self

    def meets(self, other: Segment, *, gap: int = 0) -> bool:
        """Whether the two share a sample, or lie closer together than `gap` samples."""
        return self.start - other.stop < gap and other.start - self.stop < gap


class FoldRecording(Settings):
    """What one recording is for in one fold."""

    dataset: str
    recording: str
    subject: str
    """Qualified by who numbered it, ``hbn:NDARAC904DMU``; of a being with several ids, one of them everywhere."""
    session: str = Field(default="", exclude_if=lambda value: value == "")
    """Named where sessions are held out."""
    modality: Modality
    kind: Kind
    calibration: tuple[Segment, ...]
    """May be looked at to normalise and describe the recording; never scored."""
    train: tuple[Segment, ...] = ()
    validation: tuple[Segment, ...] = ()
    test: tuple[Segment, ...] = ()

    @property
    def name(self) -> str:
        """``<dataset>/<recording>``."""
        return f"{self.dataset}/{self.recording}"

    @property
    def unit(self) -> str:
        """What is held out as a whole: the being, or one of its sessions."""
        return f"{self.subject}, session {self.session}" if self.kind == "session" else self.subject

    def digest(self) -> str:
        """SHA-256 of all that stands here: equal where a recording has the same roles."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Fold(Settings):
    """One fold: the roles of all recordings that take part."""

    recordings: tuple[FoldRecording, ...]


class LeftOut(Settings):
    """A recording that takes no part, or is not scored, and why."""

    dataset: str
    recording: str
    reason: str
    trains: bool
    """True: it is learned from all the same."""


class Splits(Settings):
    """``data/splits.json``."""

    schema_: Literal["neurofm-splits/1"] = Field(default="neurofm-splits/1", alias="schema")
    seed: int
    folds: tuple[Fold, ...]
    left_out: tuple[LeftOut, ...]
    same: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Other ids of a being, by the one that it has here: only of those that have several."""
    left_out_by: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """The column of which each fold leaves out a value, or ``dataset`` where one fold leaves it out whole
    (`SplitSettings.leave_out`), by dataset; others are not here."""

    def write(self, path: Path) -> None:
        """Write as canonical JSON."""
        write_json(path, self.model_dump(mode="json", by_alias=True, exclude_defaults=False))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls.model_validate_json(path.read_bytes())
