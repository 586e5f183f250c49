"""Where each trial lies on a recording's clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.recording import Unreadable

_GRID_S = 0.1
"""Trials begin on whole tenths of a second where samples do, so that bins of 20, 50 or 100 ms begin with them."""
_WHOLE = 1e-6
_SLACK = 0.01
"""Samples by which a trial may begin before the one before it has ended: times are rounded."""


@dataclass(frozen=True, kw_only=True)
class TrialClock:
    """Trials on one clock of regular samples."""

    first: npt.NDArray[np.int64]
    """[trial] its first sample."""
    length: npt.NDArray[np.int64]
    """[trial] samples."""
    period_s: float
    start_s: float
    """Time of sample 0."""

    @property
    def samples(self) -> int:
        """How many samples there are, gaps included."""
        return int(self.first[-1] + self.length[-1])

    @property
    def stretches(self) -> npt.NDArray[np.float64]:
        """[trial, 2] begin and end, seconds; the end is one sample after the last one."""
        edges = np.column_stack([self.first, self.first + self.length])
        return np.asarray(self.start_s + edges * self.period_s, dtype=np.float64)

    def rows(self) -> npt.NDArray[np.int64]:
        """[sample of all trials] where the trials' samples lie, one trial after the other."""
        return np.concatenate([np.arange(n) + first for first, n in zip(self.first, self.length, strict=True)])


def end_to_end(lengths: Sequence[int], *, period_s: float, gap_s: float) -> TrialClock:
    """Lay trials one after the other, at least `gap_s` apart."""
    per_grid = round(_GRID_S / period_s)
    grid = per_grid if per_grid and abs(per_grid * period_s - _GRID_S) < _WHOLE else 1
    gap = max(1, math.ceil(gap_s / period_s - _WHOLE))
    first, at = [], 0
    for length in lengths:
        first.append(at)
        at = -(-(at + length + gap) // grid) * grid
    return TrialClock(first=np.array(first), length=np.array(lengths), period_s=period_s, start_s=0.0)


def as_recorded(onset_s: npt.NDArray[np.float64], lengths: Sequence[int], *, period_s: float) -> TrialClock:
    """Lay trials where they were recorded; each moves by at most half a sample onto the common grid."""
    first = np.rint((onset_s - onset_s[0]) / period_s).astype(np.int64)
    length = np.array(lengths)
    # Rounding may push a trial into the sample that the one before has just ended with.
    first[1:] = np.maximum(first[1:], (first + length)[:-1])
    return TrialClock(first=first, length=length, period_s=period_s, start_s=float(onset_s[0]))


def check_apart(onset_s: npt.NDArray[np.float64], lengths: Sequence[int], *, period_s: float, what: str) -> None:
    """Refuse trials that overlap: what two of them hold would be learned from in one and scored in the other.

    Raises
    ------
    Unreadable
        Naming the first pair.
    """
    end_s = onset_s + np.array(lengths) * period_s
    over = np.flatnonzero(onset_s[1:] < end_s[:-1] - _SLACK * period_s)
    if len(over):
        i = int(over[0])
        raise Unreadable(
            f"{what}: trial {i + 2} begins at {onset_s[i + 1]:.3f} s, before trial {i + 1} ends at {end_s[i]:.3f} s "
            f"({len(over)} such pairs): trials must be in order and must not overlap"
        )
