"""A lower sampling rate by a zero-phase polyphase filter: sample 0 stays where it is, and none drifts from it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.eeg.raws import with_values
from neurofm.eeg.state import State
from neurofm.recording import Step
from neurofm.settings import Settings

VERSION = "1"

_MAX_DENOMINATOR = 1000
"""Resampling is by a ratio of whole numbers up to this: enough to hit any rate within a millionth."""
_FILTER_HALF_PERIODS = 10
"""Half length of `scipy.signal.resample_poly`'s filter, in samples of the slower rate."""


class Rate(Settings):
    """A sampling rate."""

    rate_hz: float = Field(gt=0)
    """Slower recordings keep theirs."""


def step(state: State, *, settings: Rate) -> State:
    """Lower the sampling rate; the result is that of `neurofm.preprocess.common.resample`, one channel at a time.

    A new sample is masked if an old one within half a new period of it was. `raw.resample` of MNE is not used: it
    makes the number of samples whole at exactly the new rate, which stretches time by up to half a sample.

    Parameters
    ----------
    state
        At any rate.
    settings
        The rate wished for; it is met within a millionth or so, as a ratio of whole numbers.
    """
    # Here, because every command reads this module's settings and scipy.signal takes a second to import.
    from scipy.signal import resample_poly  # noqa: PLC0415

    fs = float(state.raw.info["sfreq"])
    ratio = Fraction(settings.rate_hz / fs).limit_denominator(_MAX_DENOMINATOR)
    samples = len(state.raw.times)
    if ratio >= 1 or samples == 0:
        return state.after(Step(name="resample", version=VERSION, params=settings.model_dump()))
    done = Step(
        name="resample",
        version=VERSION,
        params=settings.model_dump(),
        support_s=2 * _FILTER_HALF_PERIODS / settings.rate_hz,
    )
    lower = np.empty((len(state.raw.ch_names), -(-samples * ratio.numerator // ratio.denominator)))
    for i in range(len(lower)):
        (channel,) = state.raw.get_data(picks=[i])
        lower[i] = resample_poly(channel, ratio.numerator, ratio.denominator, padtype="edge")
    return state.after(
        done,
        raw=with_values(state.raw, lower, rate_hz=fs * float(ratio)),
        masked=masked_after(state.masked, ratio=float(ratio), samples=lower.shape[1]),
    )


def masked_after(masked: npt.NDArray[np.bool_], *, ratio: float, samples: int) -> npt.NDArray[np.bool_]:
    """Return [samples] what a mask becomes at `ratio` times its rate: any masked sample within half a new period."""
    centre, half = np.arange(samples) / ratio, 0.5 / ratio
    first = np.clip(np.ceil(centre - half), 0, len(masked)).astype(np.int64)
    last = np.clip(np.floor(centre + half) + 1, 0, len(masked)).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(masked)])
    return np.asarray(sums[last] > sums[first], dtype=np.bool_)
