"""The events tables of HBN-EEG, and which of their rows belong to another task than the file's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from neurofm.recording import Unreadable

REST = "RestingState"
CONTRAST = "contrastChangeDetection"

BREAK = "break cnt"
"""The recording was paused and taken up again."""
NEUTRAL = frozenset({BREAK, "boundary", "9999"})
"""Rows of the recording system, in files of every task. Time stops or jumps at each of them."""

REST_START = "resting_start"
OPEN_EYES = "instructed_toOpenEyes"
CLOSE_EYES = "instructed_toCloseEyes"
TRIAL_START = "contrastTrial_start"
BLOCK_STARTS = {f"contrastChangeB{block}_start": block for block in (1, 2, 3)}
"""Label to the number of the block, which is that of the run it belongs to."""
TARGETS = {"left_target": "left", "right_target": "right"}
PRESSES = {"left_buttonPress": "left", "right_buttonPress": "right"}

OF_TASK = {
    REST: frozenset({REST_START, OPEN_EYES, CLOSE_EYES}),
    CONTRAST: frozenset({TRIAL_START, *BLOCK_STARTS, *TARGETS, *PRESSES}),
}
"""Labels by task."""


def read_events(path: Path) -> pd.DataFrame:
    """Read an ``events.tsv``.

    Returns
    -------
    DataFrame
        Sorted by time, rows at one time in the file's order: ``onset`` float64, seconds; ``value`` str, the label;
        ``feedback`` str, empty where there is none; the file's other columns as text.

    Raises
    ------
    Unreadable
        Without a column ``onset`` or ``value``, or with an onset that is no number.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path.name}: {error}") from error
    if missing := [name for name in ("onset", "value") if name not in table]:
        raise Unreadable(f"{path.name}: no column {missing[0]!r}; it has {', '.join(table.columns)}")
    onset = pd.to_numeric(table["onset"], errors="coerce")
    if onset.isna().any():
        row = int(onset.isna().to_numpy().argmax())
        raise Unreadable(f"{path.name}: line {row + 2}: onset {table['onset'].iloc[row]!r} is no number")
    feedback = table["feedback"].replace("n/a", "") if "feedback" in table else ""
    return table.assign(onset=onset.astype("float64"), feedback=feedback).sort_values(
        "onset", kind="stable", ignore_index=True
    )


def foreign_labels(events: pd.DataFrame, *, task: str) -> tuple[str, ...]:
    """Return the labels of other tasks that are in a table of `task`, sorted.

    In 14 of the 136 resting recordings of release 1 the recording ran on into other tasks.

    Parameters
    ----------
    events
        As `read_events` gives it.
    task
        A key of `OF_TASK`.
    """
    return tuple(sorted(set(events["value"]) - OF_TASK[task] - NEUTRAL))
