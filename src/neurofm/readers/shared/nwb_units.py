"""Sorted units of an NWB file: spike times, the archive's metrics, region and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hdmf.common import DynamicTableRegion, VectorIndex
from pynwb import NWBFile

from neurofm.readers.shared.common import unknown_positions
from neurofm.recording import SPACE_UNKNOWN, Channels, Spikes, Target, Unreadable

_NO_METRICS = frozenset({"id", "peak_channel_id", "cluster_id", "local_index", "spike_times", "location", "group"})
"""Names and row numbers: float32 of a shard could not even hold them."""
_NO_REGION = frozenset({"None", "nan", "null", "unknown"})
_FAR = 1000.0
"""Spikes that reach so many times further than everything else in the file are no seconds but samples."""
_SPACE = "allen-ccf-2017"


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units table: who, and when they fired."""

    channels: Channels
    spikes: Spikes


def read_units(file: NWBFile, name: str, targets: Mapping[str, Target]) -> Units:
    """Read the units table.

    The observation is what the units' observation intervals span, where there are any. Old files state it nowhere:
    then it lasts from 0, or an earlier epoch or sample of a target, to the last of the spikes, epochs and samples.
    Spikes outside are passed on, since real sessions have single ones; preprocessing drops or refuses them. A unit
    without spikes is kept.

    Raises
    ------
    Unreadable
        If there is no units table or no spike; if the index of spike times does not fit them; if times are no
        numbers, not sorted, or samples.
    """
    table = file.units
    if table is None or "spike_times" not in table.colnames:
        raise Unreadable(f"{name}: no units table with spike times")
    time_s, channel = _trains(table, name)
    if len(time_s) == 0:
        raise Unreadable(f"{name}: the units table has no spike")
    if not np.isfinite(time_s).all():
        raise Unreadable(f"{name}: spike times that are not numbers")
    back = np.flatnonzero((np.diff(time_s) < 0) & (np.diff(channel) == 0))
    if back.size:
        raise Unreadable(f"{name}: spike times of unit {table.id[int(channel[back[0]])]} are not sorted")
    others = [*_epochs(file), *(edge for one in targets.values() for edge in (one.time_s[0], one.time_s[-1]))]
    observed = _observation_intervals(table)
    _refuse_samples(name, time_s, end_s=max([0.0, *observed, *others]))
    start_s, stop_s = observed or (min([0.0, *others]), max([time_s.max(), *others]))
    # Equal times in the order of the table, so that the result does not depend on the sorting algorithm.
    order = np.lexsort((channel, time_s))
    spikes = Spikes(time_s=time_s[order], channel=channel[order], start_s=float(start_s), stop_s=float(stop_s))
    return Units(channels=_channels(file, table, name), spikes=spikes)


def _trains(table: Any, name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the [spike] times, unit after unit, and the [spike] row of the unit that each belongs to."""
    column = table["spike_times"]
    if not isinstance(column, VectorIndex):
        raise Unreadable(f"{name}: spike times without an index that says whose they are")
    ends = np.asarray(column.data[:], dtype=np.int64)
    time_s = np.asarray(column.target.data[:], dtype=np.float64)
    counts = np.diff(ends, prepend=0)
    last = int(ends[-1]) if len(ends) else 0
    if len(ends) != len(table) or last != len(time_s) or np.any(counts < 0):
        raise Unreadable(
            f"{name}: the index of the units table ({len(ends)} entries for {len(table)} units, up to {last}) "
            f"does not fit its {len(time_s)} spike times"
        )
    return time_s, np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _refuse_samples(name: str, time_s: npt.NDArray[np.float64], *, end_s: float) -> None:
    """Refuse spike times that can be no seconds, as far as the file says when it ends."""
    if end_s > 0 and time_s.max() > _FAR * end_s:
        raise Unreadable(
            f"{name}: spikes until {time_s.max():g} s, but all else in the file ends at {end_s:g} s; "
            "are the spike times sample numbers?"
        )


def _epochs(file: NWBFile) -> list[float]:
    """Return the edges of the epochs."""
    if file.epochs is None or len(file.epochs) == 0:
        return []
    return [float(np.min(file.epochs["start_time"][:])), float(np.max(file.epochs["stop_time"][:]))]


def _observation_intervals(table: Any) -> list[float]:
    if "obs_intervals" not in table.colnames:
        return []
    intervals = np.asarray(table["obs_intervals"].target.data[:], dtype=np.float64)
    return [float(intervals.min()), float(intervals.max())] if intervals.size else []


def _channels(file: NWBFile, table: Any, name: str) -> Channels:
    quality = _metrics(table)
    if "peak_channel_id" in table.colnames and file.electrodes is not None:
        rows = _peak_rows(file.electrodes, table, name)
        position = _ccf(file.electrodes, rows)
        quality |= _on_probe(file.electrodes, rows)
        region = tuple(_acronym(file.electrodes["location"][row]) for row in rows)
        space = _SPACE
    else:
        position = _positions(table)
        region = tuple(_region(table, i) for i in range(len(table)))
        space = SPACE_UNKNOWN
    known = bool(np.isfinite(position).any())
    return Channels(
        id=tuple(f"unit-{unit}" for unit in table.id[:]),
        position=position,
        position_unit="um" if known else "",
        space=space if known else SPACE_UNKNOWN,
        region=region,
        quality=quality,
    )


def _metrics(table: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns with one number per unit, under the archive's names; the text ``quality`` becomes ``good``."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    for key in table.colnames:
        column = table[key]
        if key in _NO_METRICS or isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        values = np.asarray(column.data[:])
        if values.ndim == 1 and values.dtype.kind in "biuf":
            found[key] = values.astype(np.float64)
        elif key == "quality":
            found["good"] = np.array([str(one) == "good" for one in values], dtype=np.float64)
    return found


def _peak_rows(electrodes: Any, table: Any, name: str) -> npt.NDArray[np.int64]:
    """Return the [unit] row of the electrode at which each unit is largest (Allen Institute's ``peak_channel_id``)."""
    row_of = {int(electrode): row for row, electrode in enumerate(electrodes.id[:])}
    wanted = [int(channel) for channel in table["peak_channel_id"][:]]
    missing = [channel for channel in wanted if channel not in row_of]
    if missing:
        raise Unreadable(f"{name}: peak channel {missing[0]} of a unit is not in the table of electrodes")
    return np.array([row_of[channel] for channel in wanted], dtype=np.int64)


def _ccf(electrodes: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return [unit, 3] micrometres in the Common Coordinate Framework: anterior-posterior, dorsal-ventral, left-right.

    Negative and zero are what the archive writes for electrodes outside of the brain or without histology.
    """
    if not {"x", "y", "z"} <= set(electrodes.colnames):
        return unknown_positions(len(rows))
    place = np.stack([np.asarray(electrodes[axis][:], dtype=np.float64)[rows] for axis in "xyz"], axis=1)
    place[~np.all(place > 0, axis=1)] = np.nan
    return place


def _on_probe(electrodes: Any, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return which probe each unit is on (0 for the first by name), how far up, and whether its channel is valid."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    if "group_name" in electrodes.colnames:
        groups = [str(group) for group in electrodes["group_name"][:]]
        number = {group: i for i, group in enumerate(sorted(set(groups)))}
        found["probe"] = np.array([number[groups[row]] for row in rows], dtype=np.float64)
    for key in ("probe_vertical_position", "probe_horizontal_position", "valid_data"):
        if key in electrodes.colnames:
            found[key] = np.asarray(electrodes[key][:], dtype=np.float64)[rows]
    return found


def _acronym(location: Any) -> str:
    text = str(location)
    return "" if text in _NO_REGION else text


def _region(table: Any, i: int) -> str:
    for column in ("location", "brain_area", "region"):
        if column in table.colnames:
            return str(table[column][i])
    if "electrodes" in table.colnames:
        return str(table["electrodes"][i]["location"].iloc[0])
    if "electrode_group" in table.colnames:
        return str(table["electrode_group"][i].location)
    return ""


def _positions(table: Any) -> npt.NDArray[np.float64]:
    """Return [unit, 3]: the mean place of each unit's electrodes (NWB: micrometres)."""
    position = unknown_positions(len(table))
    if "electrodes" not in table.colnames:
        return position
    for i in range(len(table)):
        electrodes = table["electrodes"][i]
        if len(electrodes) > 0 and {"x", "y", "z"} <= set(electrodes.columns):
            position[i] = electrodes[["x", "y", "z"]].to_numpy(dtype=np.float64).mean(axis=0)
    # NWB before 2.5 required x, y and z: labs that did not know them wrote zeros.
    return position if np.any(np.nan_to_num(position) != 0) else unknown_positions(len(table))
