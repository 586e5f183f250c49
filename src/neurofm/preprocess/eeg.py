"""EEG by one of three tiers: filtered and referenced, as a challenge has it, or cleaned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.eeg.crop import Crop
from neurofm.eeg.filters import Band, band_pass, filter_length_s, line_within_band, notch
from neurofm.eeg.quality import LIMITS, Exclude, noise_before, spectrum_after
from neurofm.eeg.resample import Rate
from neurofm.eeg.state import State, as_state
from neurofm.eeg.tiers import Clean, Tier, challenge, clean
from neurofm.eeg.usable import VOLT_TO_UV
from neurofm.preprocess._exclusion import exclusion_reason
from neurofm.preprocess.common import (
    Checked,
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

VERSION = "2"
# ICLabel runs on torch, which is not named: an image without it serves every tier but ICA's.
LIBRARIES = (
    "autoreject",
    "meegkit",
    "mne",
    "mne-icalabel",
    "numpy",
    "pyprep",
    "python-picard",
    "scikit-learn",
    "scipy",
)

_TO_UV = {"V": 1e6, "mV": 1e3, "uV": 1.0}


class ModalitySettings(Settings):
    """The section ``preprocess.eeg`` of params.yaml."""

    tier: Tier = Tier.FILTER
    """How much is done."""
    highpass_hz: float = Field(gt=0)
    lowpass_hz: float = Field(gt=0)
    rate_hz: float = Field(gt=0)
    """Recordings that are faster are resampled to this rate."""
    amplitude_limit_uv: float | None = Field(gt=0)
    """Samples at which a usable channel exceeds this after all steps are not valid, microvolts; None is no limit."""
    crop: Crop | None = None
    """Stretches between events; None takes the whole recording."""
    clean: Clean = Clean()
    """Steps of the tier ``clean``."""
    exclude: Exclude = Exclude()
    """Which recordings are kept out."""

    @model_validator(mode="after")
    def _ordered(self) -> ModalitySettings:
        if self.tier is Tier.FILTER:
            if not self.highpass_hz < self.lowpass_hz < self.rate_hz / 2:
                msg = (
                    "highpass_hz < lowpass_hz < rate_hz / 2 must hold: frequencies above half the rate would fold back"
                )
                raise ValueError(msg)
            if self.crop is not None:
                raise ValueError("the tier filter crops nothing; crop goes with challenge or clean")
        elif not self.highpass_hz < self.lowpass_hz <= self.rate_hz / 2:
            raise ValueError("highpass_hz < lowpass_hz <= rate_hz / 2 must hold")
        return self


@dataclass(frozen=True, kw_only=True)
class _Cleaned:
    """What a tier makes of a recording."""

    values: npt.NDArray[np.float64]
    """[time, channel] in uV; 0 in channels that are not usable."""
    valid: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]
    interpolated: npt.NDArray[np.bool_]
    """[channel]"""
    rate_hz: float
    start_s: float
    """After the first sample of the recording."""
    steps: tuple[Step, ...]
    quality: Mapping[str, JsonScalar]


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Clean one recording by the tier that the settings name.

    ``filter`` band-passes, subtracts the average of the usable channels and resamples; ``challenge`` and ``clean``
    are `neurofm.eeg.tiers.challenge` and `clean`. The filter is MNE's zero-phase FIR design (``firwin``, Hamming
    window; Widmann 2015, 10.1016/j.jneumeth.2014.08.002), in the tier ``filter`` after a notch where the power line
    lies within the band. It is applied to the whole recording with reflected ends, even to one shorter than the
    filter, whose quality then says ``shorter_than_filter``. The first and last ``edge_s`` seconds rest partly on
    reflected samples; they are left valid.

    Parameters
    ----------
    recording
        With `signal` [time, channel] in V, mV or uV; channel quality ``marked_bad`` and scalar
        ``line_freq_hz`` are heeded where they exist, and events where `settings.crop` names some.
    settings, common
        Tier, band, rate, amplitude limit and what is kept out; limits of missing data.

    Returns
    -------
    Recording
        `signal` [time, channel] float32 in uV. Channels that are flat, missing or bad are not usable and play no part
        in the average; the channel quality ``interpolated`` is 1 for bad ones that were filled from others, which
        keep their values and are not usable either. Quality: what the tier's steps measured,
        `neurofm.eeg.quality.noise_before` of the recording as it came, `spectrum_after` of the result, ``usable_s``;
        ``excluded_reason`` where a limit of `settings.exclude` is broken.

    Raises
    ------
    Unreadable
        If there is no signal, its unit is not a voltage, it is sampled too slowly for the band, or a step finds too
        little to work on.
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
    state = _filled_state(recording, checked)
    measured = noise_before(state)
    if settings.tier is Tier.FILTER:
        del state
        done = _filtered(checked, fs=fs, line_hz=recording.scalars.get("line_freq_hz"), settings=settings)
    else:
        del checked
        done = _by_tier(state, settings=settings, where=recording.clock.id)
    limit = np.inf if settings.amplitude_limit_uv is None else settings.amplitude_limit_uv
    beyond = (np.abs(done.values) > limit).any(axis=1)
    valid = done.valid & ~beyond
    filter_s = filter_length_s(fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    quality: dict[str, JsonScalar] = {
        "tier": settings.tier.value,
        "native_rate_hz": fs,
        "edge_s": filter_s / 2,
        "shorter_than_filter": len(native.values) / fs < filter_s,
        "beyond_amplitude_limit_fraction": float(beyond.mean()),
        "usable_s": float(valid.sum() / done.rate_hz),
        **measured,
        **done.quality,
        **_spectrum(done, recording, valid=valid, settings=settings),
    }
    spread = done.values[valid].std(axis=0) if valid.any() else np.zeros(done.values.shape[1])
    return finish(
        recording,
        signal=Signal(
            values=done.values.astype(np.float32),
            sampling_rate_hz=done.rate_hz,
            units="uV",
            start_s=native.start_s + done.start_s,
        ),
        valid=valid,
        usable=done.usable,
        steps=(
            *done.steps,
            Step(name="amplitude_limit", version=VERSION, params={"amplitude_limit_uv": settings.amplitude_limit_uv}),
        ),
        common=common,
        channel_quality={"sd_uv": spread, "interpolated": done.interpolated.astype(np.float64)},
        quality=quality,
        excluded_reason=exclusion_reason(quality, exclude=settings.exclude, limits=LIMITS),
    )


def average_reference(values: npt.NDArray[np.float64], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Subtract from each usable channel of [time, channel] the mean of the usable ones; the others become 0."""
    if not usable.any():
        return np.zeros_like(values)
    return np.where(usable, values - values[:, usable].mean(axis=1, keepdims=True), 0.0)


def _filtered(checked: Checked, *, fs: float, line_hz: object, settings: ModalitySettings) -> _Cleaned:
    """Do the tier ``filter``."""
    within = line_within_band(line_hz, settings.lowpass_hz)
    values = np.ascontiguousarray(checked.values.T)
    if within is not None:
        values = notch(values, fs=fs, frequencies_hz=(within,))
    values = band_pass(values, fs=fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz).T
    values = average_reference(values, checked.usable)
    values, valid, rate = resample(values, checked.valid, from_hz=fs, to_hz=settings.rate_hz)
    return _Cleaned(
        values=values,
        valid=valid,
        usable=checked.usable,
        interpolated=np.zeros_like(checked.usable),
        rate_hz=rate,
        start_s=0.0,
        steps=_steps(settings, fs=fs, line_hz=within),
        quality={},
    )


def _by_tier(state: State, *, settings: ModalitySettings, where: str) -> _Cleaned:
    """Do the tier ``challenge`` or ``clean``."""
    band = Band(highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    rate = Rate(rate_hz=settings.rate_hz)
    try:
        done = (
            challenge(state, band=band, rate=rate, stretches=settings.crop)
            if settings.tier is Tier.CHALLENGE
            else clean(state, settings=settings.clean, band=band, rate=rate, stretches=settings.crop)
        )
    except Unreadable as error:
        # Steps know no file names.
        raise Unreadable(f"{where}: {error}") from error
    names = done.raw.ch_names
    values = done.raw.get_data() * VOLT_TO_UV
    still_bad = set(done.raw.info["bads"]) | done.silent
    varies = np.array([name not in still_bad for name in names], dtype=np.bool_) & (np.ptp(values, axis=1) > 0)
    interpolated = np.array([name in done.bad for name in names], dtype=np.bool_) & varies
    values[~varies] = 0.0
    return _Cleaned(
        values=values.T,
        valid=~done.masked,
        # A weighted sum of its neighbours: to predict it from them would be no feat.
        usable=varies & ~interpolated,
        interpolated=interpolated,
        rate_hz=float(done.raw.info["sfreq"]),
        start_s=done.start_s,
        steps=done.steps,
        quality=done.quality,
    )


def _filled_state(recording: Recording, checked: Checked) -> State:
    """Hand the steps a recording without holes. A channel that is 0 throughout is silent; others unusable are bad."""
    names = np.array(recording.channels.id)
    native = native_signal(recording)
    zero = ~np.any(native.values, axis=0)
    filled = Signal(values=checked.values, sampling_rate_hz=native.sampling_rate_hz, units="uV", start_s=native.start_s)
    bad = ~checked.usable & ~zero
    quality = {**recording.channels.quality, "marked_bad": bad.astype(np.float64)}
    state = as_state(replace(recording, signal=filled, channels=replace(recording.channels, quality=quality)))
    return replace(state, masked=state.masked | ~checked.valid, bad=frozenset(names[bad].tolist()))


def _spectrum(
    done: _Cleaned, recording: Recording, *, valid: npt.NDArray[np.bool_], settings: ModalitySettings
) -> Mapping[str, JsonScalar]:
    kept = np.flatnonzero(done.usable)
    return spectrum_after(
        done.values[np.ix_(valid, kept)],
        rate_hz=done.rate_hz,
        names=tuple(recording.channels.id[i] for i in kept),
        position=np.asarray(recording.channels.position[kept], dtype=np.float64),
        band_hz=(settings.highpass_hz, settings.lowpass_hz),
    )


def _steps(settings: ModalitySettings, *, fs: float, line_hz: float | None) -> tuple[Step, ...]:
    band: dict[str, JsonScalar] = {
        "highpass_hz": settings.highpass_hz,
        "lowpass_hz": settings.lowpass_hz,
        "phase": "zero",
    }
    filter_s = filter_length_s(fs, highpass_hz=settings.highpass_hz, lowpass_hz=settings.lowpass_hz)
    steps = [
        Step(name="band_pass", version=VERSION, params=band, support_s=filter_s),
        Step(name="average_reference", version=VERSION, params={}),
        Step(
            name="resample",
            version=VERSION,
            params={"rate_hz": settings.rate_hz},
            support_s=resampling_support_s(from_hz=fs, to_hz=settings.rate_hz),
        ),
    ]
    if line_hz is not None:
        # MNE's notch has a transition band of 1 Hz: its filter is as long as that of a 1 Hz high-pass, 3.3 s.
        steps.insert(0, Step(name="notch", version=VERSION, params={"line_hz": line_hz}, support_s=3.3))
    return tuple(steps)
