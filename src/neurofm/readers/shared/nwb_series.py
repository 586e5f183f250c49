"""Time series and interval tables of an NWB file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBFile, TimeSeries

from neurofm.recording import Events, Target, Unreadable

_FULL_TURN = {"radian": 2 * np.pi, "degree": 360.0}
_AXES = ("x", "y", "z")


def find_series(file: NWBFile, name: str, path: str) -> TimeSeries:
    """Return the series at ``acquisition/<container>/<series>`` or ``processing/<module>/...``.

    Raises
    ------
    Unreadable
        If the file has no such series.
    """
    section, *parts = path.split("/")
    node: Any = {"acquisition": file.acquisition, "processing": file.processing}.get(section)
    for part in parts:
        try:
            node = node[part]
        except (KeyError, TypeError):
            raise Unreadable(f"{name}: no {part!r} on the way to {path!r}") from None
    if not isinstance(node, TimeSeries):
        raise Unreadable(f"{name}: {path!r} is not a time series")
    return node


def series_times(series: TimeSeries, n: int, name: str) -> npt.NDArray[np.float64]:
    """Return the [n] times of a series' samples in seconds.

    Raises
    ------
    Unreadable
        If they do not rise, or are not as many as the samples.
    """
    if series.timestamps is None:
        return float(series.starting_time or 0.0) + np.arange(n) / float(series.rate)
    times = np.asarray(series.timestamps, dtype=np.float64)
    if times.shape != (n,):
        raise Unreadable(f"{name}: {series.name!r} has {len(times)} timestamps for {n} samples")
    # `not all(>)` rather than `any(<=)`: a NaN timestamp must fail, too.
    if not np.all(np.diff(times) > 0) or not np.isfinite(times).all():
        raise Unreadable(f"{name}: timestamps of {series.name!r} do not rise")
    return times


def scaled(series: TimeSeries, data: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return a series' stored numbers in its unit (NWB: ``data * conversion + offset``)."""
    return np.asarray(data, dtype=np.float64) * float(series.conversion) + float(series.offset or 0.0)


def read_target(file: NWBFile, name: str, *, target: str, paths: tuple[str, ...], angle: bool, unit: str) -> Target:
    """Read one target from one or more series that share their times.

    Parameters
    ----------
    file, name
        The open file, and its name for errors.
    target
        Name of the target, for errors.
    paths
        The series.
    angle
        True turns one angle into the columns ``cos`` and ``sin`` (unit ``1``).
    unit
        Unit where the file's own is empty or wrong.

    Raises
    ------
    Unreadable
        If a series is missing, the series differ in time, or an angle's unit is not known.
    """
    series = [find_series(file, name, path) for path in paths]
    values = [scaled(one, one.data).reshape(len(one.data), -1) for one in series]
    times = [series_times(one, len(array), name) for one, array in zip(series, values, strict=True)]
    if any(not np.array_equal(times[0], other) for other in times[1:]):
        raise Unreadable(f"{name}: the series of target {target!r} do not share their times")
    together = np.concatenate(values, axis=1)
    unit = unit or series[0].unit or "unknown"
    if angle:
        together = _cos_sin(together, unit, f"{name}: target {target!r}")
        return Target(values=together, unit="1", columns=("cos", "sin"), time_s=times[0])
    columns = tuple(label for one, array in zip(series, values, strict=True) for label in _columns(one.name, array))
    return Target(values=together, unit=unit, columns=columns, time_s=times[0])


def _cos_sin(angle: npt.NDArray[np.float64], unit: str, where: str) -> npt.NDArray[np.float64]:
    turn = _FULL_TURN.get(unit.removesuffix("s"))
    if turn is None or angle.shape[1] != 1:
        raise Unreadable(f"{where}: an angle is one column in radian or degree, not {angle.shape[1]} in {unit!r}")
    radian = angle[:, 0] * (2 * np.pi / turn)
    return np.stack([np.cos(radian), np.sin(radian)], axis=1)


def _columns(series_name: str, values: npt.NDArray[np.float64]) -> tuple[str, ...]:
    k = values.shape[1]
    if k == 1:
        return (series_name,)
    return tuple(f"{series_name}_{_AXES[i] if k <= len(_AXES) else i}" for i in range(k))


def read_events(file: NWBFile, tables: tuple[str, ...]) -> Events | None:
    """Return the rows of the interval tables named, in time order.

    An epoch's label is its tags; a row of another table is labelled with the table's name, because tags
    there are often mere counters. Tables that the file lacks are passed over.
    """
    rows: list[tuple[float, float, str]] = []
    for table_name in tables:
        table = (file.intervals or {}).get(table_name)
        if table is None:
            continue
        tagged = table_name == "epochs" and "tags" in table.colnames
        for i in range(len(table)):
            start, stop = float(table["start_time"][i]), float(table["stop_time"][i])
            label = " ".join(str(tag) for tag in table["tags"][i]) if tagged else table_name
            rows.append((start, stop - start, label))
    if not rows:
        return None
    rows.sort()
    onset, duration, labels = zip(*rows, strict=True)
    return Events(onset_s=np.array(onset), duration_s=np.array(duration), label=labels)
