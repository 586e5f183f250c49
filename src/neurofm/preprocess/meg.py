"""MEG: filtered and resampled as EEG is, without a reference; magnetometers and gradiometers each in their own unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.eeg.filters import band_pass, filter_length_s, line_within_band, notch
from neurofm.preprocess.common import (
    Common,
    check_channels,
    finish,
    native_signal,
    resample,
    resampling_support_s,
)
from neurofm.recording import Recording, Signal, Step, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("mne", "numpy", "scipy")

_GRADIOMETERS = {"T": False, "T/m": True}
"""Whether the channels of a recording in one unit are gradiometers; of both kinds the channel table says it."""
_BOTH = "T, T/m"
_TO_FT, _TO_FT_PER_CM = 1e15, 1e13
_NOTCH_S = 3.3
"""MNE's notch has a transition band of 1 Hz: its filter is as long as that of a 1 Hz high-pass."""


class ModalitySettings(Settings):
    """The section ``preprocess.meg`` of params.yaml."""

    highpass_hz: float = Field(default=1.0, gt=0)
    lowpass_hz: float = Field(default=40.0, gt=0)
    rate_hz: float = Field(default=100.0, gt=0)
    """Recordings that are faster are resampled to this rate."""
    magnetometer_limit_ft: float | None = Field(default=20000.0, gt=0)
    """Samples at which a usable magnetometer exceeds this are not valid, femtotesla; None is no limit."""
    gradiometer_limit_ft_per_cm: float | None = Field(default=5000.0, gt=0)
    """The same of gradiometers, femtotesla per centimetre."""

    @model_validator(mode="after")
    def _ordered(self) -> ModalitySettings:
        if not self.highpass_hz < self.lowpass_hz < self.rate_hz / 2:
            msg = "highpass_hz < lowpass_hz < rate_hz / 2 must hold: frequencies above half the rate would fold back"
            raise ValueError(msg)
        return self


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Band-pass and resample one recording.

    The filter is that of EEG (`neurofm.preprocess.eeg`, tier ``filter``): zero-phase over the whole recording, after a
    notch where the power line lies within the band. Nothing is projected out and no head movement corrected: what the
    laboratory's own cleaning (Maxwell filter, SSP) has not removed stays in.

    Parameters
    ----------
    recording
        With `signal` [time, channel] in T, T/m, or both, told apart by the channel quality ``gradiometer``; channel
        quality ``marked_bad`` and scalar ``line_freq_hz`` are heeded where they exist.
    settings, common
        Band, rate and limits.

    Returns
    -------
    Recording
        `signal` [time, channel] float32: magnetometers in fT, gradiometers in fT/cm, in which both are tens to
        thousands, so that neither is lost beside the other. Bad and flat channels are 0 and not usable.

    Raises
    ------
    Unreadable
        If there is no signal, its unit is not one of a magnetic field, or it is sampled too slowly for the band.
    """
    native = native_signal(recording)
    fs = native.sampling_rate_hz
    gradiometer = _gradiometers(recording, native)
    if fs <= 2 * settings.lowpass_hz:
        raise Unreadable(
            f"{recording.clock.id}: sampled at {fs:g} Hz, too slow for a band up to {settings.lowpass_hz:g} Hz"
        )
    checked = check_channels(
        native.values * np.where(gradiometer, _TO_FT_PER_CM, _TO_FT),
        max_nan_fraction=common.max_nan_fraction,
        bad=recording.channels.quality.get("marked_bad", np.zeros(len(recording.channels))) > 0,
    )
    line_hz = line_within_band(recording.scalars.get("line_freq_hz"), settings.lowpass_hz)
    values = np.ascontiguousarray(checked.values.T)
    if line_hz is not None:
        values = notch(values, fs=fs, frequencies_hz=(line_hz,))
    values = band_pass(values, fs=fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz).T
    values, valid, rate_hz = resample(values, checked.valid, from_hz=fs, to_hz=settings.rate_hz)
    limit = np.where(
        gradiometer,
        np.inf if settings.gradiometer_limit_ft_per_cm is None else settings.gradiometer_limit_ft_per_cm,
        np.inf if settings.magnetometer_limit_ft is None else settings.magnetometer_limit_ft,
    )
    beyond = (np.abs(values) > limit).any(axis=1)
    valid = valid & ~beyond
    filter_s = filter_length_s(fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    return finish(
        recording,
        signal=Signal(
            values=values.astype(np.float32),
            sampling_rate_hz=rate_hz,
            units=_unit(gradiometer),
            start_s=native.start_s,
        ),
        valid=valid,
        usable=checked.usable,
        steps=_steps(settings, fs=fs, line_hz=line_hz, filter_s=filter_s),
        common=common,
        channel_quality={"gradiometer": gradiometer.astype(np.float64)},
        quality={
            "native_rate_hz": fs,
            "gradiometers": int(gradiometer.sum()),
            "edge_s": filter_s / 2,
            "shorter_than_filter": len(native.values) / fs < filter_s,
            "beyond_amplitude_limit_fraction": float(beyond.mean()),
            "usable_s": float(valid.sum() / rate_hz),
        },
    )


def _gradiometers(recording: Recording, native: Signal) -> npt.NDArray[np.bool_]:
    """[channel] which are gradiometers."""
    if native.units == _BOTH and "gradiometer" in recording.channels.quality:
        return np.asarray(recording.channels.quality["gradiometer"] > 0, dtype=np.bool_)
    if native.units not in _GRADIOMETERS:
        raise Unreadable(f"{recording.clock.id}: MEG in {native.units!r}; expected one of T, T/m")
    return np.full(len(recording.channels), _GRADIOMETERS[native.units])


def _unit(gradiometer: npt.NDArray[np.bool_]) -> str:
    return ", ".join(unit for unit, there in (("fT", ~gradiometer), ("fT/cm", gradiometer)) if there.any())


def _steps(settings: ModalitySettings, *, fs: float, line_hz: float | None, filter_s: float) -> tuple[Step, ...]:
    band: dict[str, JsonScalar] = {
        "highpass_hz": settings.highpass_hz,
        "lowpass_hz": settings.lowpass_hz,
        "phase": "zero",
    }
    limits: dict[str, JsonScalar] = {
        "magnetometer_limit_ft": settings.magnetometer_limit_ft,
        "gradiometer_limit_ft_per_cm": settings.gradiometer_limit_ft_per_cm,
    }
    steps = (
        Step(name="band_pass", version=VERSION, params=band, support_s=filter_s),
        Step(
            name="resample",
            version=VERSION,
            params={"rate_hz": settings.rate_hz},
            support_s=resampling_support_s(from_hz=fs, to_hz=settings.rate_hz),
        ),
        Step(name="amplitude_limit", version=VERSION, params=limits),
    )
    if line_hz is None:
        return steps
    return (Step(name="notch", version=VERSION, params={"line_hz": line_hz}, support_s=_NOTCH_S), *steps)
