"""A signal cut to a span of time, in whole samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurofm.recording import Signal, Unreadable


def end_s(signal: Signal) -> float:
    """Return the end of the last sample, seconds on the recording's clock."""
    return signal.start_s + len(signal.values) / signal.sampling_rate_hz


def crop(signal: Signal, start_s: float, stop_s: float, *, name: str) -> Signal:
    """Keep the samples of [`start_s`, `stop_s`); times stay on the recording's clock.

    Parameters
    ----------
    signal
        [time, channel]
    start_s, stop_s
        Seconds on the recording's clock; an infinite end is the signal's.
    name
        What the error calls the recording.

    Raises
    ------
    Unreadable
        If no sample lies in the span.
    """
    first, stop = (int(i) for i in np.searchsorted(signal.time_s, [start_s, stop_s]))
    if first >= stop:
        raise Unreadable(f"{name}: no sample between {start_s:g} and {stop_s:g} s; it ends at {end_s(signal):g} s")
    return replace(signal, values=signal.values[first:stop], start_s=signal.start_s + first / signal.sampling_rate_hz)
