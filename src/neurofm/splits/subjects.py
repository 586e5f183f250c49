"""Subjects: which of them a fold learns from, chooses on and scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from neurofm.splits.beings import Group
from neurofm.splits.folds import Role
from neurofm.splits.plans import roles_in_turn
from neurofm.splits.settings import SplitSettings
from neurofm.splits.strata import Strata, deal, strata_of


def shuffled(subjects: Iterable[str], settings: SplitSettings, group: str) -> list[str]:
    """Order subjects by a hash, so that adding one moves few others."""
    return sorted(subjects, key=lambda subject: hashlib.sha256(f"{settings.seed}:{group}:{subject}".encode()).digest())


def by_subject(group: Group, *, settings: SplitSettings) -> list[Mapping[str, Role]]:
    """Return the role of every subject in each fold: in turn, or where there are strata so that each gets its share."""
    order = shuffled(group.scored_subjects, settings, group.name)
    if not settings.stratify and len(group.datasets) == 1:
        return [
            dict(zip(order, roles_in_turn(len(order), fold=fold, settings=settings), strict=True))
            for fold in range(settings.folds)
        ]
    strata, count = strata_of(group.recordings, settings.stratify), len(order)
    if settings.folds > 1:
        sizes = [count // settings.folds + (fold < count % settings.folds) for fold in range(settings.folds)]
    else:
        test = max(1, round(count * settings.test_fraction))
        sizes = [test, count - test]
    held = deal(order, strata, sizes=sizes)
    return [
        {
            **chosen_among(
                [subject for subject in order if subject not in set(held[fold])],
                strata,
                settings=settings,
                salt=f"{group.name}:{fold}",
            ),
            **dict.fromkeys(held[fold], "test"),
        }
        for fold in range(settings.folds)
    ]


def chosen_among(subjects: Iterable[str], strata: Strata, *, settings: SplitSettings, salt: str) -> dict[str, Role]:
    """Return who of the subjects that are not scored is learned from, and who is chosen on."""
    order = shuffled(subjects, settings, salt)
    wanted = max(1, round(len(order) * settings.validation_fraction))
    validation = set(deal(order, strata, sizes=[wanted, len(order) - wanted])[0])
    return {subject: "validation" if subject in validation else "train" for subject in order}
