"""Units of sorted spikes: what is measured of each, which limits it must keep, and which recordings are kept out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.recording import Channels, Spikes
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_FEWEST_BLOCKS = 5
"""With four, a rank correlation of 1 or -1 comes by chance once in twelve times."""

_IBL_COLUMNS = frozenset({"label", "noise_cutoff", "slidingRP_viol"})
"""By any of these a table of metrics is the International Brain Laboratory's (``brainbox.metrics.single_units``)."""
_ALLEN_LIMITS = frozenset({"presence_ratio", "isi_violations", "amplitude_cutoff"})
"""Limits of the Allen Institute's measures. IBL's presence ratio is of blocks of ten seconds, and no criterion of its
own, which are those of ``label``."""

_Floats = npt.NDArray[np.float64]


class UnitLimit(Settings):
    """Bounds of one quality column; at least one of the two."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a limit needs `min`, `max` or both")
        return self


class UnitFlags(Settings):
    """When a unit is flagged in the table; flags alone leave nothing out."""

    min_presence_fraction: float = Field(default=0.9, ge=0, le=1)
    """Units that fire in fewer of the blocks are ``absent``."""
    max_drift: float = Field(default=0.8, ge=0, le=1)
    """Units whose rate's rank correlation with time is beyond this, up or down, are ``drifting``."""


class Exclude(Settings):
    """Which recordings of spikes are kept out. ``null`` switches a limit off."""

    min_units: int | None = Field(default=2, ge=1)
    """Usable units. To predict a hidden unit from the others takes two."""
    min_median_rate_hz: float | None = Field(default=None, ge=0)
    """Median rate of the usable units."""
    max_overflow_fraction: float | None = Field(default=0.01, ge=0, le=1)
    """Share of bins in which some unit has more spikes than a count can hold (255)."""


LIMITS = (
    ("min_units", "n_usable", "usable units", ""),
    ("min_median_rate_hz", "rate_hz_median", "median rate of the units", " Hz"),
    ("max_overflow_fraction", "overflow_fraction", "share of bins with more than 255 spikes", ""),
)
"""Limit, the measure that it is for, the measure in words, and its unit."""


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """Which units broke a limit, and the account of it."""

    excluded: npt.NDArray[np.bool_]
    """[unit]"""
    quality: Mapping[str, JsonScalar]


def measure_units(
    spikes: Spikes, *, n_units: int, isi_violation_ms: float, presence_block_s: float
) -> dict[str, _Floats]:
    """Measure every unit from its exact spike times.

    Parameters
    ----------
    spikes
        In the order of time, inside the observation.
    isi_violation_ms
        The refractory period.
    presence_block_s
        Length of a block; the observation is cut into equal blocks of at least this length.

    Returns
    -------
    dict
        [unit] each:

        ``rate_hz``: spikes per second of observation.
        ``isi_violation_fraction``: share of a unit's intervals shorter than the refractory period (Hill 2011,
        10.1523/JNEUROSCI.0971-11.2011, counts these).
        ``contamination``: share of a unit's spikes that are other neurons', if those fire independently of it
        (Llobet 2022, 10.1101/2022.02.08.479192): ``1 - sqrt(1 - v T / (N^2 t))`` of v pairs of spikes within the
        refractory period t, N spikes and T seconds; 1 where there are more pairs than independence gives.
        ``presence_fraction``: share of blocks in which the unit fired (as in the Allen Institute's unit metrics).
        ``drift``: Spearman's rank correlation of the rate in a block with time; NaN with fewer than five blocks, or
        a rate that never changes.
    """
    # By unit, each unit's spikes still in the order of time: everything below is one pass over this order.
    order = np.argsort(spikes.channel.astype(_narrowest(n_units)), kind="stable")
    unit, elapsed_s = spikes.channel[order], spikes.time_s[order] - spikes.start_s
    number = np.bincount(unit, minlength=n_units)
    duration_s = spikes.stop_s - spikes.start_s
    consecutive, pairs = _close_pairs(unit, elapsed_s, within_ns=isi_violation_ms * _NS_PER_MS, n_units=n_units)
    n_blocks = max(1, int(duration_s // presence_block_s))
    block = np.minimum((elapsed_s * (n_blocks / duration_s)).astype(np.int64), n_blocks - 1)
    in_block = np.bincount(unit * n_blocks + block, minlength=n_units * n_blocks).reshape(n_units, n_blocks)
    expected = np.maximum(number.astype(np.float64), 1) ** 2 * isi_violation_ms / 1000
    return {
        "rate_hz": number / duration_s,
        "isi_violation_fraction": consecutive / np.maximum(number - 1, 1),
        "contamination": 1 - np.sqrt(np.maximum(1 - pairs * duration_s / expected, 0)),
        "presence_fraction": (in_block > 0).mean(axis=1),
        "drift": _rank_correlation_with_time(in_block),
    }


def flag_units(measured: Mapping[str, _Floats], flags: UnitFlags) -> dict[str, _Floats]:
    """Return [unit] ``absent`` and ``drifting``, 1 or 0."""
    return {
        "absent": (measured["presence_fraction"] < flags.min_presence_fraction).astype(np.float64),
        "drifting": (np.abs(measured["drift"]) > flags.max_drift).astype(np.float64),
    }


def filter_units(channels: Channels, measured: Mapping[str, _Floats], limits: Mapping[str, UnitLimit]) -> Filtered:
    """Find the units that break a limit.

    A limit is applied to the archive's column of its name, or else to the one measured here; where there is neither,
    or a unit has no number in it (NaN), it excludes nobody. Each archive's units are judged by its own limits: the
    Allen Institute's do not hold for a table of IBL's.

    Returns
    -------
    Filtered
        Its quality has ``units_excluded``; ``unit_exclusions``, for each limit that excludes somebody how many and
        with which values; and ``unit_limits_not_measured``, the limits that the recording has no column for, or only
        another archive's of the same name.
    """
    columns = {**measured, **channels.quality}
    foreign = frozenset() if _IBL_COLUMNS.isdisjoint(channels.quality) else _ALLEN_LIMITS
    excluded = np.zeros(len(channels), dtype=np.bool_)
    accounts, missing = [], []
    for name, limit in limits.items():
        if name not in columns:
            missing.append(name)
            continue
        if name in foreign:
            missing.append(f"{name} (IBL's is another measure)")
            continue
        column = np.asarray(columns[name], dtype=np.float64)
        for words, beyond in _beyond(column, limit):
            values = column[beyond]
            excluded |= beyond
            if len(values):
                accounts.append(f"{len(values)} by {name} {words} ({values.min():.4g} to {values.max():.4g})")
    return Filtered(
        excluded=excluded,
        quality={
            "units_excluded": int(excluded.sum()),
            "unit_exclusions": "; ".join(accounts),
            "unit_limits_not_measured": ", ".join(missing),
        },
    )


def summary(
    measured: Mapping[str, _Floats], flagged: Mapping[str, _Floats], *, usable: npt.NDArray[np.bool_]
) -> dict[str, JsonScalar]:
    """Return what a recording's units are like; medians and percentiles are over those kept, None where none is."""
    rate = measured["rate_hz"]
    found: dict[str, JsonScalar] = {
        "n_usable": int(usable.sum()),
        "units_silent": int((rate == 0).sum()),
        "units_absent": int(flagged["absent"].sum()),
        "units_drifting": int(flagged["drifting"].sum()),
    }
    for name, percentile in (("rate_hz_p5", 5), ("rate_hz_median", 50), ("rate_hz_p95", 95)):
        found[name] = float(np.percentile(rate[usable], percentile)) if usable.any() else None
    for name in ("isi_violation_fraction", "contamination", "presence_fraction"):
        found[f"{name}_median"] = float(np.median(measured[name][usable])) if usable.any() else None
    return found


def _beyond(column: _Floats, limit: UnitLimit) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Return for each bound its words and [unit] who is beyond it; NaN is beyond none."""
    below = [] if limit.min is None else [(f"less than {limit.min:g}", column < limit.min)]
    above = [] if limit.max is None else [(f"more than {limit.max:g}", column > limit.max)]
    return below + above


def _narrowest(n_units: int) -> npt.DTypeLike:
    """Return the type of 16 bits where it holds every row: NumPy sorts that by radix, ten times faster than 64."""
    return np.uint16 if n_units <= np.iinfo(np.uint16).max else np.int64


def _close_pairs(
    unit: npt.NDArray[np.int64], elapsed_s: _Floats, *, within_ns: float, n_units: int
) -> tuple[_Floats, _Floats]:
    """Count, per unit, intervals shorter than `within_ns`, and pairs of spikes, neighbours or not, that near.

    Times are compared in whole nanoseconds: an interval of exactly the refractory period would fall to either side by
    rounding.
    """
    time_ns = np.rint(elapsed_s * _NS_PER_S)
    first = np.arange(len(unit))
    consecutive, pairs = np.zeros(n_units), np.zeros(n_units)
    lag = 1
    while len(first):
        first = first[first + lag < len(unit)]
        second = first + lag
        # A spike whose neighbour at this lag is too far has none nearer at the next.
        first = first[(unit[second] == unit[first]) & (time_ns[second] - time_ns[first] < within_ns)]
        found = np.bincount(unit[first], minlength=n_units).astype(np.float64)
        pairs += found
        if lag == 1:
            consecutive = found
        lag += 1
    return consecutive, pairs


def _rank_correlation_with_time(in_block: npt.NDArray[np.int64]) -> _Floats:
    """Return [unit] Spearman's correlation of counts [unit, block] with the block's number."""
    n_units, n_blocks = in_block.shape
    if n_blocks < _FEWEST_BLOCKS:
        return np.full(n_units, np.nan)
    from scipy.stats import rankdata  # noqa: PLC0415  # half a second, and every command reads these settings

    ranks = rankdata(in_block, axis=1) - (n_blocks + 1) / 2
    time = np.arange(n_blocks) - (n_blocks - 1) / 2
    spread = np.sqrt((ranks**2).sum(axis=1) * (time**2).sum())
    return np.where(spread > 0, ranks @ time / np.where(spread > 0, spread, 1), np.nan)
