"""Takes out bursts that are too large for this recording's own clean EEG: artifact subspace reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg.state import State
from neurofm.eeg.usable import VOLT_TO_UV, fit_part, good_channels, rank, removed_fraction
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

_WINDOW_S = 0.5
"""Length of the windows in which bursts are looked for, as in EEGLAB's clean_rawdata."""
_STEP_S = 0.125
"""How far apart the windows are."""
_COVARIANCE_SAMPLES = 100
"""Samples of each covariance of which the calibration takes the geometric median, at least."""
_COVARIANCE_FLOATS = 2e7
"""What all of them together may hold (160 MB): 129 channels for 6 minutes at 500 Hz would be 700 MB."""
_CHANGED_UV = 1e-3
"""A sample is changed if a channel moved by more: rounding is far below, any recorder's resolution above."""


class ArtefactSettings(Settings):
    """How large is too large."""

    cutoff: float = Field(gt=0)
    """Standard deviations of a component's amplitude in clean EEG beyond which it is taken out (20; 10 is strict, 30
    lenient: Chang 2020, 10.1109/TBME.2019.2930186)."""
    min_clean_s: float = Field(gt=0)
    """Clean EEG that the calibration needs, seconds (30)."""


def step(state: State, *, settings: ArtefactSettings) -> State:
    """Rebuild the parts of the signal that are too large from the rest, window by window.

    ASR (Mullen 2015, 10.1109/TBME.2015.2481482), with meegkit's calibration on the windows of this recording that
    are clean, and meegkit's reconstruction. Unlike meegkit's own loop, the covariance of each window is that of the
    samples around it, as in clean_rawdata: with windows of the past alone the beginning of each burst remains (of
    blinks of 200 uV in EEGMAT 66 % instead of 16 %). To be run after a high-pass of 0.5-1 Hz. Masked samples are
    not learnt from, yet cleaned.

    Returns
    -------
    State
        Quality ``asr_removed_variance_fraction``, ``asr_changed_fraction`` of the samples, and ``asr_clean_s``, what
        the calibration rested on, seconds.

    Raises
    ------
    Unreadable
        If there is too little clean EEG to calibrate on.
    """
    import meegkit  # noqa: PLC0415  # slow, and every command reads this module's settings

    channels = good_channels(state)
    rate_hz = float(state.raw.info["sfreq"])
    before = state.raw.get_data(picks=channels) * VOLT_TO_UV
    with threadpool_limits(1):  # Sums in another order would be other bytes.
        part = fit_part(state, channels)
        calm = _calm(part.get_data() * VOLT_TO_UV, rate_hz, settings)
        clean = _calibrated(calm, rate_hz, rank=rank(state, part), cutoff=settings.cutoff)
        after = _reconstructed(before, clean, rate_hz)
    raw = state.raw.copy()
    rows = [raw.ch_names.index(name) for name in channels]
    raw._data[rows] = after / VOLT_TO_UV  # noqa: SLF001  # MNE has no setter
    return state.after(
        Step(
            name="artefacts",
            version=f"meegkit {meegkit.__version__}",
            params=settings.model_dump(),
            support_s=_WINDOW_S + 2 * _STEP_S,
        ),
        raw=raw,
        quality={
            "asr_removed_variance_fraction": removed_fraction(before, after),
            "asr_changed_fraction": float((np.abs(after - before) > _CHANGED_UV).any(axis=0).mean()),
            "asr_clean_s": calm.shape[1] / rate_hz,
        },
    )


def _calm(values: npt.NDArray[np.float64], rate_hz: float, settings: ArtefactSettings) -> npt.NDArray[np.float64]:
    """Return the windows of [channel, time] in which nearly all channels have their usual power, joined."""
    from meegkit.asr import clean_windows  # noqa: PLC0415

    needed = f"ASR needs {settings.min_clean_s:g} s of clean EEG"
    available_s = values.shape[1] / rate_hz
    if available_s < settings.min_clean_s:
        raise Unreadable(f"{available_s:.3g} s of EEG; {needed}")
    calm, _ = clean_windows(values, rate_hz, win_len=_WINDOW_S)
    calm_s = calm.shape[1] / rate_hz
    if calm_s < settings.min_clean_s:
        raise Unreadable(f"{calm_s:.3g} s are clean; {needed}")
    return np.asarray(calm, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class _Clean:
    """What clean EEG of a recording is like, in the coordinates of its own subspace."""

    subspace: npt.NDArray[np.float64]
    """[channel, dimension], orthonormal."""
    mixing: npt.NDArray[np.float64]
    """[dimension, dimension]"""
    thresholds: npt.NDArray[np.float64]
    """[dimension, dimension]"""


def _calibrated(values: npt.NDArray[np.float64], rate_hz: float, *, rank: int, cutoff: float) -> _Clean:
    """Learn from clean [channel, time], microvolts, how large each component is."""
    from meegkit.asr import asr_calibrate  # noqa: PLC0415

    # In directions that hold nothing (the mean, after the average reference) ASR divides rounding by rounding.
    _, directions = np.linalg.eigh(values @ values.T)
    subspace = directions[:, -rank:]
    # meegkit lets the covariances overlap by two thirds.
    samples = max(_COVARIANCE_SAMPLES, round(3 * values.shape[1] * rank**2 / _COVARIANCE_FLOATS))
    mixing, thresholds = asr_calibrate(
        subspace.T @ values, rate_hz, cutoff=cutoff, blocksize=samples, win_len=_WINDOW_S, method="euclid"
    )
    return _Clean(subspace=subspace, mixing=mixing, thresholds=thresholds)


def _reconstructed(values: npt.NDArray[np.float64], clean: _Clean, rate_hz: float) -> npt.NDArray[np.float64]:
    """Clean [channel, time]; each block ends in the middle of its window and fades from the last one's result."""
    from meegkit.asr import asr_process  # noqa: PLC0415
    from meegkit.utils.asr import yulewalk_filter  # noqa: PLC0415

    within = clean.subspace.T @ values
    shaped, _ = yulewalk_filter(within, rate_hz)
    half, block = round(_WINDOW_S * rate_hz / 2), round(_STEP_S * rate_hz)
    removed = np.empty_like(within)
    state = {"M": clean.mixing, "T": clean.thresholds, "R": None}
    for start in range(0, within.shape[1], block):
        stop = min(start + block, within.shape[1])
        window = shaped[:, max(0, stop - half) : stop + half]
        cleaned, state = asr_process(
            within[:, start:stop], None, state, cov=window @ window.T / window.shape[1], method="euclid"
        )
        removed[:, start:stop] = within[:, start:stop] - cleaned
    return np.asarray(values - clean.subspace @ removed, dtype=np.float64)
