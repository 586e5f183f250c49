"""Sorted spikes: counts per bin, beside the exact times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess._counts import preprocess_counts
from neurofm.preprocess.common import Common, finish
from neurofm.recording import Recording, Signal, Spikes, Step, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy",)

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_MAX_COUNT = 255


class ModalitySettings(Settings):
    """The section ``preprocess.spikes`` of params.yaml."""

    bin_ms: int = Field(gt=0)
    """Width of a bin, milliseconds."""
    isi_violation_ms: float = Field(gt=0)
    """Intervals between spikes of one unit shorter than this cannot come from one neuron (refractory period)."""
    presence_block_s: float = Field(gt=0)
    """Length of the blocks over which a unit's presence is counted, seconds."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Count spikes in bins and measure the units' quality.

    Parameters
    ----------
    recording
        With `spikes`.
    settings, common
        Bin width; limits of quality measures.

    Returns
    -------
    Recording
        `signal` [bin, unit] uint8 counts over the whole bins of the observation; `spikes` as before. Channel
        quality: ``rate_hz``; ``isi_violation_fraction`` (Hill 2011, 10.1523/JNEUROSCI.0971-11.2011, counts these
        intervals); ``presence_ratio``, the fraction of blocks in which the unit fired (as in the Allen Institute's
        and IBL's unit metrics). Silent units are not usable.

    Raises
    ------
    Unreadable
        If there are no spikes, or the observation is shorter than a bin.
    """
    spikes = recording.spikes
    if spikes is None and recording.signal is not None:
        return preprocess_counts(recording, bin_ms=settings.bin_ms, common=common)
    if spikes is None:
        raise Unreadable(f"{recording.clock.id}: the reader gave no spikes")
    n_units = len(recording.channels)
    counts, overflow_bins = bin_counts(spikes, n_units=n_units, bin_ms=settings.bin_ms)
    if len(counts) == 0:
        raise Unreadable(f"{recording.clock.id}: the observation is shorter than one bin of {settings.bin_ms} ms")
    quality = _unit_quality(spikes, n_units=n_units, settings=settings)
    bin_s = settings.bin_ms / 1000
    return finish(
        recording,
        signal=Signal(values=counts, sampling_rate_hz=1000 / settings.bin_ms, units="count", start_s=spikes.start_s),
        valid=np.ones(len(counts), dtype=bool),
        usable=counts.max(axis=0) > 0,
        steps=(Step(name="bin", version=VERSION, params=settings.model_dump()),),
        common=common,
        channel_quality=quality,
        quality={
            "n_spikes": len(spikes.time_s),
            "mean_rate_hz": float(quality["rate_hz"].mean()),
            "overflow_bins": overflow_bins,
        },
        target_offset_s=bin_s / 2,
    )


def bin_counts(spikes: Spikes, *, n_units: int, bin_ms: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Count spikes per bin and unit.

    Times are rounded to whole nanoseconds first: in floating point, a spike on the edge of a bin (many systems
    stamp spikes in tenths of a millisecond) would fall left or right of it by chance. Spikes after the last whole bin
    are not counted.

    Returns
    -------
    counts
        [bin, unit] uint8.
    overflow_bins
        How many bins held more than 255 spikes, which is what they hold now.
    """
    bin_ns = bin_ms * _NS_PER_MS
    n_bins = round((spikes.stop_s - spikes.start_s) * _NS_PER_S) // bin_ns
    index = np.rint((spikes.time_s - spikes.start_s) * _NS_PER_S).astype(np.int64) // bin_ns
    inside = (index >= 0) & (index < n_bins)
    flat = np.bincount(index[inside] * n_units + spikes.channel[inside], minlength=n_bins * n_units)
    counts = flat.reshape(n_bins, n_units)
    return np.minimum(counts, _MAX_COUNT).astype(np.uint8), int((counts > _MAX_COUNT).sum())


def _unit_quality(spikes: Spikes, *, n_units: int, settings: ModalitySettings) -> dict[str, npt.NDArray[np.float64]]:
    duration_s = spikes.stop_s - spikes.start_s
    n_blocks = max(1, int(duration_s // settings.presence_block_s))
    rate, violations, presence = np.zeros(n_units), np.zeros(n_units), np.zeros(n_units)
    for unit in range(n_units):
        train = spikes.time_s[spikes.channel == unit]
        rate[unit] = len(train) / duration_s
        intervals = np.diff(train)
        if len(intervals) > 0:
            violations[unit] = np.mean(intervals < settings.isi_violation_ms / 1000)
        blocks = np.histogram(train, bins=n_blocks, range=(spikes.start_s, spikes.stop_s))[0]
        presence[unit] = np.mean(blocks > 0)
    return {"rate_hz": rate, "isi_violation_fraction": violations, "presence_ratio": presence}
