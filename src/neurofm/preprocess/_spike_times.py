"""What is asked of spike times before anything is counted, whichever reader they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurofm.recording import Recording, Spikes, Unreadable


@dataclass(frozen=True, kw_only=True)
class CheckedSpikes:
    """Spikes inside the observation, and how many lay outside."""

    spikes: Spikes
    outside: int


def check_spikes(recording: Recording, *, max_outside_fraction: float) -> CheckedSpikes:
    """Refuse impossible spike times, and take out single ones before the beginning or past the end.

    Parameters
    ----------
    recording
        With `spikes`.
    max_outside_fraction
        Up to this share of the spikes may lie outside of the observation: real archives have some, where clocks of
        two devices were aligned. More means that times and observation are not of one clock.

    Raises
    ------
    Unreadable
        If there are no spikes; if times are no numbers, go back or lie outside; if spikes and their units are not
        equally many; if a spike belongs to no unit of the table; if the observation has no length.
    """
    name = recording.clock.id
    spikes = recording.spikes
    if spikes is None:
        raise Unreadable(f"{name}: the reader gave no spikes")
    time_s, channel = spikes.time_s, spikes.channel
    if len(time_s) != len(channel):
        raise Unreadable(f"{name}: {len(time_s)} spike times, but {len(channel)} spikes have a unit")
    if not spikes.stop_s > spikes.start_s:
        raise Unreadable(f"{name}: the observation ends at {spikes.stop_s:g} s, and begins at {spikes.start_s:g} s")
    if len(time_s) == 0:
        raise Unreadable(f"{name}: no unit has a spike")
    if not np.isfinite(time_s).all():
        raise Unreadable(f"{name}: {(~np.isfinite(time_s)).sum()} of {len(time_s)} spike times are no numbers")
    n_units = len(recording.channels)
    if channel.min() < 0 or channel.max() >= n_units:
        strangers = int(((channel < 0) | (channel >= n_units)).sum())
        raise Unreadable(f"{name}: {strangers} spikes belong to no unit of the table, which has {n_units}")
    back = time_s[1:] < time_s[:-1]
    if back.any():
        at = int(back.argmax())
        raise Unreadable(
            f"{name}: spike times go back, from {time_s[at]:g} s to {time_s[at + 1]:g} s "
            f"(number {at + 1} of {len(time_s)})"
        )
    first, last = np.searchsorted(time_s, spikes.start_s), np.searchsorted(time_s, spikes.stop_s, side="right")
    outside = int(len(time_s) - (last - first))
    if outside == 0:
        return CheckedSpikes(spikes=spikes, outside=0)
    if outside > max_outside_fraction * len(time_s):
        raise Unreadable(
            f"{name}: {outside} of {len(time_s)} spikes lie outside of the observation, {spikes.start_s:g} to "
            f"{spikes.stop_s:g} s (they go from {time_s[0]:g} to {time_s[-1]:g} s), more than "
            f"{max_outside_fraction:g} of them (max_outside_fraction)"
        )
    inside = replace(spikes, time_s=time_s[first:last], channel=channel[first:last])
    return CheckedSpikes(spikes=inside, outside=outside)
