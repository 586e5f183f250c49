"""Folds: those that were asked for against those that there are, and what each of them leaves out."""

from __future__ import annotations

from collections.abc import Iterable

from neurofm.errors import UserError
from neurofm.splits import Fold, Splits


def check_folds(splits: Splits, folds: Iterable[int], *, where: str) -> None:
    """Refuse a fold that there is not: how many `split.leave_out` makes is not known before the splits are.

    Parameters
    ----------
    splits
        Which folds there are.
    folds
        Which were asked for, counted from 0.
    where
        The file and key that ask for them.

    Raises
    ------
    UserError
        That names the largest.
    """
    last = max(folds)
    if last >= len(splits.folds):
        raise UserError(
            f"{where}: there is no fold {last}, data/splits.json has {len(splits.folds)}.",
            mend=f"choose from 0 to {len(splits.folds) - 1}",
        )


def left_out_of(splits: Splits) -> dict[str, str]:
    """Say what each fold leaves out where that is a value of a column: by dataset, ``one site left out, 3 folds``."""
    return {
        dataset: f"one {column} left out, {sum(_is_scored(fold, dataset) for fold in splits.folds)} folds"
        for dataset, column in splits.left_out_by.items()
    }


def _is_scored(fold: Fold, dataset: str) -> bool:
    return any(entry.dataset == dataset and entry.test for entry in fold.recordings)
