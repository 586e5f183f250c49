"""Finds channels that carry no EEG: flat, clipped, without numbers, or unlike all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mne
import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.eeg.state import State
from neurofm.eeg.usable import VOLT_TO_UV, fit_part, good_channels
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

if TYPE_CHECKING:
    import pyprep

_WINDOW_S = 1.0
"""Length of the windows in which a channel may be flat; PREP's length for correlation."""
_FEWEST_TO_COMPARE = 4
"""With fewer channels there is no spread among them to be an outlier of."""
_AT_ONCE = 16
"""Channels that are filtered side by side."""
_CLIPPING_TOLERANCE = 2e-3
"""How near to its extreme a sample must be to be clipped, as a share of the channel's range: a notch filter moves
plateaus by a little, while EEG comes that near for about one sample in ten thousand."""


class BadChannelSettings(Settings):
    """When a channel is bad. Thresholds of PREP are those of its authors (10.3389/fninf.2015.00016)."""

    flat_uv: float = Field(gt=0)
    """A second in which a channel moves by less than this from peak to peak is flat, microvolts (0.5)."""
    max_flat_fraction: float = Field(ge=0, lt=1)
    """A channel that is flat for more of the time is bad (0.25)."""
    max_clipped_fraction: float = Field(ge=0, lt=1)
    """A channel with more of its samples at its highest or lowest value is saturated (0.01)."""
    deviation_z: float = Field(gt=0)
    """Robust z of a channel's amplitude among all (5)."""
    high_frequency_z: float = Field(gt=0)
    """Robust z of a channel's share of power above 50 Hz among all (5)."""
    min_correlation: float = Field(ge=0, lt=1)
    """A second in which no other channel correlates more with it speaks against a channel (0.4)."""
    max_uncorrelated_fraction: float = Field(ge=0, lt=1)
    """A channel with more of such seconds is bad (0.01; 0.05 or more for recordings of a minute)."""
    seed: int = Field(ge=0)
    """Given to PyPREP, which draws from it in RANSAC alone; RANSAC is not run."""


def step(state: State, *, settings: BadChannelSettings) -> State:
    """Find the bad channels, and mark them in `raw.info["bads"]` too.

    To be run before any high-pass: the plateaus of a clipped channel do not outlive one. PyPREP's NoisyChannels
    takes slow trends out for itself (deviation, high-frequency noise, correlation and dropouts of Bigdely-Shamlo
    2015, 10.3389/fninf.2015.00016; neither RANSAC, nor PyPREP's own spectral criterion, which is not of PREP). Its
    criteria compare channels with each other, so it is given only those that passed the others. Masked samples
    speak against no channel, and silent ones are not looked at.

    Returns
    -------
    State
        `bad` and `raw.info["bads"]` with what was found; quality ``bad_channels`` (names), ``bad_channel_reasons``
        (a word for each of them) and ``bad_channel_fraction`` of all that are not silent.

    Raises
    ------
    Unreadable
        If all channels are bad, or all samples masked.
    """
    import pyprep  # noqa: PLC0415  # slow, and every command reads this module's settings

    candidates = [name for name in good_channels(state) if name not in state.bad]
    counted = [name for name in state.raw.ch_names if name not in state.silent]
    reasons = {name: "marked" for name in counted if name in state.bad or name in state.raw.info["bads"]}
    part = fit_part(state, candidates) if candidates else None
    if part is not None and not part.n_times:
        raise Unreadable("all samples are masked before bad channels are looked for")
    if part is not None:
        reasons |= _unlike_eeg(part, settings)
        rest = [name for name in candidates if name not in reasons]
        if len(rest) >= _FEWEST_TO_COMPARE:
            reasons |= _unlike_others(part.pick(rest), settings)
    if len(reasons) == len(counted):
        worst = ", ".join(f"{name} {reason}" for name, reason in list(reasons.items())[:3])
        raise Unreadable(f"all {len(counted)} channels are bad ({worst}, ...)")
    ordered = [name for name in counted if name in reasons]
    raw = state.raw.copy()
    raw.info["bads"] = ordered
    return state.after(
        Step(name="bad_channels", version=f"pyprep {pyprep.__version__}", params=settings.model_dump()),
        raw=raw,
        bad=state.bad | set(ordered),
        quality={
            "bad_channels": ", ".join(ordered),
            "bad_channel_reasons": ", ".join(reasons[name] for name in ordered),
            "bad_channel_fraction": len(ordered) / len(counted),
        },
    )


def _unlike_eeg(part: mne.io.BaseRaw, settings: BadChannelSettings) -> dict[str, str]:
    """Return the channels that no comparison is needed for, and why."""
    values = part.get_data() * VOLT_TO_UV
    finite = np.isfinite(values).all(axis=1)
    values[~finite] = 0.0
    flat = _flat_fraction(values, round(_WINDOW_S * part.info["sfreq"]), settings.flat_uv)
    clipped = _clipped_fraction(values)
    reasons = {}
    for i, name in enumerate(part.ch_names):
        if not finite[i]:
            reasons[name] = "not-finite"
        elif flat[i] > settings.max_flat_fraction:
            reasons[name] = "flat"
        elif clipped[i] > settings.max_clipped_fraction:
            reasons[name] = "saturated"
    return reasons


def _flat_fraction(values: npt.NDArray[np.float64], samples: int, flat_uv: float) -> npt.NDArray[np.float64]:
    """Return the share of windows of [channel, time] in which each channel stands still."""
    count = max(1, values.shape[1] // samples)
    windows = values[:, : count * samples].reshape(len(values), count, -1)
    return np.asarray((np.ptp(windows, axis=2) < flat_uv).mean(axis=1), dtype=np.float64)


def _clipped_fraction(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the share of samples of [channel, time] at the channel's highest or lowest value."""
    lowest, highest = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    near = _CLIPPING_TOLERANCE * (highest - lowest)
    return np.asarray(((values <= lowest + near) | (values >= highest - near)).mean(axis=1), dtype=np.float64)


def _unlike_others(part: mne.io.BaseRaw, settings: BadChannelSettings) -> dict[str, str]:
    """Return the channels that PREP calls bad, and why."""
    import pyprep  # noqa: PLC0415

    class NoisyChannels(pyprep.NoisyChannels):  # type: ignore[misc]  # untyped
        def find_bad_by_nan_flat(self, flat_threshold: float = 0.0) -> None:
            """Find nothing: such channels were taken out before, by stricter limits, and this takes four copies."""

    with mne.use_log_level("error"):
        noisy = NoisyChannels(part, do_detrend=True, random_state=settings.seed, ransac=False)
        _hold_in_single(noisy)
        noisy.find_bad_by_deviation(settings.deviation_z)
        noisy.find_bad_by_hfnoise(settings.high_frequency_z)
        noisy.find_bad_by_correlation(
            _WINDOW_S, correlation_threshold=settings.min_correlation, frac_bad=settings.max_uncorrelated_fraction
        )
    found = (
        ("dropout", noisy.bad_by_dropout),
        ("uncorrelated", noisy.bad_by_correlation),
        ("high-frequency", noisy.bad_by_hf_noise),
        ("deviation", noisy.bad_by_deviation),
    )
    # The last one that holds names the channel.
    return {str(name): reason for reason, names in found for name in names}


def _hold_in_single(noisy: pyprep.NoisyChannels) -> None:
    """Let PyPREP compare channels in single precision, a millionth of any threshold, and forget what it has read.

    Its criteria hold four copies of the recording beside these two. They are filtered a few channels at a time.
    """
    noisy.raw_mne = None
    values = noisy.EEGData
    filtered = np.empty(values.shape, dtype=np.float32)
    for first in range(0, len(values), _AT_ONCE):
        noisy.EEGData = values[first : first + _AT_ONCE]
        filtered[first : first + _AT_ONCE] = noisy._get_filtered_data()  # noqa: SLF001  # where PyPREP has its filter
    noisy.EEGData, noisy.EEGFiltered = values.astype(np.float32), filtered
