"""Whole sets: which sets of channels of a dataset are joined, where not every fold could learn an attribute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Part = TypeVar("Part")
Folds = list[dict[str, Part] | None]
"""[fold that scores the set] by model; None where the attribute could not be learned there."""
Given = defaultdict[tuple[str, str, str], defaultdict[str, Folds[Part]]]
"""By dataset, modality and attribute, and by set of channels."""


def join_given(into: Given[Part], other: Given[Part]) -> None:
    """Add what later folds gave."""
    for key, sets in other.items():
        for channel_set, folds in sets.items():
            into[key][channel_set].extend(folds)


def whole_sets(
    sets: Mapping[str, Sequence[dict[str, Part] | None]], *, groups_of: Callable[[Part], tuple[str, ...]]
) -> list[dict[str, Part]]:
    """Return the parts of all folds of those sets of channels whose every fold gave something.

    A set of which one fold could not be learned would count some of its subjects only. Where sets know different groups
    (a site without patients), those with the commonest groups stay: an index must mean the same group in all of them.

    Parameters
    ----------
    sets
        By name, what each fold that scores it gave.
    groups_of
        Names of the groups that a part tells apart.
    """
    whole: list[list[dict[str, Part]]] = []
    for _, folds in sorted(sets.items()):
        given = [fold for fold in folds if fold is not None]
        if given and len(given) == len(folds):
            whole.append(given)
    named = [groups_of(next(iter(folds[0].values()))) for folds in whole]
    counts = Counter(named)
    commonest = max(sorted(counts), key=lambda groups: counts[groups], default=())
    return [fold for folds, groups in zip(whole, named, strict=True) if groups == commonest for fold in folds]
