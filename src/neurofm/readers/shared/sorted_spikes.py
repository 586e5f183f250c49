"""What all readers of sorted spikes ask of spike times, timestamps and trials before they believe them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.recording import Spikes, Unreadable

Seconds = npt.NDArray[np.float64]


def sorted_spikes(
    time_s: Seconds,
    channel: npt.NDArray[np.int64],
    *,
    start_s: float,
    stop_s: float,
    name: str,
    tolerance_s: float = 0.0,
) -> Spikes:
    """Return spikes in the order of their times, equal times in the order of the unit table.

    Parameters
    ----------
    time_s
        [spike] seconds on the recording's clock.
    channel
        [spike] row of the unit table.
    start_s, stop_s
        When observation began and ended.
    name
        The file, for errors.
    tolerance_s
        How far outside of the observation a spike may lie: clocks of two devices differ. The observation is
        widened to hold it.

    Raises
    ------
    Unreadable
        If there is no spike, or one lies before the beginning or after the end.
    """
    if len(time_s) == 0:
        raise Unreadable(f"{name}: no spike of a sorted unit")
    first_s, last_s = float(time_s.min()), float(time_s.max())
    if first_s < start_s - tolerance_s:
        raise Unreadable(f"{name}: a spike at {first_s:g} s lies before the recording's beginning ({start_s:g} s)")
    if last_s > stop_s + tolerance_s:
        raise Unreadable(f"{name}: a spike at {last_s:g} s lies past the recording's end ({stop_s:g} s)")
    order = np.lexsort((channel, time_s))
    return Spikes(
        time_s=time_s[order],
        channel=channel[order].astype(np.int64),
        start_s=min(start_s, first_s),
        stop_s=max(stop_s, last_s),
    )


def check_same_length(times: int, units: int, *, name: str, unit_file: str) -> None:
    """Refuse spikes of which some have no unit, or units that have no spike time.

    Raises
    ------
    Unreadable
        Naming both files.
    """
    if times != units:
        raise Unreadable(f"{name}: {times} spike times, but {unit_file} gives {units} spikes a cluster")


def check_rising(time_s: Seconds, *, name: str, what: str) -> None:
    """Refuse times that go back or are no numbers; equal neighbours pass.

    Parameters
    ----------
    time_s
        [sample] seconds.
    name, what
        File, and what the times are of (``spike times``, ``timestamps of the wheel``).

    Raises
    ------
    Unreadable
        Naming the first sample that is wrong.
    """
    if not np.isfinite(time_s).all():
        at = int(np.flatnonzero(~np.isfinite(time_s))[0])
        raise Unreadable(f"{name}: {what} are not all numbers (the first that is none: number {at})")
    back = np.flatnonzero(np.diff(time_s) < 0)
    if len(back):
        at = int(back[0])
        raise Unreadable(
            f"{name}: {what} go back, from {time_s[at]:g} s to {time_s[at + 1]:g} s (number {at + 1} of {len(time_s)})"
        )


def check_trials(start_s: Seconds, stop_s: Seconds, *, name: str, tolerance_s: float = 1e-3) -> None:
    """Refuse trials that begin before the one before them ends: their behaviour cannot be told apart.

    Parameters
    ----------
    start_s, stop_s
        [trial] seconds, in the order of the table.
    name
        The file, for errors.
    tolerance_s
        Overlap that rounding may make.

    Raises
    ------
    Unreadable
        Naming the first two trials that overlap, or one that ends before it begins.
    """
    backwards = np.flatnonzero(stop_s < start_s)
    if len(backwards):
        at = int(backwards[0])
        raise Unreadable(f"{name}: trial {at} ends at {stop_s[at]:g} s, before it begins ({start_s[at]:g} s)")
    overlapping = np.flatnonzero(start_s[1:] < stop_s[:-1] - tolerance_s)
    if len(overlapping):
        at = int(overlapping[0])
        raise Unreadable(
            f"{name}: trials overlap: trial {at + 1} begins at {start_s[at + 1]:g} s, trial {at} ends at "
            f"{stop_s[at]:g} s"
        )
