"""Interval tables of an NWB file (epochs, trials, stimulus presentations) as events with all their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
from hdmf.common import DynamicTableRegion, VectorIndex
from pynwb import NWBFile

from neurofm.recording import EventColumn, Events, Unreadable

_NOT_SAID = frozenset({"", "null", "N/A", "n/a", "nan", "NaN", "None"})
"""``null`` is what Allen's blank sweeps have for an orientation, ``N/A`` what its writer fills gaps with."""
_TIMES = ("start_time", "stop_time")


@dataclass(frozen=True, kw_only=True)
class _Table:
    onset_s: npt.NDArray[np.float64]
    stop_s: npt.NDArray[np.float64]
    label: tuple[str, ...]
    columns: dict[str, EventColumn]


def read_events(
    file: NWBFile, name: str, tables: Sequence[str], *, lacking_integer: int | None = None
) -> Events | None:
    """Return the rows of the interval tables named, in time order.

    An epoch's label is its tags; a row of another table is labelled with the table's name, because tags
    there are often mere counters. Every column with one number or text per row is kept in `Events.columns`;
    a column that a table lacks is NaN or empty in that table's rows.

    Parameters
    ----------
    file, name
        The open file, and its name for errors.
    tables
        Names, or patterns such as ``*_presentations``. Tables that the file lacks are passed over.
    lacking_integer
        What the file's writer puts where an integer is lacking; it becomes NaN.

    Raises
    ------
    Unreadable
        If a row has no start, or ends before it begins.
    """
    there = file.intervals or {}
    # `epochs` and `trials` have places of their own in the file, but pynwb lists them among the intervals too.
    wanted = [key for key in sorted(there) if any(fnmatchcase(key, pattern) for pattern in tables)]
    found = [_table(there[key], key, name, lacking_integer) for key in wanted if len(there[key]) > 0]
    if not found:
        return None
    onset = np.concatenate([table.onset_s for table in found])
    stop = np.concatenate([table.stop_s for table in found])
    label = [one for table in found for one in table.label]
    order = sorted(range(len(onset)), key=lambda row: (onset[row], stop[row], label[row]))
    columns = dict.fromkeys(column for table in found for column in table.columns)
    return Events(
        onset_s=onset[order],
        duration_s=(stop - onset)[order],
        label=tuple(label[row] for row in order),
        columns={column: _in_order(_joined(found, column), order) for column in columns},
    )


def read_intervals(file: NWBFile, tables: str, column: str, *, optional: bool, where: str) -> Events | None:
    """Return the rows of interval tables, labelled by what one of their columns says.

    Parameters
    ----------
    file
        The open file.
    tables
        Name of one table, or a pattern.
    column
        Whose texts or numbers become the labels; if empty, the labels are those of `read_events`.
    optional
        Whether tables or column may be lacking.
    where
        File and option, for errors.

    Returns
    -------
    Events
        None where they may be lacking and are, or where the tables are empty.

    Raises
    ------
    Unreadable
        If they are lacking, a row has no start, or ends before it begins.
    """
    there = sorted(file.intervals or {})
    found = read_events(file, where, (tables,))
    if found is None and not optional and not any(fnmatchcase(key, tables) for key in there):
        raise Unreadable(
            f"{where}: no interval table {tables!r}, only {', '.join(there) or 'none at all'}. Mend: correct "
            "`intervals`, or set `optional: true` where not every recording has it"
        )
    if found is None or not column:
        return found
    if column not in found.columns:
        if optional:
            return None
        raise Unreadable(
            f"{where}: {tables!r} has no column {column!r} with a text or number per row, only "
            f"{', '.join(found.columns) or 'none at all'}. Mend: correct `column`; tags need none"
        )
    said = found.columns[column]
    return replace(found, label=said if isinstance(said, tuple) else tuple(f"{number:.15g}" for number in said))


def _table(table: Any, key: str, name: str, lacking_integer: int | None) -> _Table:
    onset, stop = (np.asarray(table[column][:], dtype=np.float64) for column in _TIMES)
    # An interval without an end is an instant; one without a start has no place in the recording.
    stop = np.where(np.isnan(stop), onset, stop)
    if not np.isfinite(onset).all():
        raise Unreadable(f"{name}: {key!r} has rows without a start time")
    if np.any(stop < onset):
        row = int(np.flatnonzero(stop < onset)[0])
        raise Unreadable(f"{name}: row {row} of {key!r} ends at {stop[row]:g} s, before it begins ({onset[row]:g} s)")
    label = (key,) * len(onset)
    if key == "epochs" and "tags" in table.colnames:
        label = tuple(" ".join(str(tag) for tag in table["tags"][row]) for row in range(len(onset)))
    columns = {column: _values(table[column], lacking_integer) for column in table.colnames if column not in _TIMES}
    return _Table(
        onset_s=onset, stop_s=stop, label=label, columns={key: one for key, one in columns.items() if one is not None}
    )


def _values(column: Any, lacking_integer: int | None) -> EventColumn | None:
    """Return a column's numbers, or its texts; None for lists, references and arrays per row."""
    if isinstance(column, VectorIndex | DynamicTableRegion):
        return None
    values = np.asarray(column.data[:])
    if values.ndim != 1:
        return None
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64)
        if lacking_integer is not None and values.dtype.kind == "i":
            numbers[values == lacking_integer] = np.nan
        return numbers
    if values.dtype.kind not in "OSU" or not all(isinstance(one, str | bytes) for one in values):
        return None
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in values]
    texts = ["" if text in _NOT_SAID else text for text in texts]
    try:
        # Allen writes a column with blank sweeps as texts: ``45.0`` beside ``null``.
        return np.array([float(text) if text else np.nan for text in texts]) if any(texts) else tuple(texts)
    except ValueError:
        return tuple(texts)


def _joined(tables: Sequence[_Table], column: str) -> EventColumn:
    """Put one column of all tables together: numbers if they are numbers wherever they are said, else texts."""
    parts = [(table.columns.get(column), len(table.onset_s)) for table in tables]
    if not any(isinstance(part, tuple) and any(part) for part, _ in parts):
        return np.concatenate([part if isinstance(part, np.ndarray) else np.full(n, np.nan) for part, n in parts])
    texts: list[str] = []
    for part, n in parts:
        if isinstance(part, np.ndarray):
            texts += ["" if np.isnan(number) else f"{number:g}" for number in part]
        else:
            texts += part or ("",) * n
    return tuple(texts)


def _in_order(column: EventColumn, order: Sequence[int]) -> EventColumn:
    return tuple(column[row] for row in order) if isinstance(column, tuple) else column[order]
