"""Spectra and bad channels of EEG recordings, from their shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.report.carpets import shard_of
from neurofm.report.eeg_quality import named_bad
from neurofm.report.recordings import ReportRecording
from neurofm.shards import Shard, read_shard

Floats = npt.NDArray[np.float64]

WINDOW_S = 4.0
"""Of Welch's method: frequencies 0.25 Hz apart."""
_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the figures need of one shard."""

    recording: str
    used: bool
    frequency_hz: Floats
    """[frequency]; empty where the recording has no window of valid samples."""
    power: Floats
    """[frequency] median over the usable channels, uV^2/Hz."""
    bad: dict[str, bool]
    """Whether each channel was bad, filled from its neighbours or not."""
    position_m: dict[str, Floats]
    """[3] of each electrode that has one, in the head's frame (x to the right ear, y to the nose)."""


def seen(recordings: Sequence[ReportRecording], *, shards: Path, most: int) -> list[Seen]:
    """Read at most `most` of the recordings that have a shard, evenly through the list.

    Raises
    ------
    Unreadable
        For a damaged shard.
    """
    here = [one for one in recordings if shard_of(one.recording, shards=shards).is_file()]
    if len(here) > most:
        here = [here[i] for i in np.linspace(0, len(here) - 1, most).round().astype(int)]
    return [_seen(one, read_shard(shard_of(one.recording, shards=shards))) for one in here]


def _seen(one: ReportRecording, shard: Shard) -> Seen:
    channels = shard.recording.channels
    found = named_bad(one)
    # A reference electrode is silent, not bad; without a list there is no telling it from a flat one.
    bad = ~shard.usable if found is None else np.isin(channels.id, found)
    scale = _METRES.get(channels.position_unit)
    frequency, power = spectrum(shard)
    return Seen(
        recording=one.recording,
        used=not one.reason,
        frequency_hz=frequency,
        power=power,
        bad=dict(zip(channels.id, bad.tolist(), strict=True)),
        position_m={
            name: np.asarray(place, dtype=np.float64) * scale
            for name, place in zip(channels.id, channels.position, strict=True)
            if np.isfinite(place).all()
        }
        if scale is not None
        else {},
    )


def spectrum(shard: Shard) -> tuple[Floats, Floats]:
    """Return the power of the median usable channel by Welch's method, over the valid samples, joined.

    Returns
    -------
    frequency_hz, power
        [frequency], uV^2/Hz; both empty where fewer samples are valid than a window of 4 s has.
    """
    from scipy.signal import welch  # noqa: PLC0415  # a second, and only a dataset with EEG needs it

    values = shard.values()[np.ix_(shard.valid, shard.usable)].astype(np.float64)
    window = round(WINDOW_S * shard.sampling_rate_hz)
    if len(values) < window or not values.shape[1]:
        return np.zeros(0), np.zeros(0)
    frequency, power = welch(values, fs=shard.sampling_rate_hz, nperseg=window, axis=0)
    return np.asarray(frequency, dtype=np.float64), np.asarray(np.median(power, axis=1), dtype=np.float64)
