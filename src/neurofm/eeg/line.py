"""The power line and its harmonics: taken out, and measured before and after."""

from __future__ import annotations

import mne
import numpy as np
from pydantic import Field

from neurofm.eeg.filters import notch
from neurofm.eeg.raws import with_values
from neurofm.eeg.state import State
from neurofm.eeg.usable import good_channels
from neurofm.recording import Step
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"

_SUPPORT_S = 3.3
"""MNE's notch has a transition band of 1 Hz: its filter is as long as that of a 1 Hz high-pass."""
_NEAR_HZ, _BESIDE_HZ = 0.5, (2.0, 5.0)
_WINDOW_S, _WINDOWS = 2.0, 60


class Line(Settings):
    """How the power line is taken out."""

    frequency_hz: float | None = Field(default=None, gt=0)
    """50 or 60; None takes what the recording says of itself, and does nothing where it says nothing."""
    harmonics: bool = True
    """Take out the harmonics too, as far as the sampling rate reaches."""


def step(state: State, *, settings: Line) -> State:
    """Notch out the power line where it is known.

    Returns
    -------
    State
        Quality ``line_freq_hz`` (None where it is not known), ``line_ratio_before`` and ``line_ratio_after``: see
        `line_ratio`.
    """
    line_hz = settings.frequency_hz if settings.frequency_hz is not None else state.raw.info["line_freq"]
    fs = float(state.raw.info["sfreq"])
    found = _frequencies(line_hz, fs=fs, harmonics=settings.harmonics)
    params: dict[str, JsonScalar] = {"frequencies_hz": ", ".join(f"{hz:g}" for hz in found)}
    if not found:
        return state.after(Step(name="notch", version=VERSION, params=params), quality={"line_freq_hz": None})
    cleaned = with_values(state.raw, notch(state.raw.get_data(), fs=fs, frequencies_hz=found))
    channels = good_channels(state)
    return state.after(
        Step(name="notch", version=VERSION, params=params, support_s=_SUPPORT_S),
        raw=cleaned,
        quality={
            "line_freq_hz": found[0],
            "line_ratio_before": line_ratio(state.raw, line_hz=found[0], channels=channels),
            "line_ratio_after": line_ratio(cleaned, line_hz=found[0], channels=channels),
        },
    )


def line_ratio(raw: mne.io.BaseRaw, *, line_hz: float, channels: list[str]) -> float | None:
    """Return how many times more power the line has than the frequencies beside it; the median of the channels.

    Power is that of windows of 2 s, of which 60 are taken, spread evenly over the recording: means over 0.5 Hz to
    either side of the line, and over 2 to 5 Hz to either side of it. 1 is no line noise, below 1 lies a notch. None
    where there is no channel, too short a recording, or no room for the line below half the rate.
    """
    fs = float(raw.info["sfreq"])
    window = round(_WINDOW_S * fs)
    if not channels or len(raw.times) < window or line_hz + _NEAR_HZ >= fs / 2:
        return None
    starts = np.unique(np.linspace(0, len(raw.times) - window, _WINDOWS).astype(np.int64))
    away = np.abs(np.fft.rfftfreq(window, 1 / fs) - line_hz)
    near, beside = away <= _NEAR_HZ, (away >= _BESIDE_HZ[0]) & (away <= _BESIDE_HZ[1])
    ratios = []
    for name in channels:
        (values,) = raw.get_data(picks=[name])
        parts = np.stack([values[start : start + window] for start in starts])
        parts -= parts.mean(axis=1, keepdims=True)
        power = (np.abs(np.fft.rfft(parts * np.hanning(window), axis=1)) ** 2).mean(axis=0)
        if power[beside].any():
            ratios.append(power[near].mean() / power[beside].mean())
    return float(np.median(ratios)) if ratios else None


def _frequencies(line_hz: float | None, *, fs: float, harmonics: bool) -> tuple[float, ...]:
    if line_hz is None:
        return ()
    # A notch needs room for its transition below half the rate.
    room = int((fs / 2 - 1) // line_hz)
    return tuple(line_hz * k for k in range(1, room + 1))[: None if harmonics else 1]
