"""Refers all channels to their average, or leaves the reference of the amplifier."""

from __future__ import annotations

from enum import StrEnum

import mne

from neurofm.eeg.state import State
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

_FEWEST = 2
"""The average of one channel is the channel itself."""


class ReferenceKind(StrEnum):
    """What potentials are measured against."""

    AVERAGE = "average"
    """The mean of all good channels (Bertrand 1985, 10.1016/0168-5597(85)90035-6)."""
    NONE = "none"
    """Whatever the amplifier used."""


class ReferenceSettings(Settings):
    """Which reference."""

    kind: ReferenceKind


def step(state: State, *, settings: ReferenceSettings) -> State:
    """Subtract the mean of the good channels from all; bad ones are left as they are, and out of the mean.

    The electrode that was the reference (Cz of the HydroCel net) is 0 by construction, which is its true potential:
    it is part of the mean, and carries signal afterwards.

    Raises
    ------
    Unreadable
        If fewer than two channels are good.
    """
    done = Step(name="reference", version=f"mne {mne.__version__}", params={"kind": settings.kind.value})
    if settings.kind is ReferenceKind.NONE:
        return state.after(done)
    bad = set(state.raw.info["bads"])
    good = [name for name in state.raw.ch_names if name not in bad]
    if len(good) < _FEWEST:
        raise Unreadable(f"{len(good)} of {len(state.raw.ch_names)} channels are good: there is no average to refer to")
    raw = state.raw.copy()
    # With names instead of "average" MNE would call it a custom reference, and spherical splines and ICLabel warn.
    raw.set_eeg_reference("average", projection=False, verbose="error")
    return state.after(done, raw=raw, silent=frozenset())
