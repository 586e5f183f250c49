"""What the splitter may be told."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from neurofm.settings import Settings

SUBJECT = "subject"
"""What `SplitSettings.leave_out` calls the being itself, whatever columns there are."""
DATASET = "dataset"
"""What it calls a dataset as a whole."""


class SplitSettings(Settings):
    """`split` in params.yaml. Without further words: 70 % learned from, 15 % chosen on, 15 % scored, by subject."""

    seed: int
    folds: int = Field(default=1, ge=1)
    """k of the k-fold; 1 gives one split with `test_fraction` and `validation_fraction`."""
    test_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Share of subjects or blocks that is scored, where `folds` is 1."""
    validation_fraction: float = Field(default=15 / 85, gt=0, lt=1)
    """Share of what is not scored that early stopping and tuning choose on."""
    min_subjects: int = Field(default=5, ge=3)
    """Datasets with fewer subjects are split by session or in time."""
    min_sessions: int | None = Field(default=None, ge=3)
    """Of those, datasets with at least so many sessions are split by session; none without."""
    blocks: int = Field(default=9, ge=3)
    """Most time blocks that a recording is cut into; fewer where gaps would eat more than half of it."""
    calibration_fraction: float = Field(default=0.3, gt=0, lt=1)
    """Share of an unseen subject's recording that may be looked at, unlabelled, before it is scored."""
    stratify: tuple[str, ...] = ()
    """Columns of ``participants.tsv`` whose values every fold gets its share of; numbers by quarter."""
    leave_out: str = ""
    """A fold per value of this column (``site``), per ``subject``, or per ``dataset``: `folds` then says nothing."""
    leave_out_most: int = Field(default=20, ge=2)
    """Datasets with more values than this, modalities with more datasets, are split k-fold beside the others."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(set(self.stratify)) < len(self.stratify):
            msg = "`stratify` names a column twice"
            raise ValueError(msg)
        return self
