"""Audit: that a split keeps apart what it says it keeps apart, whatever made it."""

from __future__ import annotations

from neurofm.errors import UserError
from neurofm.splits.folds import UNSEEN, FoldRecording, Splits

_MEND = "delete data/splits.json and run `dvc repro split`; if it stays, report it as a bug"


def audit(splits: Splits) -> None:
    """Check every fold: no being or session that it holds out is learned from, nor any sample that it scores.

    Raises
    ------
    UserError
        Naming who or what, the fold and both datasets.
    """
    for number, fold in enumerate(splits.folds):
        held_out = {entry.unit: entry for entry in fold.recordings if entry.kind in UNSEEN and not entry.train}
        for entry in fold.recordings:
            other = held_out.get(entry.unit) or held_out.get(entry.subject)
            if entry.train and other is not None:
                raise UserError(
                    f"split: {other.kind} {other.unit} is held out in fold {number} as {other.name} "
                    f"and learned from as {entry.name}.",
                    mend=_MEND,
                )
            _audit_samples(entry, fold=number)


def _audit_samples(entry: FoldRecording, *, fold: int) -> None:
    for segment in entry.test + entry.validation:
        if any(segment.meets(seen) for seen in entry.train + entry.calibration):
            raise UserError(f"split: {entry.name} fold {fold} learns from and scores the same samples.", mend=_MEND)
