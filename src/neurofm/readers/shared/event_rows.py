"""Events as rows of a table: those of a BIDS ``events.tsv``, or of a recording's own annotations."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neurofm.readers.shared.common import opening
from neurofm.recording import EventColumn, Events, Unreadable

_NOT_SAID = ("", "n/a", "N/A", "nan", "NaN")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """One thing that happened."""

    onset_s: float
    duration_s: float
    label: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """What else is said of it, as text; empty or ``n/a`` where nothing is."""


@dataclass(frozen=True, kw_only=True)
class EventTable:
    """The rows of an ``events.tsv``."""

    rows: tuple[EventRow, ...]
    without_onset: int
    """Rows that say ``n/a`` of when they happened: they are in no place of the recording."""


def read_event_table(path: Path) -> EventTable:
    """Read an ``events.tsv`` (BIDS 1.10, "Task events").

    The label is ``trial_type``, or ``value`` where that says nothing; all columns but ``onset`` and ``duration``
    are kept beside it. A duration of ``n/a`` is 0. (mne-bids drops ``sample``, ``value``, rows without a
    ``trial_type`` and those past the end, and renames labels with several values, hence this reading.)

    Raises
    ------
    Unreadable
        If it is empty, has no ``onset``, a column twice, a ragged row, or a time that is no number.
    """
    with opening(path), path.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = csv.reader(lines, delimiter="\t")
    if "onset" not in header or len(set(header)) != len(header):
        raise Unreadable(f"{path.name}: its columns are {', '.join(header)}; expected `onset` and each name once")
    found: list[EventRow] = []
    filled = [row for row in rows if row]
    for row in filled:
        if len(row) != len(header):
            raise Unreadable(f"{path.name}: line {rows.index(row) + 2} has {len(row)} columns, the first {len(header)}")
        cells = {name: text.strip() for name, text in zip(header, row, strict=True)}
        onset_s = _seconds(cells.pop("onset"), path)
        duration_s = _seconds(cells.pop("duration", ""), path)
        if np.isfinite(onset_s):
            labels = (cells.get(name, "") for name in ("trial_type", "stim_type", "value"))
            label = next((text for text in labels if text not in _NOT_SAID), "n/a")
            found.append(
                EventRow(
                    onset_s=onset_s,
                    duration_s=duration_s if np.isfinite(duration_s) else 0.0,
                    label=label,
                    columns=cells,
                )
            )
    return EventTable(rows=tuple(found), without_onset=len(filled) - len(found))


def events_of(rows: Sequence[EventRow], *, labels: Mapping[str, str], stop_s: float) -> tuple[Events | None, int]:
    """Put rows in order of time.

    Parameters
    ----------
    rows
        In any order; they may have different columns.
    labels
        Other names for labels; others keep their own.
    stop_s
        When the recording ends, in seconds from its start.

    Returns
    -------
    events
        Those that begin within the recording, None if there is none.
    outside
        How many begin before or after it: they are left out.
    """
    within = sorted(
        (row for row in rows if 0 <= row.onset_s <= stop_s), key=lambda row: (row.onset_s, row.duration_s, row.label)
    )
    outside = len(rows) - len(within)
    if not within:
        return None, outside
    names = dict.fromkeys(name for row in within for name in row.columns)
    events = Events(
        onset_s=np.array([row.onset_s for row in within], dtype=np.float64),
        duration_s=np.array([row.duration_s for row in within], dtype=np.float64),
        label=tuple(labels.get(row.label, row.label) for row in within),
        columns={name: _column([row.columns.get(name, "") for row in within]) for name in names},
    )
    return events, outside


def _seconds(text: str, path: Path) -> float:
    if text in _NOT_SAID:
        return float("nan")
    if not _NUMBER.fullmatch(text):
        raise Unreadable(f"{path.name}: {text!r} is no time in seconds")
    return float(text)


def _column(texts: Sequence[str]) -> EventColumn:
    """Return numbers where all that is said is a number, else texts."""
    said = [text for text in texts if text not in _NOT_SAID]
    if said and all(_NUMBER.fullmatch(text) for text in said):
        return np.array([np.nan if text in _NOT_SAID else float(text) for text in texts], dtype=np.float64)
    return tuple("" if text in _NOT_SAID else text for text in texts)
