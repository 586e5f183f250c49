"""The tiers: which steps a recording goes through, in which order."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from pydantic import Field

from neurofm.eeg import (
    artefacts,
    bad_channels,
    components,
    crop,
    filters,
    interpolate,
    line,
    reference,
    reject,
    resample,
    timing,
)
from neurofm.eeg.artefacts import ArtefactSettings
from neurofm.eeg.bad_channels import BadChannelSettings
from neurofm.eeg.components import ComponentSettings
from neurofm.eeg.crop import Crop
from neurofm.eeg.filters import Band
from neurofm.eeg.interpolate import InterpolateSettings
from neurofm.eeg.line import Line
from neurofm.eeg.reference import ReferenceKind, ReferenceSettings
from neurofm.eeg.reject import RejectSettings
from neurofm.eeg.resample import Rate
from neurofm.eeg.state import State
from neurofm.settings import Settings


class Tier(StrEnum):
    """How much is done to a recording."""

    FILTER = "filter"
    """Band-pass, average reference, resampling."""
    CHALLENGE = "challenge"
    """Band-pass and resampling; channels and reference stay."""
    CLEAN = "clean"
    """All steps of `Clean` as well."""


class Artefacts(StrEnum):
    """What takes out artefacts in the tier ``clean``."""

    ASR = "asr"
    """Artifact subspace reconstruction: bursts, whatever they are."""
    ICA = "ica"
    """Independent components that ICLabel calls eye, muscle, heart, line or channel noise."""
    NONE = "none"


class Clean(Settings):
    """The steps of the tier ``clean`` before the last filter, in their order."""

    working_rate_hz: float = Field(default=250.0, ge=250)
    """Faster recordings are taken to this rate first: what finds muscle and labels components needs 250 Hz."""
    line: Line = Line()
    bad_channels: BadChannelSettings = BadChannelSettings(
        flat_uv=0.5,
        max_flat_fraction=0.25,
        max_clipped_fraction=0.01,
        deviation_z=5.0,
        high_frequency_z=5.0,
        min_correlation=0.4,
        max_uncorrelated_fraction=0.05,
        seed=1,
    )
    highpass_hz: float = Field(default=1.0, gt=0)
    """Slow drifts mislead ASR and ICA. Bad channels are found before: a clipped one shows its plateaus until here."""
    interpolate: InterpolateSettings = InterpolateSettings(min_good_channels=8)
    reference: ReferenceSettings = ReferenceSettings(kind=ReferenceKind.AVERAGE)
    artefacts: Artefacts = Artefacts.ASR
    asr: ArtefactSettings = ArtefactSettings(cutoff=20.0, min_clean_s=15.0)
    ica: ComponentSettings = ComponentSettings(
        max_components=30, max_iterations=200, tolerance=1e-5, min_probability=0.8, seed=1
    )
    reject: RejectSettings | None = RejectSettings(epoch_s=2.0, seed=1)
    """None masks no stretch."""


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
    done = state if stretches is None else crop.step(state, settings=stretches)
    done = resample.step(filters.step(done, settings=band), settings=rate)
    return _with_shift(state, done, band=band)


def clean(state: State, *, settings: Clean, band: Band, rate: Rate, stretches: Crop | None = None) -> State:
    """Remove the line, bad channels, drifts and artefacts, then band-pass, resample, and mask what is left of them.

    Parameters
    ----------
    state
        As the reader gave it.
    settings
        Of the steps between cropping and the last filter, and of the mask.
    band, rate, stretches
        As for `challenge`.

    Returns
    -------
    State
        With the quality that the steps measured, and ``time_shift_ms``.

    Raises
    ------
    Unreadable
        Where a step finds too little to work on: all channels bad, too little clean EEG for ASR.
    UserError
        If components are to be labelled where there is no torch.
    """
    if settings.artefacts is Artefacts.ICA:
        components.require_torch()
    done = state if stretches is None else crop.step(state, settings=stretches)
    done = resample.step(done, settings=Rate(rate_hz=settings.working_rate_hz))
    done = line.step(done, settings=settings.line)
    done = bad_channels.step(done, settings=settings.bad_channels)
    done = filters.step(done, settings=Band(highpass_hz=settings.highpass_hz))
    done = interpolate.step(done, settings=settings.interpolate)
    done = reference.step(done, settings=settings.reference)
    if settings.artefacts is Artefacts.ASR:
        done = artefacts.step(done, settings=settings.asr)
    elif settings.artefacts is Artefacts.ICA:
        done = components.step(done, settings=settings.ica)
    done = resample.step(filters.step(done, settings=band), settings=rate)
    if settings.reject is not None:
        done = reject.step(done, settings=settings.reject)
    lower = max(settings.highpass_hz, band.highpass_hz or 0.0)
    return _with_shift(state, done, band=band.model_copy(update={"highpass_hz": lower}))


def _with_shift(before: State, after: State, *, band: Band) -> State:
    upper = band.lowpass_hz if band.lowpass_hz is not None else float(after.raw.info["sfreq"]) / 2
    shift = timing.time_shift_s(before, after, band_hz=(band.highpass_hz or 0.0, upper))
    return replace(after, quality={**after.quality, "time_shift_ms": None if shift is None else 1000 * shift})
