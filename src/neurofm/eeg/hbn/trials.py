"""Trials of contrastChangeDetection: a target, the press that answers it, and the time between the two.

A grating's contrast grows over 1.6 s and comes back over 0.8 s; feedback follows at once. The child presses the button
of the target's side. Target end and feedback are 2.4 s after the target, and mostly the next trial starts there, so
that a late press falls into the next trial. It still answers the target that was seen: here a press counts until
`limit_s`. `verdict` tells late ones apart.

Some files hold the next run's block too, which has a file of its own. `own_trials` keeps every trial once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.eeg.hbn.events import BLOCK_STARTS, PRESSES, TARGETS, TRIAL_START
from neurofm.recording import Target

RESPONSE_LIMIT_S = 3.0
"""The shortest interval between a target's end and the next target is 2.8 s: this cannot be a press for the next."""
WINDOW_S = (0.5, 2.5)
"""After the target: the window of the EEG challenge of 2025 (arXiv 2506.19141 and its start kit)."""
_VERDICTS = {"smiley_face": "correct", "sad_face": "wrong"}


class Trial(NamedTuple):
    """One target. Times are seconds on the recording's clock; NaN or empty for what did not happen."""

    block: int
    """1 to 3, as the latest start of a block says; 0 before any."""
    start_s: float
    """Latest start of a trial before the target, back to the target before it."""
    target_s: float
    side: str
    """``left`` or ``right``."""
    press_s: float
    """The first press after the target."""
    press: str
    """Its side."""
    response_time_s: float
    """From target to press."""
    verdict: str
    """``correct`` or ``wrong``, as the feedback said; ``late``: pressed when feedback had been given;
    ``missed``: no press until the limit; ``interrupted``: none until the recording was paused or the block ended."""
    presses: int
    """Within the limit; the first one is the answer."""
    early_presses: int
    """Between start and target: they answer nothing."""


def trial_table(events: pd.DataFrame, *, limit_s: float = RESPONSE_LIMIT_S) -> pd.DataFrame:
    """Find every target of a file and its answer.

    Parameters
    ----------
    events
        As `read_events` gives it.
    limit_s
        A press counts up to this long after the target, and before whatever is neither a press nor a trial's start.

    Returns
    -------
    DataFrame
        One row per target with the fields of `Trial` as columns.
    """
    rows: list[Trial] = []
    block, start_s, early = 0, np.nan, 0
    happened = list(zip(events["onset"], events["value"], events["feedback"], strict=True))
    for i, (onset, label, _) in enumerate(happened):
        if label in TARGETS:
            rows.append(_trial(happened[i:], block=block, start_s=start_s, early=early, limit_s=limit_s))
            start_s, early = np.nan, 0
        elif label == TRIAL_START:
            start_s, early = onset, 0
        elif label in PRESSES:
            early += not np.isnan(start_s)
        else:
            block, start_s = BLOCK_STARTS.get(label, block), np.nan
    return pd.DataFrame(rows, columns=Trial._fields)


def _trial(
    happened: Sequence[tuple[float, str, str]], *, block: int, start_s: float, early: int, limit_s: float
) -> Trial:
    """Look at what `happened` (onset, label, feedback) from the target, its first row, on."""
    (target_s, target, _), *after = happened
    presses: list[tuple[float, str, str]] = []
    verdict = "missed"
    for onset, label, feedback in after:
        if onset > target_s + limit_s:
            break
        if label in PRESSES:
            presses.append((onset, PRESSES[label], feedback))
        elif label != TRIAL_START:
            verdict = "interrupted"
            break
    press_s, press = np.nan, ""
    if presses:
        press_s, press, feedback = presses[0]
        verdict = _VERDICTS.get(feedback, "late")
    return Trial(
        block=block,
        start_s=start_s,
        target_s=target_s,
        side=TARGETS[target],
        press_s=press_s,
        press=press,
        response_time_s=press_s - target_s,
        verdict=verdict,
        presses=len(presses),
        early_presses=early,
    )


def own_trials(trials: pd.DataFrame, *, run: str) -> pd.DataFrame:
    """Keep the trials of the file's own block: run 2 of half the children holds block 3 again, which is run 3.

    Parameters
    ----------
    trials
        As `trial_table` gives it.
    run
        The run as the file's name has it; block and run share their number.
    """
    return trials[trials["block"] == int(run)].reset_index(drop=True)


def response_windows(
    trials: pd.DataFrame,
    *,
    stop_s: float,
    window_s: tuple[float, float] = WINDOW_S,
    anchor: str = "target_s",
) -> pd.DataFrame:
    """Give every answered trial its window.

    Parameters
    ----------
    trials
        As `trial_table` gives it.
    stop_s
        End of the recording, seconds: windows that reach beyond it are left out.
    window_s
        From and until when after the anchor, seconds.
    anchor
        ``target_s`` or ``start_s``; a trial without it has no window.

    Returns
    -------
    DataFrame
        The trials with a window, and its ``window_start_s`` and ``window_stop_s``, seconds.
    """
    windowed = trials.assign(window_start_s=trials[anchor] + window_s[0], window_stop_s=trials[anchor] + window_s[1])
    kept = windowed["response_time_s"].notna() & (windowed["window_stop_s"] <= stop_s)
    return windowed[kept].reset_index(drop=True)


def response_targets(windows: pd.DataFrame, *, time_s: npt.NDArray[np.float64]) -> dict[str, Target]:
    """Spread each trial's answer over its window, so that it can be decoded from any sample there.

    Parameters
    ----------
    windows
        As `response_windows` gives it.
    time_s
        [time] of the signal, seconds.

    Returns
    -------
    dict
        ``response_time`` [time, 1] in s and ``response_correct`` [time, 1], 1 or 0, NaN for late presses; NaN outside
        of the windows.
    """
    response_time, correct = (np.full((len(time_s), 1), np.nan, dtype=np.float32) for _ in range(2))
    judged = windows["verdict"].map({"correct": 1.0, "wrong": 0.0}).to_numpy(dtype=np.float64)
    for start, stop, seconds, right in zip(
        windows["window_start_s"], windows["window_stop_s"], windows["response_time_s"], judged, strict=True
    ):
        first, end = np.searchsorted(time_s, [start, stop])
        response_time[first:end], correct[first:end] = seconds, right
    return {
        "response_time": Target(values=response_time, unit="s", columns=("response_time",), time_s=time_s),
        "response_correct": Target(values=correct, unit="", columns=("correct",), time_s=time_s),
    }
