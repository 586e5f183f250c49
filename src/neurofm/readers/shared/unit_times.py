"""Spike times that a file keeps unit by unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.recording import Unreadable


def unit_times(value: Any, *, what: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], int]:
    """Return the times of all spikes, sorted, the unit of each, and how many units there are.

    Parameters
    ----------
    value
        One array of times per unit, seconds; units without spikes are left out.
    what
        Name of the file and variable, for errors.

    Raises
    ------
    Unreadable
        If it is no list of such arrays, or a time is missing or goes back.
    """
    if not isinstance(value, list):
        raise Unreadable(f"{what}: expected one list of spike times per unit, found {type(value).__name__}")
    trains = [np.ravel(np.asarray(train)) for train in value]
    trains = [train.astype(np.float64) for train in trains if len(train)]
    if not trains:
        raise Unreadable(f"{what}: no unit has a spike")
    for unit, train in enumerate(trains, start=1):
        if not np.isfinite(train).all():
            raise Unreadable(f"{what}: unit {unit}: {int((~np.isfinite(train)).sum())} spike times are missing (NaN)")
        if np.any(np.diff(train) < 0):
            raise Unreadable(f"{what}: unit {unit}: the spike times go back")
    time_s = np.concatenate(trains)
    channel = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    order = np.argsort(time_s, kind="stable")
    return time_s[order], channel[order], len(trains)
