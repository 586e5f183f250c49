"""Takes out bursts that are too large for this recording's own clean EEG: artifact subspace reconstruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg.state import State
from neurofm.eeg.usable import VOLT_TO_UV, fit_part, good_channels, removed_fraction
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

_WINDOW_S = 0.5
"""Length of the windows in which bursts are looked for, as in EEGLAB's clean_rawdata."""
_STEP_S = 0.125
"""How far apart the windows are."""
_MAX_COVARIANCE_FLOATS = 2e8
"""What the calibration's covariances of [block, channel, channel] may hold."""
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
    samples around it, as in clean_rawdata: with a window of the past alone, the first tenths of a second of each
    burst would remain. To be run after a high-pass of 0.5-1 Hz. Masked samples are not learnt from, yet cleaned.

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
        asr, clean_s = _calibrated(fit_part(state, channels).get_data() * VOLT_TO_UV, rate_hz, settings)
        after = _reconstructed(before, asr, rate_hz)
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
            "asr_clean_s": clean_s,
        },
    )


def _calibrated(values: npt.NDArray[np.float64], rate_hz: float, settings: ArtefactSettings) -> tuple[Any, float]:
    """Learn from [channel, time], microvolts, how large each component is in clean EEG."""
    from meegkit.asr import ASR  # noqa: PLC0415

    available_s = values.shape[1] / rate_hz
    if available_s < settings.min_clean_s:
        raise Unreadable(f"{available_s:.3g} s of EEG; ASR needs {settings.min_clean_s:g} s of clean EEG")
    blocks = int(_MAX_COVARIANCE_FLOATS / len(values) ** 2)
    asr = ASR(
        sfreq=rate_hz,
        cutoff=settings.cutoff,
        win_len=_WINDOW_S,
        method="euclid",
        blocksize=max(10, values.shape[1] // blocks),
    )
    clean, _ = asr.fit(values)
    clean_s = clean.shape[1] / rate_hz
    if clean_s < settings.min_clean_s:
        raise Unreadable(f"{clean_s:.3g} s of clean EEG; ASR needs {settings.min_clean_s:g} s")
    return asr, clean_s


def _reconstructed(values: npt.NDArray[np.float64], asr: Any, rate_hz: float) -> npt.NDArray[np.float64]:
    """Clean [channel, time]; each block ends in the middle of its window and fades from the last one's result."""
    from meegkit.asr import asr_process  # noqa: PLC0415
    from meegkit.utils.asr import yulewalk_filter  # noqa: PLC0415

    shaped, _ = yulewalk_filter(values, rate_hz, ab=asr.ab_)
    half, block = round(_WINDOW_S * rate_hz / 2), round(_STEP_S * rate_hz)
    cleaned = np.empty_like(values)
    state = dict(asr.state_)
    for start in range(0, values.shape[1], block):
        stop = min(start + block, values.shape[1])
        window = shaped[:, max(0, stop - half) : stop + half]
        cleaned[:, start:stop], state = asr_process(
            values[:, start:stop], None, state, cov=window @ window.T / window.shape[1], method="euclid"
        )
    return cleaned
