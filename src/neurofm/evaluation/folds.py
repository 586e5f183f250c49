"""Folds: those that were asked for against those that there are, and what each of them leaves out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from neurofm.errors import UserError
from neurofm.evaluation.scoreboard import HELD_OUT
from neurofm.splits import DATASET, Fold, Splits


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


def left_out_of(splits: Splits, *, folds: Collection[int] | None = None) -> dict[str, str]:
    """Say what each fold leaves out where that is a value of a column, or a dataset, or not scored in all: by dataset.

    ``one site left out, 3 folds`` is scored in each of them, ``one dataset left out, 1 of 3 folds`` in one of as many
    as the modality has datasets. ``3 of 8 folds by subject`` is of three beings, where another dataset has eight.
    `folds` are those that were scored at all, where these are not all that there are.
    """
    chosen = [fold for number, fold in enumerate(splits.folds) if folds is None or number in folds]
    said = {}
    for fold in chosen:
        for entry in fold.recordings:
            if entry.test and entry.dataset not in splits.left_out_by:
                own = _scored_in(chosen, entry.dataset)
                if own < len(chosen):
                    said[entry.dataset] = f"{own} of {len(chosen)} folds {HELD_OUT[entry.kind][0]}"
    return said | {
        dataset: f"one {column} left out, {_counted(splits, dataset, column)} folds"
        for dataset, column in splits.left_out_by.items()
    }


def _scored_in(folds: Sequence[Fold], dataset: str) -> int:
    """In how many folds a dataset is scored."""
    return sum(any(entry.test and entry.dataset == dataset for entry in fold.recordings) for fold in folds)


def _counted(splits: Splits, dataset: str, column: str) -> str:
    scored = [{(entry.dataset, entry.modality) for entry in fold.recordings if entry.test} for fold in splits.folds]
    own = _scored_in(splits.folds, dataset)
    if column != DATASET:
        return f"{own}"
    modalities = {modality for of in scored for name, modality in of if name == dataset}
    among = sum(any(modality in modalities for _, modality in of) for of in scored)
    return f"{own} of {among}"
