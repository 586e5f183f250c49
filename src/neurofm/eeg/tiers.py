"""The tiers: which steps a recording goes through, in which order."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from neurofm.eeg.crop import Crop, crop
from neurofm.eeg.filters import Band, filter_band
from neurofm.eeg.line import Line, remove_line
from neurofm.eeg.resample import Rate, resample
from neurofm.eeg.state import State
from neurofm.eeg.timing import time_shift_s
from neurofm.settings import Settings


class Clean(Settings):
    """The steps of the tier ``clean`` before the last filter, in their order."""

    working_rate_hz: float = Field(default=250.0, ge=250)
    """Recordings that are faster are taken to this rate first; what finds muscle needs 250 Hz."""
    line: Line = Line()
    highpass_hz: float = Field(default=1.0, gt=0)
    """Slow drifts mislead what finds bad channels and artefacts, so they go before it."""


def challenge(state: State, *, band: Band, rate: Rate, stretches: Crop | None = None) -> State:
    """Crop, band-pass and resample, and leave channels and reference as they are.

    It follows what the EEG challenge 2025 states of its files (0.5 to 50 Hz, 100 Hz, 129 channels, reference Cz);
    it was not compared with a file of theirs.

    Parameters
    ----------
    state
        As the reader gave it.
    band, rate
        Of the result.
    stretches
        Where to crop; None keeps all.

    Returns
    -------
    State
        Quality ``time_shift_ms``: see `neurofm.eeg.timing.time_shift_s`.
    """
    done = state if stretches is None else crop(state, settings=stretches)
    done = resample(filter_band(done, settings=band), settings=rate)
    return _with_shift(state, done, band=band)


def clean(state: State, *, settings: Clean, band: Band, rate: Rate, stretches: Crop | None = None) -> State:
    """Remove the line, drifts and artefacts, then band-pass and resample.

    Parameters
    ----------
    state
        As the reader gave it.
    settings
        Of the steps between cropping and the last filter.
    band, rate, stretches
        As for `challenge`.

    Returns
    -------
    State
        With the quality that the steps measured, and ``time_shift_ms``.
    """
    done = state if stretches is None else crop(state, settings=stretches)
    done = resample(done, settings=Rate(rate_hz=settings.working_rate_hz))
    done = remove_line(done, settings=settings.line)
    done = filter_band(done, settings=Band(highpass_hz=settings.highpass_hz))
    done = resample(filter_band(done, settings=band), settings=rate)
    lower = max(settings.highpass_hz, band.highpass_hz or 0.0)
    return _with_shift(state, done, band=band.model_copy(update={"highpass_hz": lower}))


def _with_shift(before: State, after: State, *, band: Band) -> State:
    upper = band.lowpass_hz if band.lowpass_hz is not None else float(after.raw.info["sfreq"]) / 2
    shift = time_shift_s(before, after, band_hz=(band.highpass_hz or 0.0, upper))
    return replace(after, quality={**after.quality, "time_shift_ms": None if shift is None else 1000 * shift})
