"""Spikes that a laboratory keeps as counts per bin, without their times."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurofm.preprocess._exclusion import exclusion_reason
from neurofm.preprocess._units import LIMITS, Exclude, UnitLimit, filter_units
from neurofm.preprocess.common import Common, finish, native_signal, recorded_samples
from neurofm.recording import Recording, Signal, Step, Unreadable
from neurofm.recording.recording import JsonScalar

VERSION = "1"

_MAX_COUNT = 255
_WHOLE = 1e-6
"""How near a ratio of two bins must be to a whole number."""


def preprocess_counts(
    recording: Recording, *, bin_ms: int, limits: Mapping[str, UnitLimit], exclude: Exclude, common: Common
) -> Recording:
    """Add up counts to bins of `bin_ms`; counts in wider bins stay as they are, since nothing can divide them.

    Parameters
    ----------
    recording
        `signal` [time, unit] whole numbers of spikes per bin, in the unit ``count``.
    bin_ms
        Width wished for, milliseconds.
    limits
        Bounds of the units' quality columns.
    exclude
        Which recordings are kept out.

    Returns
    -------
    Recording
        `signal` [bin, unit] uint8. `quality` says the width that was reached (``bin_ms``). A bin counts as valid where
        all of it was recorded. Channel quality ``rate_hz``, over those bins; without exact times there are no
        intervals to look at. Silent units, and those that break a limit, are not usable; the latter's counts are 0.
        Bins in which a usable unit has more than 255 spikes are not valid.

    Raises
    ------
    Unreadable
        If the signal is none of counts, or narrower bins do not make whole bins of `bin_ms`.
    """
    native = native_signal(recording)
    where = recording.clock.id
    if native.units != "count" or not np.issubdtype(native.values.dtype, np.integer):
        raise Unreadable(f"{where}: spikes come as times, or as counts per bin; this signal is in {native.units!r}")
    native_ms = 1000 / native.sampling_rate_hz
    factor = max(1, round(bin_ms / native_ms))
    if native_ms < bin_ms and abs(factor * native_ms - bin_ms) > _WHOLE * bin_ms:
        raise Unreadable(
            f"{where}: bins of {native_ms:g} ms do not make whole bins of {bin_ms} ms (preprocess.spikes.bin_ms)"
        )
    whole = len(native.values) // factor
    if whole == 0:
        raise Unreadable(f"{where}: the counts are shorter than one bin of {bin_ms} ms")
    units = native.values.shape[1]
    added = native.values[: whole * factor].astype(np.int64).reshape(whole, factor, units).sum(axis=1)
    width_s = factor / native.sampling_rate_hz
    signal = Signal(
        values=np.minimum(added, _MAX_COUNT).astype(np.uint8),
        sampling_rate_hz=native.sampling_rate_hz / factor,
        units="count",
        start_s=native.start_s,
    )
    valid = recorded_samples(recording, signal, width_s=width_s)
    counted = added[valid]
    rate = counted.mean(axis=0) / width_s if len(counted) else np.zeros(units)
    filtered = filter_units(recording.channels, {"rate_hz": rate}, limits)
    usable = (rate > 0) & ~filtered.excluded
    signal.values[:, filtered.excluded] = 0
    overflowing = (added > _MAX_COUNT) & usable & valid[:, None]
    quality: dict[str, JsonScalar] = {
        "n_spikes": int(counted.sum()),
        "n_usable": int(usable.sum()),
        "mean_rate_hz": float(rate.mean()),
        "rate_hz_median": float(np.median(rate[usable])) if usable.any() else None,
        **filtered.quality,
        "overflow_bins": int(overflowing.sum()),
        "overflow_fraction": float(overflowing.any(axis=1).mean()),
        "bin_ms": width_s * 1000,
    }
    return finish(
        recording,
        signal=signal,
        valid=valid & ~overflowing.any(axis=1),
        usable=usable,
        steps=(Step(name="add_up_counts", version=VERSION, params={"bin_ms": bin_ms, "native_bin_ms": native_ms}),),
        common=common,
        channel_quality={"rate_hz": rate, "excluded": filtered.excluded.astype(np.float64)},
        quality=quality,
        target_offset_s=width_s / 2,
        excluded_reason=exclusion_reason(quality, exclude=exclude, limits=LIMITS),
    )
