"""Which channels and samples of a state carry EEG: what every step looks at before it estimates anything."""

from __future__ import annotations

import mne
import numpy as np
import numpy.typing as npt

from neurofm.eeg.state import State

VOLT_TO_UV = 1e6


def good_channels(state: State) -> list[str]:
    """Name the channels that carry EEG, in the recording's order.

    A bad channel that was interpolated is one of them; MNE's list of bads (``raw.info["bads"]``) holds those that
    still are bad. The reference electrode is none while it is silent.
    """
    left_out = set(state.raw.info["bads"]) | state.silent
    return [name for name in state.raw.ch_names if name not in left_out]


def masked_samples(state: State) -> npt.NDArray[np.bool_]:
    """Return a copy of the mask, [time]; a state without one has none masked."""
    if not state.masked.size:
        return np.zeros(state.raw.n_times, dtype=np.bool_)
    return state.masked.copy()


def fit_part(state: State, channels: list[str]) -> mne.io.RawArray:
    """Return what a step may learn from: `channels` without the masked samples, joined, without annotations."""
    raw = state.raw
    values = raw.get_data(picks=channels)[:, ~masked_samples(state)]
    info = mne.pick_info(raw.info, [raw.ch_names.index(name) for name in channels])
    info["bads"] = []
    return mne.io.RawArray(values, info, verbose="error")


def positioned(raw: mne.io.BaseRaw) -> set[str]:
    """Name the channels whose electrode position is known."""
    known = set()
    for channel in raw.info["chs"]:
        position = channel["loc"][:3]
        if np.isfinite(position).all() and position.any():
            known.add(channel["ch_name"])
    return known


def rank(state: State, part: mne.io.BaseRaw) -> int:
    """Return how many independent signals the channels of `part` carry.

    An interpolated channel adds none, and the average reference takes one away, as it makes all sum to 0. What is
    counted so holds where the numerical rank is in doubt (splines leave a little of everything); the numerical rank
    holds where channels are copies of others.
    """
    interpolated = sum(name in state.bad for name in part.ch_names)
    averaged = int(bool(part.info["custom_ref_applied"]))
    numerical = int(mne.compute_rank(part, rank=None, verbose="error")["eeg"])
    return max(1, min(len(part.ch_names) - interpolated - averaged, numerical))


def removed_fraction(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> float:
    """Return the power of what a step took away over the power that was there, both [channel, time]."""
    power = taken = 0.0
    # One channel at a time: copies of a whole recording would be the largest arrays there are.
    for old, new in zip(before, after, strict=True):
        power += float(np.sum((old - old.mean()) ** 2))
        removed = old - new
        taken += float(np.sum((removed - removed.mean()) ** 2))
    return taken / power if power > 0 else 0.0
