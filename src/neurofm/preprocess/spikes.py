"""Sorted spikes: counts per bin, beside the exact times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess._behaviour import with_behaviour
from neurofm.preprocess._counts import preprocess_counts
from neurofm.preprocess._exclusion import exclusion_reason
from neurofm.preprocess._spike_times import check_spikes
from neurofm.preprocess._units import (
    LIMITS,
    Exclude,
    UnitFlags,
    UnitLimit,
    filter_units,
    flag_units,
    measure_units,
    summary,
)
from neurofm.preprocess.common import Common, finish, recorded_samples
from neurofm.recording import Recording, Signal, Spikes, Step, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "2"
LIBRARIES = ("numpy", "scipy")

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_MAX_COUNT = 255
_BLOCK_CELLS = 65_536
"""Counts of 64 bits that are made at a time: half a megabyte stays in a core's cache, where adding to them is cheap."""


class ModalitySettings(Settings):
    """The section ``preprocess.spikes`` of params.yaml."""

    bin_ms: int = Field(gt=0)
    """Width of a bin, milliseconds."""
    isi_violation_ms: float = Field(gt=0)
    """Intervals between spikes of one unit shorter than this cannot come from one neuron (refractory period)."""
    presence_block_s: float = Field(gt=0)
    """Length of the blocks over which a unit's presence and drift are taken, seconds."""
    max_outside_fraction: float = Field(default=0.001, ge=0, le=1)
    """Up to this share of the spikes may lie outside of the observation; they are taken out and counted."""
    unit_limits: dict[str, UnitLimit] = Field(default_factory=dict)
    """Bounds of quality columns, the archive's or our own, by the column's name; a unit beyond one is not usable."""
    flags: UnitFlags = UnitFlags()
    """When a unit is marked in the table."""
    exclude: Exclude = Exclude()
    """Which recordings are kept out."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Count spikes in bins, measure the units, and set aside those that break a limit.

    Parameters
    ----------
    recording
        With `spikes`; the archive's unit metrics in its channel quality.
    settings, common
        Bin width; limits of units and of recordings.

    Returns
    -------
    Recording
        `signal` [bin, unit] uint8 counts over the whole bins of the observation; `spikes` as before, less those outside
        of the observation. Bins in which a count would pass 255 are not valid. Channel quality as
        `neurofm.preprocess._units.measure_units` has it, where the archive has no column of that name, and the flags
        ``absent``, ``drifting`` and ``excluded``. Silent and excluded units are not usable and their counts 0; their
        exact times stay.

    Raises
    ------
    Unreadable
        If spikes are impossible (`neurofm.preprocess._spike_times.check_spikes`), or the observation is shorter than
        a bin.
    """
    if recording.spikes is None and recording.signal is not None:
        counted = preprocess_counts(
            recording, bin_ms=settings.bin_ms, limits=settings.unit_limits, exclude=settings.exclude, common=common
        )
        return with_behaviour(counted)
    checked = check_spikes(recording, max_outside_fraction=settings.max_outside_fraction)
    spikes, n_units = checked.spikes, len(recording.channels)
    counts, overflow = bin_counts(spikes, n_units=n_units, bin_ms=settings.bin_ms)
    if len(counts) == 0:
        raise Unreadable(f"{recording.clock.id}: the observation is shorter than one bin of {settings.bin_ms} ms")
    measured = measure_units(
        spikes,
        n_units=n_units,
        isi_violation_ms=settings.isi_violation_ms,
        presence_block_s=settings.presence_block_s,
    )
    flagged = flag_units(measured, settings.flags)
    filtered = filter_units(recording.channels, measured, settings.unit_limits)
    usable = (counts.max(axis=0) > 0) & ~filtered.excluded
    counts[:, filtered.excluded] = 0
    overflowing = overflow[usable[overflow[:, 1]]]
    bin_s = settings.bin_ms / 1000
    signal = Signal(values=counts, sampling_rate_hz=1000 / settings.bin_ms, units="count", start_s=spikes.start_s)
    valid = recorded_samples(recording, signal, width_s=bin_s)
    valid[overflowing[:, 0]] = False
    quality: dict[str, JsonScalar] = {
        "n_spikes": len(spikes.time_s),
        "spikes_outside": checked.outside,
        "mean_rate_hz": float(measured["rate_hz"].mean()),
        **summary(measured, flagged, usable=usable),
        **filtered.quality,
        "overflow_bins": len(overflowing),
        "overflow_fraction": len(np.unique(overflowing[:, 0])) / len(counts),
        "overflow_units": ", ".join(recording.channels.id[unit] for unit in np.unique(overflowing[:, 1])),
    }
    archive = recording.channels.quality
    own = {name: column for name, column in measured.items() if name not in archive}
    done = finish(
        recording,
        signal=signal,
        valid=valid,
        usable=usable,
        steps=(_step(settings),),
        common=common,
        channel_quality={**own, **flagged, "excluded": filtered.excluded.astype(np.float64)},
        quality=quality,
        target_offset_s=bin_s / 2,
        excluded_reason=exclusion_reason(quality, exclude=settings.exclude, limits=LIMITS),
    )
    return with_behaviour(replace(done, spikes=spikes))


def bin_counts(spikes: Spikes, *, n_units: int, bin_ms: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Count spikes per bin and unit.

    Times are rounded to whole nanoseconds first: in floating point, a spike on the edge of a bin (many systems
    stamp spikes in tenths of a millisecond) would fall left or right of it by chance. Spikes after the last whole bin
    are not counted.

    Parameters
    ----------
    spikes
        In the order of time, so that each bin's spikes are neighbours.

    Returns
    -------
    counts
        [bin, unit] uint8.
    overflow
        [overflow, 2] bin and unit of counts that were more than 255, which is what they are now.
    """
    bin_ns = bin_ms * _NS_PER_MS
    n_bins = round((spikes.stop_s - spikes.start_s) * _NS_PER_S) // bin_ns
    time_ns = spikes.time_s - spikes.start_s
    time_ns *= _NS_PER_S
    np.rint(time_ns, out=time_ns)  # whole numbers stay exact in 64 bits of float for a hundred days
    first = np.searchsorted(time_ns, np.arange(n_bins + 1) * float(bin_ns))
    per_bin = np.diff(first)
    rows = max(1, _BLOCK_CELLS // n_units)
    row_start = np.arange(rows) * n_units
    counts = np.empty((n_bins, n_units), dtype=np.uint8)
    overflow = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, n_bins, rows):
        stop = min(start + rows, n_bins)
        cell = np.repeat(row_start[: stop - start], per_bin[start:stop])
        cell += spikes.channel[first[start] : first[stop]]
        block = np.bincount(cell, minlength=(stop - start) * n_units).reshape(stop - start, n_units)
        if block.max() > _MAX_COUNT:
            row, unit = np.nonzero(block > _MAX_COUNT)
            overflow.append(np.column_stack([row + start, unit]))
            block = np.minimum(block, _MAX_COUNT)
        counts[start:stop] = block
    return counts, np.concatenate(overflow)


def _step(settings: ModalitySettings) -> Step:
    """Return the step with every setting, those of tables as ``unit_limits.label.min``."""
    return Step(name="bin", version=VERSION, params=_flat(settings.model_dump(mode="json")))


def _flat(table: Mapping[str, Any]) -> dict[str, JsonScalar]:
    found: dict[str, JsonScalar] = {}
    for name, value in table.items():
        inner = _flat(value) if isinstance(value, Mapping) else None
        found |= {name: value} if inner is None else {f"{name}.{key}": one for key, one in inner.items()}
    return found
