"""Folds that were asked for, against those that there are."""

from __future__ import annotations

from collections.abc import Iterable

from neurofm.errors import UserError
from neurofm.splits import Splits


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
