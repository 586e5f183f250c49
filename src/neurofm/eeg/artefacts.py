"""Takes out bursts that are too large for this recording's own clean EEG: artifact subspace reconstruction."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType

import mne
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
_COVARIANCE_FLOATS = 5e6
"""What all of them together may hold: 40 MB, and three times that while the median is found. clean_rawdata's default,
64 MB with all copies, comes to about as many. Where the bound is met (129 channels for 6 minutes, not 64 for one), the
samples of a covariance are more, and the calibration is another one: on a recording put together from real ones the
result differed from that without a bound by 6 % of its size (by as much with four times the bound)."""
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
    meegkit = _meegkit()
    channels = good_channels(state)
    rate_hz = float(state.raw.info["sfreq"])
    with threadpool_limits(1):  # Sums in another order would be other bytes.
        clean, clean_s = _learned(state, channels, settings)
        before = _microvolts(state.raw, channels)
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
            "asr_changed_fraction": float(_changed(before, after).mean()),
            "asr_clean_s": clean_s,
        },
    )


class _NoTorch(MetaPathFinder):
    """Says that torch is not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise ImportError for torch; everything else is for the next finder."""
        if fullname == "torch":
            raise ImportError(fullname)


def _meegkit() -> ModuleType:
    """Import meegkit, which is slow, without torch.

    It imports pyriemann, which imports torch wherever it finds it, for arrays that do not occur here: 190 MB.
    """
    refuse = _NoTorch()
    sys.meta_path.insert(0, refuse)
    try:
        return import_module("meegkit")
    finally:
        sys.meta_path.remove(refuse)


def _microvolts(raw: mne.io.BaseRaw, channels: list[str]) -> npt.NDArray[np.float64]:
    """Return [channel, time]."""
    values: npt.NDArray[np.float64] = raw.get_data(picks=channels)
    values *= VOLT_TO_UV
    return values


def _changed(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """[time] samples at which any channel moved."""
    changed = np.zeros(before.shape[1], dtype=np.bool_)
    for old, new in zip(before, after, strict=True):
        changed |= np.abs(new - old) > _CHANGED_UV
    return changed


def _learned(state: State, channels: list[str], settings: ArtefactSettings) -> tuple[_Clean, float]:
    """Learn what clean EEG of the recording is like, and from how many seconds.

    Each array is let go before the next ones are made: all of them are as large as the recording.
    """
    rate_hz = float(state.raw.info["sfreq"])
    part = fit_part(state, channels)
    independent = rank(state, part)
    values = _microvolts(part, channels)
    del part
    values = _calm(values, rate_hz, settings)
    clean_s = values.shape[1] / rate_hz
    # In directions that hold nothing (the mean, after the average reference) ASR divides rounding by rounding.
    _, directions = np.linalg.eigh(values @ values.T)
    subspace = directions[:, -independent:]
    values = subspace.T @ values
    mixing, thresholds = _calibrated(values, rate_hz, cutoff=settings.cutoff)
    return _Clean(subspace=subspace, mixing=mixing, thresholds=thresholds), clean_s


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


def _calibrated(
    values: npt.NDArray[np.float64], rate_hz: float, *, cutoff: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Learn mixing and thresholds from clean [dimension, time], microvolts."""
    from meegkit.asr import asr_calibrate  # noqa: PLC0415

    # meegkit lets the covariances overlap by two thirds.
    samples = max(_COVARIANCE_SAMPLES, round(3 * values.shape[1] * len(values) ** 2 / _COVARIANCE_FLOATS))
    mixing, thresholds = asr_calibrate(
        values, rate_hz, cutoff=cutoff, blocksize=samples, win_len=_WINDOW_S, method="euclid"
    )
    return mixing, thresholds


def _reconstructed(values: npt.NDArray[np.float64], clean: _Clean, rate_hz: float) -> npt.NDArray[np.float64]:
    """Clean [channel, time]; each block ends in the middle of its window and fades from the last one's result."""
    from meegkit.asr import asr_process  # noqa: PLC0415
    from meegkit.utils.asr import yulewalk_filter  # noqa: PLC0415

    within = clean.subspace.T @ values
    shaped, _ = yulewalk_filter(within, rate_hz)
    half, block = round(_WINDOW_S * rate_hz / 2), round(_STEP_S * rate_hz)
    cleaned = np.empty_like(values)
    state = {"M": clean.mixing, "T": clean.thresholds, "R": None}
    for start in range(0, within.shape[1], block):
        stop = min(start + block, within.shape[1])
        window = shaped[:, max(0, stop - half) : stop + half]
        kept, state = asr_process(
            within[:, start:stop], None, state, cov=window @ window.T / window.shape[1], method="euclid"
        )
        cleaned[:, start:stop] = values[:, start:stop] - clean.subspace @ (within[:, start:stop] - kept)
    return cleaned
