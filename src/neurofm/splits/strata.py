"""Strata: every fold gets its share of each site, label and age, as far as whole subjects allow.

Subjects are dealt out one by one, those with rare values first, to the part that lacks them most of those dealt so far
(after iterative stratification: Sechidis K, Tsoumakas G, Vlahavas I (2011), On the stratification of multi-label data,
10.1007/978-3-642-23808-6_10).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from neurofm.recording.recording import JsonScalar
from neurofm.splits.candidates import Candidate

PARTS = 4
"""A number is in a quarter of the subjects; columns with no more values than this are taken as they are."""

Strata = Mapping[str, tuple[str, ...]]
"""By subject, the stratum in each column."""


def value_of(recordings: Sequence[Candidate], column: str) -> JsonScalar:
    """Return what a subject's recordings say of a column: the first that says anything, and None without."""
    said = (recording.attributes.get(column) for recording in recordings)
    return next((value for value in said if value is not None and value != ""), None)


def strata_of(recordings: Sequence[Candidate], columns: Sequence[str]) -> Strata:
    """Find each subject's stratum per column, and which datasets know it.

    Numbers of more than `PARTS` values are parted at their quartiles; who has no value makes a stratum too.
    """
    by_subject: defaultdict[str, list[Candidate]] = defaultdict(list)
    for recording in recordings:
        by_subject[recording.subject].append(recording)
    found = [{subject: "+".join(sorted({one.dataset for one in own})) for subject, own in by_subject.items()}]
    found += [_in_parts({subject: value_of(own, column) for subject, own in by_subject.items()}) for column in columns]
    return {subject: tuple(column[subject] for column in found) for subject in by_subject}


def deal(subjects: Sequence[str], strata: Strata, *, sizes: Sequence[int]) -> list[list[str]]:
    """Deal subjects out to parts of given sizes.

    Parameters
    ----------
    subjects
        In the order in which equals are dealt.
    strata
        Of each of them.
    sizes
        How many each part gets; together as many as there are.
    """
    # The combination of all columns counts as one more: it is what a part should have its share of in the first place.
    full = {subject: (*strata[subject], "\0".join(strata[subject])) for subject in subjects}
    totals = Counter(key for own in full.values() for key in enumerate(own))
    dealt: Counter[tuple[int, str]] = Counter()
    held: list[Counter[tuple[int, str]]] = [Counter() for _ in sizes]
    parts: list[list[str]] = [[] for _ in sizes]

    def lack(part: int, subject: str) -> tuple[float, int]:
        share = sizes[part] / len(subjects)
        missing = sum(share * (dealt[key] + 1) - held[part][key] for key in enumerate(full[subject]))
        return (round(missing, 9), -part)

    for subject in sorted(subjects, key=lambda one: min(totals[key] for key in enumerate(full[one]))):
        room = [part for part in range(len(sizes)) if len(parts[part]) < sizes[part]]
        _, part = max((lack(part, subject), part) for part in room)
        parts[part].append(subject)
        held[part].update(enumerate(full[subject]))
        dealt.update(enumerate(full[subject]))
    return parts


def _in_parts(values: Mapping[str, JsonScalar]) -> dict[str, str]:
    known = {subject: value for subject, value in values.items() if value is not None}
    numbers = {s: float(v) for s, v in known.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if len(numbers) < len(known) or len(set(numbers.values())) <= PARTS:
        return {subject: str(value) for subject, value in values.items()}
    edges = np.quantile(list(numbers.values()), np.arange(1, PARTS) / PARTS)
    return {s: str(np.searchsorted(edges, numbers[s])) if s in numbers else str(None) for s in values}
