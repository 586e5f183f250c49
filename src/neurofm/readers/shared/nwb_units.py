"""Sorted units of an NWB file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBFile

from neurofm.readers.shared.common import unknown_positions
from neurofm.recording import Channels, Spikes, Target, Unreadable


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units table: who, and when they fired."""

    channels: Channels
    spikes: Spikes


def read_units(file: NWBFile, name: str, targets: Mapping[str, Target]) -> Units:
    """Read the units table.

    The observation lasts from the earliest to the latest of the epochs, the units' observation intervals,
    the spikes and the targets' samples: old files state it nowhere.

    Raises
    ------
    Unreadable
        If there is no units table, no spike, or a spike time that is not a number.
    """
    table = file.units
    if table is None or "spike_times" not in table.colnames:
        raise Unreadable(f"{name}: no units table with spike times")
    trains = [np.asarray(table["spike_times"][i], dtype=np.float64) for i in range(len(table))]
    time_s = np.concatenate([*trains, np.empty(0)])
    channel = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    if len(time_s) == 0:
        raise Unreadable(f"{name}: the units table has no spike")
    if not np.isfinite(time_s).all():
        raise Unreadable(f"{name}: spike times that are not numbers")
    # Equal times in the order of the table, so that the result does not depend on the sorting algorithm.
    order = np.lexsort((channel, time_s))
    start_s, stop_s = _observed(file, time_s, targets)
    spikes = Spikes(time_s=time_s[order], channel=channel[order].astype(np.int64), start_s=start_s, stop_s=stop_s)
    return Units(channels=_channels(table), spikes=spikes)


def _observed(file: NWBFile, time_s: npt.NDArray[np.float64], targets: Mapping[str, Target]) -> tuple[float, float]:
    edges = [time_s.min(), time_s.max()]
    for target in targets.values():
        edges += [target.time_s[0], target.time_s[-1]]
    if file.epochs is not None and len(file.epochs) > 0:
        edges += [np.min(file.epochs["start_time"][:]), np.max(file.epochs["stop_time"][:])]
    if "obs_intervals" in file.units.colnames:
        for i in range(len(file.units)):
            intervals = np.asarray(file.units["obs_intervals"][i])
            edges += [intervals.min(), intervals.max()] if intervals.size else []
    return float(min(edges)), float(max(edges))


def _channels(table: Any) -> Channels:
    n = len(table)
    position = _positions(table)
    known = bool(np.isfinite(position).any())
    return Channels(
        id=tuple(f"unit-{unit}" for unit in table.id[:]),
        position=position,
        position_unit="um" if known else "",
        region=tuple(_region(table, i) for i in range(n)),
    )


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
