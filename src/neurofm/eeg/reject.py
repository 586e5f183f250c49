"""Masks stretches whose amplitude is beyond what helps this recording's average."""

from __future__ import annotations

import mne
import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg.state import State
from neurofm.eeg.usable import VOLT_TO_UV, good_channels, masked_samples
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

_FOLDS = 5
"""Of the cross-validation that weighs thresholds: autoreject's own number."""


class RejectSettings(Settings):
    """How stretches are cut, and the seed of the search."""

    epoch_s: float = Field(gt=0)
    """Length of the stretches that are masked or not, seconds (2)."""
    seed: int = Field(ge=0)


def step(state: State, *, settings: RejectSettings) -> State:
    """Mask epochs in which a good channel moves by more than the threshold from peak to peak.

    The threshold is autoreject's global one (Jas 2017, 10.1016/j.neuroimage.2017.06.030): that with which the mean
    of the kept epochs is nearest to the median of held-out ones. Epochs that were masked in part already are not
    learnt from; what is left of them is judged all the same, as is the shorter one at the end.

    Returns
    -------
    State
        `masked` with the rejected epochs; quality ``reject_threshold_uv`` and ``rejected_fraction`` of the samples
        that were not masked before.

    Raises
    ------
    Unreadable
        If there are too few whole epochs to search a threshold with.
    """
    import autoreject  # noqa: PLC0415  # slow, and every command reads this module's settings

    channels = good_channels(state)
    values = state.raw.get_data(picks=channels)
    masked = masked_samples(state)
    length = round(settings.epoch_s * state.raw.info["sfreq"])
    starts = range(0, values.shape[1], length)
    whole = [start for start in starts if start + length <= len(masked) and not masked[start : start + length].any()]
    if len(whole) < _FOLDS:
        raise Unreadable(
            f"{len(whole)} whole epochs of {settings.epoch_s:g} s; a threshold of rejection needs at least {_FOLDS}"
        )
    info = mne.create_info(channels, state.raw.info["sfreq"], "eeg")
    stacked = np.stack([values[:, start : start + length] for start in whole])
    epochs = mne.EpochsArray(stacked, info, verbose="error")
    with threadpool_limits(1):  # Sums in another order would be other bytes.
        threshold = float(
            autoreject.get_rejection_threshold(
                epochs, ch_types="eeg", cv=_FOLDS, random_state=settings.seed, verbose=False
            )["eeg"]
        )
    rejected = np.zeros_like(masked)
    for start in starts:
        part = slice(start, start + length)
        kept = values[:, part][:, ~masked[part]]
        if kept.size and np.ptp(kept, axis=1).max() > threshold:
            rejected[part] = True
    fit = ~masked
    return state.after(
        Step(name="reject", version=f"autoreject {autoreject.__version__}", params=settings.model_dump()),
        masked=masked | rejected,
        quality={
            "reject_threshold_uv": threshold * VOLT_TO_UV,
            "rejected_fraction": float(rejected[fit].mean()),
        },
    )
