"""Beings: one id for each, and the datasets that they tie together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neurofm.catalog import Overlaps
from neurofm.splits.candidates import Candidate


@dataclass(frozen=True, kw_only=True)
class Group:
    """Datasets that share subjects, which therefore are split together; mostly a single one."""

    datasets: tuple[str, ...]
    """Sorted."""
    recordings: tuple[Candidate, ...]

    @property
    def name(self) -> str:
        """Its datasets, for the order of subjects."""
        return "+".join(self.datasets)

    @property
    def subjects(self) -> list[str]:
        """All beings, sorted."""
        return sorted({one.subject for one in self.recordings})

    @property
    def scored_subjects(self) -> list[str]:
        """Those of whom something may be scored, sorted; the others are learned from in every fold."""
        return sorted({one.subject for one in self.recordings if one.score})


def one_id_each(
    candidates: Sequence[Candidate], overlaps: Overlaps
) -> tuple[list[Candidate], dict[str, tuple[str, ...]]]:
    """Give every being one id: the first of those under which it takes part.

    Returns
    -------
    the candidates, and by its id the other ids of each being that has several.
    """
    present = {candidate.subject for candidate in candidates}
    ids = overlaps.ids(present)
    chosen = {subject: min(present & set(of_being)) for subject, of_being in ids.items()}
    same = {one: tuple(other for other in ids[one] if other != one) for one in sorted(set(chosen.values()))}
    return [replace(one, subject=chosen.get(one.subject, one.subject)) for one in candidates], same


def group_datasets(candidates: Sequence[Candidate]) -> list[Group]:
    """Group datasets that share a subject, or share one with a third."""
    groups: list[set[str]] = []
    tied = [{one.dataset for one in candidates if one.subject == who} for who in {one.subject for one in candidates}]
    for datasets in tied:
        touched = [group for group in groups if group & datasets]
        groups = [group for group in groups if not group & datasets] + [datasets.union(*touched)]
    return [
        Group(datasets=tuple(sorted(group)), recordings=tuple(one for one in candidates if one.dataset in group))
        for group in sorted(groups, key=min)
    ]
