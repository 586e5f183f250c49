"""Pairs: two recordings of one being at one time by two modalities, and when both may be used for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt

from neurofm.shards import Moment
from neurofm.splits import Role
from neurofm.windows.view import RecordingView

Span = tuple[float, float]
"""Seconds [begin, end) on a clock."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two simultaneous recordings of different modality."""

    first: RecordingView
    second: RecordingView

    def shared(self, role: Role, other: Role | None = None) -> tuple[Span, ...]:
        """Return when the first has the role and the second has it too, or has the `other` one."""
        spans = (
            (max(one[0], two[0]), min(one[1], two[1]))
            for one in role_spans(self.first, role)
            for two in role_spans(self.second, other or role)
        )
        return tuple(sorted((begin, end) for begin, end in spans if begin < end))

    @property
    def overlap_s(self) -> float:
        """How long both were recorded, seconds."""
        one, two = moment_of(self.first), moment_of(self.second)
        return min(one.end_s, two.end_s) - max(one.begin_s, two.begin_s)

    @property
    def crossing_s(self) -> float:
        """How long the two have different roles (train, validation, test): 0 where both were split alike."""
        roles: tuple[Role, ...] = ("train", "validation", "test")
        spans = [self.shared(one, other) for one, other in permutations(roles, 2)]
        return sum(end - begin for part in spans for begin, end in part)

    def turned(self) -> Pair:
        """Return the same pair from the other side."""
        return Pair(first=self.second, second=self.first)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A row of the table of pairs; seconds in which both have the role."""

    first: str
    second: str
    overlap_s: float
    train_s: float
    validation_s: float
    test_s: float


def pairs_of(views: Sequence[RecordingView]) -> tuple[Pair, ...]:
    """Find what may be used together: recordings of a fold that were made at once and are cut alike.

    What the split did not cut alike is no pair (`Pair.crossing_s`): one would be learned from while the other is
    chosen on or scored.
    """
    return tuple(pair for pair in made_at_once(views) if not pair.crossing_s)


def made_at_once(views: Sequence[RecordingView]) -> tuple[Pair, ...]:
    """Find the recordings that were made at once: on one clock, of one being, overlapping, of different modality."""
    by_clock: dict[tuple[str, str], list[RecordingView]] = {}
    for view in sorted(views, key=lambda view: (view.modality, view.name)):
        if view.moment is not None:
            by_clock.setdefault((view.moment.clock, view.subject), []).append(view)
    found = (Pair(first=one, second=two) for own in by_clock.values() for one, two in combinations(own, 2))
    return tuple(pair for pair in found if pair.first.modality is not pair.second.modality and pair.overlap_s > 0)


def overlap_table(pairs: Sequence[Pair]) -> tuple[Overlap, ...]:
    """Say of each pair how many seconds it may be used for what."""

    def seconds(pair: Pair, role: Role) -> float:
        return sum(end - begin for begin, end in pair.shared(role))

    return tuple(
        Overlap(
            first=pair.first.name,
            second=pair.second.name,
            overlap_s=pair.overlap_s,
            train_s=seconds(pair, "train"),
            validation_s=seconds(pair, "validation"),
            test_s=seconds(pair, "test"),
        )
        for pair in pairs
    )


def moment_of(view: RecordingView) -> Moment:
    """Return when a recording of a pair was made."""
    assert view.moment is not None
    return view.moment


def role_spans(view: RecordingView, role: Role) -> tuple[Span, ...]:
    """Return when a recording has a role, on its clock."""
    begin_s, rate_hz = moment_of(view).begin_s, view.sampling_rate_hz
    return tuple((begin_s + part.start / rate_hz, begin_s + part.stop / rate_hz) for part in getattr(view.roles, role))


def samples_at(view: RecordingView, time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the sample of a recording that is nearest to each time on its clock; it may lie outside of it."""
    samples = (time_s - moment_of(view).begin_s) * view.sampling_rate_hz
    return np.asarray(np.rint(samples), dtype=np.int64)


def times_of(view: RecordingView, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the time of samples on the recording's clock."""
    times: npt.NDArray[np.float64] = moment_of(view).begin_s + starts / view.sampling_rate_hz
    return times


def inside(view: RecordingView, role: Role, starts: npt.NDArray[np.int64], *, samples: int) -> npt.NDArray[np.bool_]:
    """[window] whether all of a window lies in one segment of a role."""
    kept = np.zeros(len(starts), dtype=np.bool_)
    for part in getattr(view.roles, role):
        kept |= (starts >= part.start) & (starts + samples <= part.stop)
    return kept
