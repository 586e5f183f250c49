"""EEG: filtered, referenced to the average, resampled."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.preprocess.common import Common, check_channels, finish, native_signal, resample, resampling_support_s
from neurofm.recording import Recording, Signal, Step, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("mne", "numpy", "scipy")

_TO_UV = {"V": 1e6, "mV": 1e3, "uV": 1.0}


class ModalitySettings(Settings):
    """The section ``preprocess.eeg`` of params.yaml."""

    highpass_hz: float = Field(gt=0)
    lowpass_hz: float = Field(gt=0)
    rate_hz: float = Field(gt=0)
    """Recordings that are faster are resampled to this rate."""
    amplitude_limit_uv: float = Field(gt=0)
    """Samples at which a usable channel exceeds this after filtering are not valid, microvolts."""

    @model_validator(mode="after")
    def _ordered(self) -> ModalitySettings:
        if not self.highpass_hz < self.lowpass_hz < self.rate_hz / 2:
            msg = "highpass_hz < lowpass_hz < rate_hz / 2 must hold: frequencies above half the rate would fold back"
            raise ValueError(msg)
        return self


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Band-pass, subtract the average of the usable channels, resample.

    The filter is MNE's zero-phase FIR design (``firwin``, Hamming window; Widmann 2015,
    10.1016/j.jneumeth.2014.08.002), after a notch where the power line lies within the band. It is applied
    to the whole recording with reflected ends, even to one shorter than the filter, whose quality then says
    ``shorter_than_filter``. The first and last ``edge_s`` seconds rest partly on reflected samples; they are
    left valid.

    Parameters
    ----------
    recording
        With `signal` [time, channel] in V, mV or uV; channel quality ``marked_bad`` and scalar
        ``line_freq_hz`` are heeded where they exist.
    settings, common
        Band, rate, amplitude limit; limits of missing data.

    Returns
    -------
    Recording
        `signal` [time, channel] float32 in uV. Channels that are flat, missing or marked bad are not
        usable and play no part in the average.

    Raises
    ------
    Unreadable
        If there is no signal, its unit is not a voltage, or it is sampled too slowly for the band.
    """
    native = native_signal(recording)
    scale = _TO_UV.get(native.units)
    if scale is None:
        raise Unreadable(f"{recording.clock.id}: EEG in {native.units!r}; expected one of {', '.join(_TO_UV)}")
    fs = native.sampling_rate_hz
    if fs <= 2 * settings.lowpass_hz:
        raise Unreadable(
            f"{recording.clock.id}: sampled at {fs:g} Hz, too slow for a band up to {settings.lowpass_hz:g} Hz"
        )
    marked_bad = recording.channels.quality.get("marked_bad", np.zeros(len(recording.channels))) > 0
    checked = check_channels(native.values * scale, max_nan_fraction=common.max_nan_fraction, bad=marked_bad)
    line_hz = line_within_band(recording.scalars.get("line_freq_hz"), settings.lowpass_hz)
    filter_s = filter_length_s(fs, settings)
    values = checked.values
    if line_hz is not None:
        values = notch(values, fs=fs, line_hz=line_hz)
    values = band_pass(values, fs=fs, settings=settings)
    values = average_reference(values, checked.usable)
    values, valid, rate = resample(values, checked.valid, from_hz=fs, to_hz=settings.rate_hz)
    beyond = (np.abs(values) > settings.amplitude_limit_uv).any(axis=1)
    return finish(
        recording,
        signal=Signal(values=values.astype(np.float32), sampling_rate_hz=rate, units="uV", start_s=native.start_s),
        valid=valid & ~beyond,
        usable=checked.usable,
        steps=_steps(settings, fs=fs, line_hz=line_hz, filter_s=filter_s),
        common=common,
        channel_quality={"sd_uv": values[valid].std(axis=0) if valid.any() else np.zeros(values.shape[1])},
        quality={
            "native_rate_hz": fs,
            "edge_s": filter_s / 2,
            "shorter_than_filter": len(native.values) / fs < filter_s,
            "beyond_amplitude_limit_fraction": float(beyond.mean()),
        },
    )


def filter_length_s(fs: float, settings: ModalitySettings) -> float:
    """Return the length of the band-pass filter in seconds."""
    taps = mne.filter.create_filter(
        None, fs, settings.highpass_hz, settings.lowpass_hz, fir_design="firwin", verbose="error"
    )
    return len(taps) / fs


def band_pass(values: npt.NDArray[np.float64], *, fs: float, settings: ModalitySettings) -> npt.NDArray[np.float64]:
    """Filter [time, channel] without shifting it in time."""
    with warnings.catch_warnings():
        # A recording shorter than the filter is announced in its quality.
        warnings.simplefilter("ignore")
        filtered = mne.filter.filter_data(
            np.ascontiguousarray(values.T),
            fs,
            settings.highpass_hz,
            settings.lowpass_hz,
            fir_design="firwin",
            phase="zero",
            pad="reflect_limited",
            verbose="error",
        )
    return np.asarray(filtered.T, dtype=np.float64)


def line_within_band(line_hz: object, lowpass_hz: float) -> float | None:
    """Return the power line's frequency if the band-pass lets it through."""
    return float(line_hz) if isinstance(line_hz, int | float) and line_hz <= lowpass_hz else None


def notch(values: npt.NDArray[np.float64], *, fs: float, line_hz: float) -> npt.NDArray[np.float64]:
    """Take the power line's frequency out of [time, channel]."""
    with warnings.catch_warnings():
        # As for the band-pass.
        warnings.simplefilter("ignore")
        cleaned = mne.filter.notch_filter(
            np.ascontiguousarray(values.T), fs, [line_hz], fir_design="firwin", phase="zero", verbose="error"
        )
    return np.asarray(cleaned.T, dtype=np.float64)


def average_reference(values: npt.NDArray[np.float64], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Subtract from each usable channel of [time, channel] the mean of the usable ones; the others become 0."""
    if not usable.any():
        return np.zeros_like(values)
    return np.where(usable, values - values[:, usable].mean(axis=1, keepdims=True), 0.0)


def _steps(settings: ModalitySettings, *, fs: float, line_hz: float | None, filter_s: float) -> tuple[Step, ...]:
    band: dict[str, JsonScalar] = {
        "highpass_hz": settings.highpass_hz,
        "lowpass_hz": settings.lowpass_hz,
        "phase": "zero",
    }
    steps = [
        Step(name="band_pass", version=VERSION, params=band, support_s=filter_s),
        Step(name="average_reference", version=VERSION, params={}),
        Step(
            name="resample",
            version=VERSION,
            params={"rate_hz": settings.rate_hz},
            support_s=resampling_support_s(from_hz=fs, to_hz=settings.rate_hz),
        ),
        Step(name="amplitude_limit", version=VERSION, params={"amplitude_limit_uv": settings.amplitude_limit_uv}),
    ]
    if line_hz is not None:
        # MNE's notch has a transition band of 1 Hz: its filter is as long as that of a 1 Hz high-pass, 3.3 s.
        steps.insert(0, Step(name="notch", version=VERSION, params={"line_hz": line_hz}, support_s=3.3))
    return tuple(steps)
