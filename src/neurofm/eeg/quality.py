"""What is known of an EEG recording's quality: line noise, blinks, muscle, the slope of its spectrum, its alpha."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.eeg.line import line_ratio
from neurofm.eeg.state import State
from neurofm.eeg.usable import VOLT_TO_UV, good_channels
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

_FRONTAL = ("fp1", "fpz", "fp2", "e8", "e9", "e14", "e15", "e17", "e21", "e22", "e25")
"""Above the eyes, by the names of the 10-20 system and of the HydroCel net of 128."""
_OCCIPITAL = ("o1", "oz", "o2", "po3", "poz", "po4", "e70", "e75", "e83")
_FROM_FRONT, _FROM_BACK = 0.85, 0.85
"""Where names say nothing: electrodes at least this share of the way from the middle to the one farthest in front, or
at the back."""
_BLINK_UV, _BLINK_HZ, _BLINK_S = 60.0, (1.0, 6.0), 0.2
"""Height of a blink between the frontal channels' mean and its own median, its band, and how far it reaches."""
_MUSCLE_UV, _MUSCLE_HZ, _MUSCLE_S, _MUSCLE_CHANNELS = 10.0, (30.0, 100.0), 1.0, 0.25
"""A second holds muscle if this share of the channels has more than this (root mean square) in this band."""
_SPECTRUM_S = 4.0
_SLOPE_HZ, _ALPHA_HZ, _AROUND_ALPHA_HZ = (2.0, 40.0), (7.0, 13.0), (6.0, 14.0)
_ALPHA_BAND_HZ, _WHOLE_HZ = (8.0, 13.0), (2.0, 40.0)

_Floats = npt.NDArray[np.float64]


class Exclude(Settings):
    """Which recordings are kept out. None is no limit, and what was not measured breaks none."""

    min_usable_s: float | None = Field(default=None, ge=0)
    """Seconds that are fit for use."""
    max_bad_channel_fraction: float | None = Field(default=0.25, ge=0, le=1)
    """Share of channels found bad."""
    max_rejected_fraction: float | None = Field(default=0.5, ge=0, le=1)
    """Share of the samples that the threshold of rejection masks."""
    max_line_ratio: float | None = Field(default=None, gt=0)
    """Power of the line over that beside it, before it is taken out."""
    max_blink_fraction: float | None = Field(default=None, ge=0, le=1)
    max_muscle_fraction: float | None = Field(default=None, ge=0, le=1)
    """No limit of its own: it is measured before cleaning, and the participant S003 of EEGBCI, whose alpha is a
    textbook's, has 0.77."""


LIMITS = (
    ("min_usable_s", "usable_s", "usable time", " s"),
    ("max_bad_channel_fraction", "bad_channel_fraction", "share of bad channels", ""),
    ("max_rejected_fraction", "rejected_fraction", "share of rejected samples", ""),
    ("max_line_ratio", "line_ratio", "line noise over its surroundings", ""),
    ("max_blink_fraction", "blink_fraction", "share of time with blinks", ""),
    ("max_muscle_fraction", "muscle_fraction", "share of time with muscle", ""),
)
"""Limit, the measure that it is for, the measure in words, and its unit."""


def noise_before(state: State) -> Mapping[str, JsonScalar]:
    """Measure what is to be removed, on the recording as its reader gave it.

    Returns
    -------
    Mapping
        ``line_ratio`` (`neurofm.eeg.line.line_ratio`), where the line's frequency is known; ``blink_fraction``, the
        share of time within 0.2 s of a peak of the frontal channels of at least 60 uV (1-6 Hz, below alpha), where
        there are such channels; ``muscle_fraction``, the share of seconds in which a quarter of the channels has more
        than 10 uV root mean square from 30 to 100 Hz, or as far as the rate reaches, less the line. None is not
        measured.
    """
    line_hz = state.raw.info["line_freq"]
    channels = good_channels(state)
    return {
        "line_ratio": None if line_hz is None else line_ratio(state.raw, line_hz=line_hz, channels=channels),
        "blink_fraction": _blink_fraction(state, channels),
        "muscle_fraction": _muscle_fraction(state, channels, line_hz=line_hz),
    }


def spectrum_after(
    values: _Floats, *, rate_hz: float, names: tuple[str, ...], position: _Floats, band_hz: tuple[float, float]
) -> Mapping[str, JsonScalar]:
    """Measure what a spectrum of EEG has: 1/f, and alpha above it.

    Parameters
    ----------
    values
        [time, channel] of usable channels and valid samples, any unit.
    rate_hz
        Sampling rate.
    names, position
        Of the channels; [channel, 3], NaN where unknown, with y to the front.
    band_hz
        The band that the filter let through.

    Returns
    -------
    Mapping
        ``spectral_slope``: exponent of the frequency, fitted to the median spectrum from 2 to 40 Hz without 6 to
        14 Hz. ``alpha_peak_hz`` and ``alpha_peak_db``: the highest peak from 7 to 13 Hz above that line, of the
        occipital channels where there are some; None where no frequency inside stands out.
        ``occipital_relative_alpha``: power from 8 to 13 Hz over that from 2 to 40 Hz. None is not measured.
    """
    from scipy.signal import welch  # noqa: PLC0415  # a second, and every command reads this module's settings

    window = round(_SPECTRUM_S * rate_hz)
    found: dict[str, JsonScalar] = dict.fromkeys(
        ("spectral_slope", "alpha_peak_hz", "alpha_peak_db", "occipital_relative_alpha")
    )
    if len(values) < window or not names:
        return found
    frequency, power = welch(values, fs=rate_hz, nperseg=window, axis=0)
    back = _occipital(names, position)
    first = max(_SLOPE_HZ[0], band_hz[0])
    last = min(_SLOPE_HZ[1], band_hz[1], 0.4 * rate_hz)
    around = (frequency >= _AROUND_ALPHA_HZ[0]) & (frequency <= _AROUND_ALPHA_HZ[1])
    fitted = (frequency >= first) & (frequency <= last) & ~around
    if fitted.sum() < 8:
        return found
    found["spectral_slope"] = float(_line_fit(frequency, np.median(power, axis=1), fitted)[0])
    own = np.median(power[:, back] if back.any() else power, axis=1)
    slope, offset = _line_fit(frequency, own, fitted)
    inside = np.flatnonzero((frequency >= _ALPHA_HZ[0]) & (frequency <= _ALPHA_HZ[1]))
    above = 10 * (np.log10(own[inside]) - slope * np.log10(frequency[inside]) - offset)
    best = int(np.argmax(above))
    if 0 < best < len(inside) - 1 and above[best] > 0:
        found["alpha_peak_hz"], found["alpha_peak_db"] = float(frequency[inside[best]]), float(above[best])
    if back.any():
        alpha = _between(frequency, _ALPHA_BAND_HZ)
        whole = _between(frequency, (first, last))
        share = power[:, back][alpha].sum(axis=0) / power[:, back][whole].sum(axis=0)
        found["occipital_relative_alpha"] = float(share.mean())
    return found


def _line_fit(frequency: _Floats, power: _Floats, at: npt.NDArray[np.bool_]) -> tuple[float, float]:
    slope, offset = np.polyfit(np.log10(frequency[at]), np.log10(np.maximum(power[at], 1e-300)), 1)
    return float(slope), float(offset)


def _between(frequency: _Floats, band_hz: tuple[float, float]) -> npt.NDArray[np.bool_]:
    return np.asarray((frequency >= band_hz[0]) & (frequency <= band_hz[1]), dtype=np.bool_)


def _named(names: tuple[str, ...], known: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    # "Fp1.", "EEG Fp1" and "Fp1-Ref" are Fp1.
    plain = [name.lower().removeprefix("eeg ").split("-")[0].strip(" .") for name in names]
    return np.array([name in known for name in plain], dtype=np.bool_)


def _occipital(names: tuple[str, ...], position: _Floats) -> npt.NDArray[np.bool_]:
    found = _named(names, _OCCIPITAL)
    if found.any():
        return found
    back = -position[:, 1]
    known = np.isfinite(back)
    # Electrodes over the back of the head exist only where some lie behind the middle.
    return known & (back > _FROM_BACK * back[known].max()) if known.any() and back[known].max() > 0 else found


def _frontal(names: tuple[str, ...], position: _Floats) -> npt.NDArray[np.bool_]:
    found = _named(names, _FRONTAL)
    if found.any():
        return found
    front = position[:, 1]
    known = np.isfinite(front)
    return known & (front > _FROM_FRONT * front[known].max()) if known.any() and front[known].max() > 0 else found


def _blink_fraction(state: State, channels: list[str]) -> float | None:
    from scipy.signal import butter, find_peaks, sosfiltfilt  # noqa: PLC0415

    fs = float(state.raw.info["sfreq"])
    places = {channel["ch_name"]: channel["loc"][:3] for channel in state.raw.info["chs"]}
    position = np.array([places[name] for name in channels], dtype=np.float64).reshape(-1, 3)
    frontal = [name for name, is_so in zip(channels, _frontal(tuple(channels), position), strict=True) if is_so]
    if not frontal or len(state.raw.times) < fs or fs <= 2 * _BLINK_HZ[1]:
        return None
    mean = state.raw.get_data(picks=frontal).mean(axis=0) * VOLT_TO_UV
    slow = sosfiltfilt(butter(2, _BLINK_HZ, "bandpass", fs=fs, output="sos"), mean)
    peaks, _ = find_peaks(slow - np.median(slow), height=_BLINK_UV, distance=max(1, round(_BLINK_S * fs)))
    held = np.zeros(len(slow), dtype=np.bool_)
    for peak in peaks:
        held[max(0, peak - round(_BLINK_S * fs)) : peak + round(_BLINK_S * fs) + 1] = True
    fit = ~state.masked
    return float(held[fit].mean()) if fit.any() else None


def _muscle_fraction(state: State, channels: list[str], *, line_hz: float | None) -> float | None:
    fs = float(state.raw.info["sfreq"])
    samples = round(_MUSCLE_S * fs)
    windows = len(state.raw.times) // samples
    upper = min(_MUSCLE_HZ[1], fs / 2)
    if not channels or windows == 0 or upper <= 1.5 * _MUSCLE_HZ[0]:
        return None
    frequency = np.asarray(np.fft.rfftfreq(samples, 1 / fs), dtype=np.float64)
    counted = _between(frequency, (_MUSCLE_HZ[0], upper))
    if line_hz is not None:
        # Two bins to either side: what a Hann window spreads.
        nearest = np.abs(frequency - line_hz * np.maximum(1, np.round(frequency / line_hz)))
        counted &= nearest > 2.5 / _MUSCLE_S
    hann = np.hanning(samples)
    loud = np.zeros(windows)
    for name in channels:
        parts = state.raw.get_data(picks=[name])[0, : windows * samples].reshape(windows, samples) * VOLT_TO_UV
        spectrum = np.abs(np.fft.rfft((parts - parts.mean(axis=1, keepdims=True)) * hann, axis=1)[:, counted]) ** 2
        loud += np.sqrt(2 * spectrum.sum(axis=1) / (samples * (hann**2).sum())) > _MUSCLE_UV
    fit = ~state.masked[: windows * samples].reshape(windows, samples).all(axis=1)
    return float((loud[fit] > _MUSCLE_CHANNELS * len(channels)).mean()) if fit.any() else None
