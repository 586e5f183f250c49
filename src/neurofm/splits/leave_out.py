"""Leave out: one site, animal or other value of a column a fold, or one dataset of each modality."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.splits.beings import Group
from neurofm.splits.folds import Role
from neurofm.splits.settings import DATASET, SUBJECT, SplitSettings
from neurofm.splits.strata import strata_of
from neurofm.splits.subjects import chosen_among

Held = Sequence[frozenset[str]]
"""[fold] who is held out; nobody in folds beyond a group's last value."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How many folds there are, and whom they hold out of which datasets."""

    count: int
    of: Mapping[tuple[str, ...], Held]
    """By the group's datasets; groups that are not in it are split as ever."""
    whole: Sequence[frozenset[str]] = ()
    """[fold] datasets that are left out whole: alone what is of them is scored. Empty where a column is left out."""

    @property
    def datasets(self) -> list[str]:
        """Those of which each fold leaves something out, or which some fold leaves out whole."""
        if self.whole:
            return sorted(frozenset().union(*self.whole))
        return [dataset for datasets in sorted(self.of) for dataset in datasets]


def rounds_of(groups: Sequence[Group], settings: SplitSettings) -> Rounds:
    """Give every value of the column a fold, or every dataset.

    Values of different datasets share folds, so that there are no more than the dataset with the most of them has;
    a value that several datasets know, such as a site, is held out of all of them at once. In the same way datasets
    of different modalities share folds, of each modality that has several.

    Raises
    ------
    UserError
        If no dataset has two values, or each has more than `leave_out_most`; or if nothing of a dataset's modality is
        left to learn from where it is left out, since all others have its subjects.
    """
    return _by_dataset(groups, settings) if settings.leave_out == DATASET else _by_value(groups, settings)


def _by_value(groups: Sequence[Group], settings: SplitSettings) -> Rounds:
    found = {group.datasets: _values(group, settings.leave_out) for group in groups}
    counts = {datasets: len({value for own in values.values() for value in own}) for datasets, values in found.items()}
    taken = [values for datasets, values in found.items() if 2 <= counts[datasets] <= settings.leave_out_most]
    if not taken:
        most = max(counts.values(), default=0)
        raise UserError(
            f"split: no dataset has 2 to {settings.leave_out_most} values of {settings.leave_out!r} "
            f"(`split.leave_out`); the most that one has is {most}.",
            mend="name a column of participants.tsv, `subject` or `dataset`, or raise `split.leave_out_most`",
        )
    fold_of = _folds_apart([{value for own in values.values() for value in own} for values in taken])
    count = max(fold_of.values()) + 1
    return Rounds(
        count=count,
        of={
            datasets: [
                frozenset(who for who, own in values.items() if any(fold_of[value] == fold for value in own))
                for fold in range(count)
            ]
            for datasets, values in found.items()
            if values in taken
        },
    )


def _by_dataset(groups: Sequence[Group], settings: SplitSettings) -> Rounds:
    """Hold every being of a dataset out in the dataset's fold, whatever else knows it."""
    recordings = [one for group in groups for one in group.recordings]
    taken: list[set[str]] = []
    most = 0
    for modality in sorted({one.modality for one in recordings}):
        there = {one.dataset for one in recordings if one.modality is modality}
        scored = {one.dataset for one in recordings if one.modality is modality and one.score}
        most = max(most, len(there))
        if len(there) > 1 and 1 <= len(scored) <= settings.leave_out_most:
            taken.append(scored)
    if not taken:
        raise UserError(
            f"split: no modality has 2 to {settings.leave_out_most} datasets (`split.leave_out: {DATASET}`); "
            f"the most that one has is {most}.",
            mend="let a second dataset of the modality take part, or raise `split.leave_out_most`",
        )
    fold_of = _folds_apart(taken)
    whole = [
        frozenset(dataset for dataset, own in fold_of.items() if own == fold)
        for fold in range(max(fold_of.values()) + 1)
    ]
    held = [frozenset(one.subject for one in recordings if one.dataset in out) for out in whole]
    for out, who in zip(whole, held, strict=True):
        left = {one.modality for one in recordings if one.dataset not in out and one.subject not in who}
        for one in recordings:
            if one.dataset in out and one.modality not in left:
                raise UserError(
                    f"split: without {one.dataset} and its subjects nothing of {one.modality} is left to learn from.",
                    mend="let another dataset of the modality take part, or choose another `split.leave_out`",
                )
    return Rounds(
        count=len(whole),
        of={
            group.datasets: [who.intersection(group.subjects) for who in held]
            for group in groups
            if not fold_of.keys().isdisjoint(group.datasets)
        },
        whole=whole,
    )


def _folds_apart(sets: Sequence[Collection[str]]) -> dict[str, int]:
    """Give every value the first fold that no other of its set has, or of any of its sets."""
    fold_of: dict[str, int] = {}
    for value in sorted({value for own in sets for value in own}):
        beside = {other for own in sets if value in own for other in own}
        used = {fold_of[other] for other in beside if other in fold_of}
        fold_of[value] = next(fold for fold in range(len(used) + 1) if fold not in used)
    return fold_of


def learning_by_being(group: Group, *, held: Held, settings: SplitSettings) -> list[Mapping[str, Role]]:
    """Return the role of every subject in each fold.

    Of those that are not held out a share is chosen on. Few of them, where that would cost a whole animal, have no
    role: they are learned from and chosen on at different times. fMRI, whose runs are never split, has too few then.
    """
    strata = strata_of(group.recordings, settings.stratify)
    roles: list[Mapping[str, Role]] = []
    for fold, out in enumerate(held):
        rest = [subject for subject in group.scored_subjects if subject not in out]
        enough = len(group.scored_subjects) >= settings.min_subjects or _is_never_split(group)
        by_being: dict[str, Role] = dict.fromkeys(sorted(out), "test")
        if enough and len(rest) > 1:
            by_being |= chosen_among(rest, strata, settings=settings, salt=f"{group.name}:{fold}")
        elif enough:
            by_being |= dict.fromkeys(rest, "train")
        roles.append(by_being)
    return roles


def _is_never_split(group: Group) -> bool:
    return any(one.modality is Modality.FMRI for one in group.recordings)


def _values(group: Group, column: str) -> dict[str, frozenset[str]]:
    """Return every scored subject's values; several where it was recorded at several sites."""
    found: dict[str, set[str]] = {subject: set() for subject in group.scored_subjects}
    for one in group.recordings:
        value = one.subject if column == SUBJECT else one.attributes.get(column)
        if one.subject in found and value is not None and value != "":
            found[one.subject].add(str(value))
    return {subject: frozenset(values) for subject, values in found.items()}
