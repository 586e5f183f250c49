"""MNE's zero-phase FIR filters: band-pass, high-pass and notch, with reflected ends."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.eeg.raws import with_values
from neurofm.eeg.state import State
from neurofm.recording import Step
from neurofm.settings import Settings

VERSION = "1"


class Band(Settings):
    """What a filter lets through."""

    highpass_hz: float | None = Field(default=None, gt=0)
    lowpass_hz: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.highpass_hz is not None and self.lowpass_hz is not None and not self.highpass_hz < self.lowpass_hz:
            raise ValueError("highpass_hz < lowpass_hz must hold")
        return self


def step(state: State, *, settings: Band) -> State:
    """Filter all channels without shifting them in time.

    The design is MNE's ``firwin`` with a Hamming window and automatic transition bands (Widmann 2015,
    10.1016/j.jneumeth.2014.08.002). It runs over the whole recording with reflected ends, even over one shorter
    than the filter.

    Parameters
    ----------
    state
        Sampled faster than twice the upper edge.
    settings
        The edges; None is no edge.

    Returns
    -------
    State
        Its step's `support_s` is the filter's length. No sample is masked: how far the reflected ends reach is
        half of that.
    """
    fs = float(state.raw.info["sfreq"])
    values = band_pass(state.raw.get_data(), fs=fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    length_s = filter_length_s(fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    done = Step(
        name="band_pass" if settings.lowpass_hz is not None else "high_pass",
        version=VERSION,
        params={**settings.model_dump(exclude_none=True), "phase": "zero"},
        support_s=length_s,
    )
    return state.after(done, raw=with_values(state.raw, values))


def filter_length_s(fs: float, *, highpass_hz: float | None, lowpass_hz: float | None) -> float:
    """Return the length of the band-pass filter in seconds."""
    taps = mne.filter.create_filter(None, fs, highpass_hz, lowpass_hz, fir_design="firwin", verbose="error")
    return len(taps) / fs


def band_pass(
    values: npt.NDArray[np.float64], *, fs: float, highpass_hz: float | None, lowpass_hz: float | None
) -> npt.NDArray[np.float64]:
    """Filter [channel, time] without shifting it in time; contiguous values are overwritten."""
    with warnings.catch_warnings():
        # A recording shorter than the filter is announced in its quality.
        warnings.simplefilter("ignore")
        filtered = mne.filter.filter_data(
            np.ascontiguousarray(values),
            fs,
            highpass_hz,
            lowpass_hz,
            fir_design="firwin",
            phase="zero",
            pad="reflect_limited",
            copy=False,
            verbose="error",
        )
    return np.asarray(filtered, dtype=np.float64)


def notch(values: npt.NDArray[np.float64], *, fs: float, frequencies_hz: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Take single frequencies out of [channel, time]; contiguous values are overwritten."""
    with warnings.catch_warnings():
        # As for the band-pass.
        warnings.simplefilter("ignore")
        cleaned = mne.filter.notch_filter(
            np.ascontiguousarray(values),
            fs,
            list(frequencies_hz),
            fir_design="firwin",
            phase="zero",
            copy=False,
            verbose="error",
        )
    return np.asarray(cleaned, dtype=np.float64)


def line_within_band(line_hz: object, lowpass_hz: float) -> float | None:
    """Return the power line's frequency if a band up to `lowpass_hz` lets it through."""
    return float(line_hz) if isinstance(line_hz, int | float) and line_hz <= lowpass_hz else None
