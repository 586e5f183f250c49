"""Tuning of units and cells to what was measured beside them, with the null that tuning must beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.recording.recording import EventColumn

FloatArray = npt.NDArray[np.float64]

_FEWEST_SAMPLES = 100
"""Of a shifted series: with fewer, shifts are no null."""
_HALF_BLOCKS = 20
"""The two halves take turns in this many blocks, so that drift falls on both."""
_BAND = (2.5, 97.5)
_MOST_LEVELS = 12
"""Of a column of events: one with more is no set of conditions (a time, a running number)."""
_BLOCKED = 0.2
"""Share of neighbouring events of one level beyond what chance gives."""
_ROUNDING = 1e-6
"""Samples."""
_UNKNOWN = frozenset({"", "nan", "n/a", "none"})


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Mean activity by level of one variable."""

    occupancy: npt.NDArray[np.int64]
    """[level] samples (or trials)."""
    mean: FloatArray
    """[level, unit]; NaN where the occupancy is below the minimum."""
    null_low: FloatArray
    """[level, unit] 2.5th percentile of the shuffles."""
    null_high: FloatArray
    """[level, unit] 97.5th percentile of the shuffles."""
    information: FloatArray
    """[unit] bits per spike, or the share of variance; what the shuffles give on average is taken off."""
    p: FloatArray
    """[unit] share of shuffles with as much information, the data counted as one of them."""
    reliability: FloatArray
    """[unit] correlation of the curves of two halves; NaN where a half does not vary."""

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """[unit] the most informative first."""
        return np.argsort(-self.information, kind="stable").astype(np.int64)


def tune(
    activity: npt.NDArray[np.floating],
    level: npt.NDArray[np.int64],
    *,
    levels: int,
    min_occupancy: int,
    min_shift: int,
    shuffles: int,
    seed: int,
    counts: bool,
) -> Tuning | None:
    """Average activity by level, and compare with shuffles that keep how both vary in time.

    Parameters
    ----------
    activity
        [time, unit] spikes per sample, or fluorescence; or [trial, unit].
    level
        [time] in which of `levels` bins the variable is; -1 where it is not known.
    min_occupancy
        Fewest samples of a level; rarer levels are left out everywhere.
    min_shift
        Least circular shift, samples: beyond how long both remember. 0 permutes instead, as trials may be.
    shuffles, seed
        How many, and the generator's seed.
    counts
        Whether information is that of spikes (Skaggs et al. 1993, bits per spike: sum of ``p r log2 r``, with ``p``
        the occupancy of a level and ``r`` its rate relative to the mean); else the share of variance between levels,
        which holds for values that may be negative.

    Returns
    -------
    None where fewer than two levels, or too few samples, remain.

    Notes
    -----
    Information is biased upwards where spikes are few: so the mean of the shuffles is subtracted.
    """
    occupancy = np.bincount(level[level >= 0], minlength=levels)
    rare = occupancy < min_occupancy
    known = np.flatnonzero((level >= 0) & ~rare[level])
    if (~rare).sum() < 2 or (min_shift and len(known) < max(_FEWEST_SAMPLES, 3 * min_shift)):
        return None
    place, active = level[known], _Sparse.of(activity[known])
    samples = np.where(rare, 0, occupancy)
    measure = _bits_per_spike if counts else active.share_of_variance
    mean = active.means(place, samples)
    found = measure(mean, samples)
    nulls = [active.means(order, samples) for order in _shuffled(place, min_shift, shuffles=shuffles, seed=seed)]
    null_information = np.stack([measure(null, samples) for null in nulls])
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(np.stack(nulls), _BAND, axis=0)
    return Tuning(
        occupancy=occupancy,
        mean=mean,
        null_low=low,
        null_high=high,
        information=found - null_information.mean(axis=0),
        p=(1 + (null_information >= found - 1e-12).sum(axis=0)) / (1 + shuffles),
        reliability=_reliability(activity[known], place, levels=levels),
    )


def bins_of_angle(values: npt.NDArray[np.floating], *, bins: int) -> npt.NDArray[np.int64]:
    """Return the bin of each angle, from (cos, sin) columns [time, 2]; -1 where it is not known."""
    turn = np.arctan2(values[:, 1], values[:, 0]) / (2 * np.pi) % 1.0
    known = np.isfinite(turn)
    return np.where(known, (np.where(known, turn, 0.0) * bins).astype(np.int64) % bins, -1)


def bins_of_value(values: npt.NDArray[np.floating], *, bins: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the bin of each value [time], and the edges [bins + 1] from its 0.5th to its 99.5th percentile.

    What lies beyond, and what is not known, is in no bin: -1. A variable that does not vary is in none.
    """
    known = np.isfinite(values)
    low, high = np.percentile(values[known], [0.5, 99.5]) if known.any() else (0.0, 0.0)
    edges = np.linspace(low, high, bins + 1)
    if high <= low:
        return np.full(len(values), -1), edges
    inside = known & (values >= low) & (values <= high)
    place = np.searchsorted(edges, values, side="right") - 1
    return np.where(inside, np.minimum(place, bins - 1), -1), edges


def bins_of_place(
    values: npt.NDArray[np.floating], *, bins: int
) -> tuple[npt.NDArray[np.int64], tuple[FloatArray, FloatArray]]:
    """Return the cell of a grid of `bins` x `bins` of each position [time, 2], row by row of y, and the edges."""
    (x, x_edges), (y, y_edges) = (bins_of_value(values[:, axis], bins=bins) for axis in (0, 1))
    return np.where((x >= 0) & (y >= 0), y * bins + x, -1), (x_edges, y_edges)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Which condition each event is of."""

    of: npt.NDArray[np.int64]
    """[event] index into `names`; -1 where the table does not say."""
    names: tuple[str, ...]
    ordered: bool
    """Whether they are numbers, in their order; texts are in the order of the alphabet."""

    @property
    def in_blocks(self) -> bool:
        """Whether neighbours share a level far more often than chance gives: then slow drift passes a permutation."""
        known = self.of[self.of >= 0]
        if len(known) < 2:
            return False
        share = np.bincount(known) / len(known)
        return bool((known[1:] == known[:-1]).mean() > (share**2).sum() + _BLOCKED)


def levels_of(column: EventColumn) -> Levels | None:
    """Return the levels of a column of events, numbers or texts; None with fewer than 2 or more than 12."""
    ordered = not isinstance(column, tuple)
    if isinstance(column, tuple):
        texts = np.array(column, dtype=np.str_)
        known = np.array([text.strip().lower() not in _UNKNOWN for text in column], dtype=np.bool_)
        distinct, place = np.unique(texts[known], return_inverse=True)
        names = tuple(map(str, distinct))
    else:
        known = np.isfinite(column)
        numbers, place = np.unique(column[known], return_inverse=True)
        names = tuple(f"{value:g}" for value in numbers)
    if not 2 <= len(names) <= _MOST_LEVELS:
        return None
    of = np.full(len(known), -1, dtype=np.int64)
    of[known] = place
    return Levels(of=of, names=names, ordered=ordered)


def responses(
    activity: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    *,
    start: npt.NDArray[np.float64],
    stop: npt.NDArray[np.float64],
) -> FloatArray:
    """Average activity over each event.

    Parameters
    ----------
    activity
        [time, unit]
    valid
        [time] samples that are not are left out.
    start, stop
        [event] in samples, fractions allowed: a sample belongs to an event if it is in [start, stop). An event
        shorter than a sample has the first one after its start.

    Returns
    -------
    FloatArray
        [event, unit] in the unit of `activity`; NaN where more than half of an event is not valid, or not recorded.
    """
    found = np.full((len(start), activity.shape[1]), np.nan)
    for event in np.flatnonzero(np.isfinite(start) & np.isfinite(stop)):
        # An onset on a sample stays on it, whatever rounding its seconds have gone through.
        first = int(np.ceil(start[event] - _ROUNDING))
        last = max(first + 1, int(np.ceil(stop[event] - _ROUNDING)))
        if first < 0:
            continue
        good = valid[first:last]
        if 2 * good.sum() >= last - first:
            found[event] = activity[first:last][good].mean(axis=0)
    return found


@dataclass(frozen=True, kw_only=True)
class _Sparse:
    """What is not 0 in [time, unit]: of spikes little is, and a shuffle costs no more than there are spikes."""

    row: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    value: FloatArray
    units: int
    variance: FloatArray
    grand: FloatArray

    @classmethod
    def of(cls, activity: npt.NDArray[np.floating]) -> _Sparse:
        row, unit = np.nonzero(activity)
        wide = activity.astype(np.float64)
        return cls(
            row=row,
            unit=unit,
            value=wide[row, unit],
            units=activity.shape[1],
            variance=wide.var(axis=0),
            grand=wide.mean(axis=0),
        )

    def means(self, place: npt.NDArray[np.int64], samples: npt.NDArray[np.int64]) -> FloatArray:
        """Return the mean of each level, [level, unit]."""
        flat = np.bincount(
            place[self.row] * self.units + self.unit, weights=self.value, minlength=len(samples) * self.units
        )
        filled = np.where(samples > 0, samples, np.nan)
        return np.asarray(flat.reshape(-1, self.units) / filled[:, np.newaxis], dtype=np.float64)

    def share_of_variance(self, mean: FloatArray, samples: npt.NDArray[np.int64]) -> FloatArray:
        share = samples / samples.sum()
        between = np.nansum(share[:, np.newaxis] * (mean - self.grand) ** 2, axis=0)
        return np.asarray(np.divide(between, self.variance, out=np.zeros(self.units), where=self.variance > 0))


def _bits_per_spike(mean: FloatArray, samples: npt.NDArray[np.int64]) -> FloatArray:
    share = (samples / samples.sum())[:, np.newaxis]
    overall = np.nansum(share * mean, axis=0)
    relative = mean / np.where(overall > 0, overall, np.nan)
    filled = np.where(relative > 0, relative, 1.0)  # 0 log 0 is 0, and a silent unit says nothing
    return np.asarray((share * filled * np.log2(filled)).sum(axis=0), dtype=np.float64)


def _shuffled(
    place: npt.NDArray[np.int64], min_shift: int, *, shuffles: int, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for _ in range(shuffles):
        if min_shift:
            yield np.roll(place, int(generator.integers(min_shift, len(place) - min_shift + 1)))
        else:
            yield generator.permutation(place)


def _reliability(activity: npt.NDArray[np.floating], place: npt.NDArray[np.int64], *, levels: int) -> FloatArray:
    # Trials are too few for blocks: then every other one.
    block = max(1, len(place) // _HALF_BLOCKS) if len(place) >= _FEWEST_SAMPLES * _HALF_BLOCKS else 1
    half = np.arange(len(place)) // block % 2
    curves = []
    for side in (0, 1):
        rows = half == side
        samples = np.bincount(place[rows], minlength=levels)
        curves.append(_Sparse.of(activity[rows]).means(place[rows], samples))
    both = np.isfinite(curves[0]).all(axis=1) & np.isfinite(curves[1]).all(axis=1)
    if both.sum() < 3:
        return np.full(activity.shape[1], np.nan)
    first, second = (curve[both] - curve[both].mean(axis=0) for curve in curves)
    norm = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((first * second).sum(axis=0) / np.where(norm > 0, norm, np.nan), dtype=np.float64)
