"""RestingState: what of the file is rest, and when eyes were open or closed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.eeg.hbn.events import CLOSE_EYES, OF_TASK, OPEN_EYES, REST, REST_START
from neurofm.recording import Events, Target

LASTS_S = {OPEN_EYES: 20.0, CLOSE_EYES: 40.0}
"""How long a block lasts by what was asked for, seconds."""
EYES = {OPEN_EYES: "eyes_open", CLOSE_EYES: "eyes_closed"}
"""Event label of a block."""
SETTLE_S = 2.0
"""After a prompt: it is a spoken sentence, and the eyes move when it has been understood. Our choice, not the
release's."""
_WHOLE = 0.9
"""Least share of a block's length: the sixth prompt to open the eyes ends the task and begins no block."""


def rest_span(events: pd.DataFrame) -> tuple[float, float] | None:
    """Return from when to when the file is rest, seconds.

    It begins at ``resting_start`` and ends at the first later row that is none of rest: a pause, or another task's.
    Without such a row the end is infinite: the recording's.

    Returns
    -------
    None where the file has no ``resting_start``.
    """
    starts = events.loc[events["value"] == REST_START, "onset"]
    if starts.empty:
        return None
    start = float(starts.iloc[0])
    others = events.loc[(events["onset"] > start) & ~events["value"].isin(OF_TASK[REST]), "onset"]
    return start, float(others.iloc[0]) if len(others) else np.inf


def eyes_blocks(events: pd.DataFrame, *, stop_s: float) -> Events:
    """Find the blocks with eyes open and closed.

    Parameters
    ----------
    events
        As `read_events` gives it.
    stop_s
        End of the recording, seconds.

    Returns
    -------
    Events
        Labelled ``eyes_open`` (20 s) and ``eyes_closed`` (40 s), five of each in a whole recording. A block ends at
        the next prompt, and one that was cut short is left out.
    """
    found: list[tuple[float, float, str]] = []
    if span := rest_span(events):
        start, stop = span[0], min(span[1], stop_s)
        prompts = events[events["value"].isin(EYES) & events["onset"].between(start, stop, inclusive="left")]
        onsets = prompts["onset"].tolist()
        for onset, until, label in zip(onsets, [*onsets[1:], stop], prompts["value"], strict=False):
            lasts = min(until - onset, LASTS_S[label])
            if lasts >= _WHOLE * LASTS_S[label]:
                found.append((onset, lasts, EYES[label]))
    return Events(
        onset_s=np.array([onset for onset, _, _ in found], dtype=np.float64),
        duration_s=np.array([lasts for _, lasts, _ in found], dtype=np.float64),
        label=tuple(label for _, _, label in found),
    )


def eyes_target(blocks: Events, *, time_s: npt.NDArray[np.float64], settle_s: float = SETTLE_S) -> Target:
    """Turn blocks into a target over time.

    Parameters
    ----------
    blocks
        Events ``eyes_open`` and ``eyes_closed``; others are passed over.
    time_s
        [time] of the signal, seconds.
    settle_s
        What is left out after a block's onset, seconds.

    Returns
    -------
    Target
        [time, 1]: 1 where eyes are closed, 0 where they are open, NaN elsewhere.
    """
    values = np.full((len(time_s), 1), np.nan, dtype=np.float32)
    codes = {"eyes_open": 0.0, "eyes_closed": 1.0}
    for onset, lasts, label in zip(blocks.onset_s, blocks.duration_s, blocks.label, strict=True):
        if label in codes:
            first, end = np.searchsorted(time_s, [onset + settle_s, onset + lasts])
            values[first:end] = codes[label]
    return Target(values=values, unit="", columns=("eyes_closed",), time_s=time_s)
