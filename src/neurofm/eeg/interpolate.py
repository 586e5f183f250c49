"""Fills bad channels from their neighbours on the head."""

from __future__ import annotations

import mne
from pydantic import Field

from neurofm.eeg.state import State
from neurofm.eeg.usable import positioned
from neurofm.recording import Step
from neurofm.settings import Settings


class InterpolateSettings(Settings):
    """When a bad channel is filled."""

    min_good_channels: int = Field(ge=4)
    """With fewer good channels of known position nothing is filled: a sphere needs 4 (8)."""


def step(state: State, *, settings: InterpolateSettings) -> State:
    """Replace bad channels by spherical splines through the good ones (Perrin 1989, 10.1016/0013-4694(89)90180-6).

    The reference electrode takes part while it is silent: its potential against itself is known to be 0. Bad
    channels without a position stay bad, as do all where too few good ones have one.

    Returns
    -------
    State
        What was filled is no longer in `raw.info["bads"]`, but still in `bad`; quality ``interpolated_channels``
        (names) and ``interpolated_fraction`` of all channels.
    """
    raw = state.raw
    known = positioned(raw)
    now_bad = set(raw.info["bads"])
    to_fill = [name for name in raw.ch_names if name in now_bad & known]
    good = [name for name in raw.ch_names if name in known - now_bad]
    if len(good) < settings.min_good_channels:
        to_fill = []
    result = raw.copy()
    if to_fill:
        # Channels without a position would make MNE's spline NaN.
        on_head = raw.copy().pick([name for name in raw.ch_names if name in known], exclude=())
        on_head.info["bads"] = to_fill
        on_head.interpolate_bads(reset_bads=True, method={"eeg": "spline"}, verbose="error")
        for name in to_fill:
            result._data[raw.ch_names.index(name)] = on_head.get_data(picks=[name])[0]  # noqa: SLF001  # MNE has no setter
        result.info["bads"] = [name for name in raw.info["bads"] if name not in to_fill]
    return state.after(
        Step(name="interpolate", version=f"mne {mne.__version__}", params=settings.model_dump()),
        raw=result,
        quality={
            "interpolated_channels": ", ".join(to_fill),
            "interpolated_fraction": len(to_fill) / len(raw.ch_names),
        },
    )
