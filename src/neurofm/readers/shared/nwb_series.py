"""Time series of an NWB file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBFile, TimeSeries

from neurofm.recording import Target, Unreadable

_FULL_TURN = {"radian": 2 * np.pi, "degree": 360.0}
_AXES = ("x", "y", "z")


def has_series(file: NWBFile, path: str) -> bool:
    """Whether the file has a time series at `path`; an empty one is nowhere."""
    try:
        find_series(file, "", path)
    except Unreadable:
        return False
    return True


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
        node = _member(node, part)
        if node is None:
            raise Unreadable(f"{name}: no {part!r} on the way to {path!r}")
    if not isinstance(node, TimeSeries):
        raise Unreadable(f"{name}: {path!r} is not a time series")
    return node


def _member(node: Any, part: str) -> Any:
    """Return a container's member; those that an extension adds (``pupil_tracking``) are attributes."""
    try:
        return node[part]
    except (KeyError, TypeError, ValueError):
        return getattr(node, part, None)


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


def read_target(
    file: NWBFile,
    name: str,
    *,
    target: str,
    paths: tuple[str, ...],
    angle: bool,
    unit: str,
    field: str = "data",
    ends: str = "",
    invalid: str = "",
) -> Target:
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
    field
        Which of the series' datasets holds the values: ``area`` of an ``EllipseSeries``.
    ends
        A series whose timestamps say when each sample's interval ended; the target's times are then the middles.
    invalid
        A series that is not zero where the values are not to be trusted (blinks): they become NaN.

    Raises
    ------
    Unreadable
        If a series is missing, the series differ in time, or an angle's unit is not known.
    """
    series = [find_series(file, name, path) for path in paths]
    values = [_values(one, field, name) for one in series]
    times = [series_times(one, len(array), name) for one, array in zip(series, values, strict=True)]
    if any(not np.array_equal(times[0], other) for other in times[1:]):
        raise Unreadable(f"{name}: the series of target {target!r} do not share their times")
    together = np.concatenate(values, axis=1)
    time_s = times[0]
    if ends:
        time_s = _middles(file, name, time_s, ends)
    if invalid:
        flags = np.asarray(find_series(file, name, invalid).data, dtype=np.float64)
        if flags.shape != time_s.shape:
            raise Unreadable(f"{name}: {invalid!r} has {len(flags)} flags for {len(time_s)} samples")
        together[flags != 0] = np.nan
    unit = unit or series[0].unit or "unknown"
    if angle:
        together = _cos_sin(together, unit, f"{name}: target {target!r}")
        return Target(values=together, unit="1", columns=("cos", "sin"), time_s=time_s)
    columns = tuple(label for one, array in zip(series, values, strict=True) for label in _columns(one.name, array))
    return Target(values=together, unit=unit, columns=columns, time_s=time_s)


def _values(series: TimeSeries, field: str, name: str) -> npt.NDArray[np.float64]:
    """Return [time, k] of one of a series' datasets; only ``data`` has a conversion."""
    if field == "data":
        return scaled(series, series.data).reshape(len(series.data), -1)
    data = getattr(series, field, None)
    if data is None:
        raise Unreadable(f"{name}: {series.name!r} has no {field!r}")
    return np.array(data, dtype=np.float64).reshape(len(data), -1)


def _middles(file: NWBFile, name: str, start_s: npt.NDArray[np.float64], ends: str) -> npt.NDArray[np.float64]:
    """Return the middles of intervals that begin at `start_s` and end where the series `ends` says."""
    series = find_series(file, name, ends)
    stop_s = series_times(series, len(start_s), name)
    if np.any(stop_s < start_s):
        raise Unreadable(f"{name}: intervals of {ends!r} end before they begin")
    middle_s: npt.NDArray[np.float64] = (start_s + stop_s) / 2
    return middle_s


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
