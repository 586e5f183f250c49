"""Fluorescence of regions of interest (ROI) of an NWB file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pynwb import NWBFile
from pynwb.ophys import DfOverF, Fluorescence, RoiResponseSeries

from neurofm.readers.shared.common import unknown_positions
from neurofm.readers.shared.nwb_series import find_series, scaled, series_times
from neurofm.recording import Channels, Signal, Unreadable

_NOT_FLUORESCENCE = ("neuropil", "deconvolved", "background", "spike")


@dataclass(frozen=True, kw_only=True)
class RoiFluorescence:
    """Fluorescence with its ROI table and, where the file has them, timestamps and neuropil."""

    channels: Channels
    signal: Signal
    sample_time_s: npt.NDArray[np.float64] | None = None
    extra_signals: dict[str, Signal] = field(default_factory=dict)


def read_fluorescence(file: NWBFile, name: str, *, series: str, neuropil: str, deconvolved: str) -> RoiFluorescence:
    """Read one `RoiResponseSeries` as [time, ROI].

    Parameters
    ----------
    file, name
        The open file, and its name for errors.
    series, neuropil
        Paths in the file; empty to look for the one that stands out.
    deconvolved
        Path of deconvolved activity to keep beside the signal; empty for none.

    Raises
    ------
    Unreadable
        If none or several series stand out, neither axis is as long as the ROI table, the shape contradicts the
        timestamps, or a series beside it has another shape.
    """
    found = _find_all(file)
    main = _wanted(file, name, series) if series else _only_fluorescence(found, name)
    values = _time_by_roi(main, name)
    times = series_times(main, len(values), name)
    rate_hz = float(main.rate) if main.rate else nominal_rate_hz(times, name)
    signal = Signal(values=values, sampling_rate_hz=rate_hz, units=main.unit, start_s=float(times[0]))
    extra: dict[str, Signal] = {}
    beside = _wanted(file, name, neuropil) if neuropil else found.get("neuropil")
    if beside is not None and beside.data.shape == main.data.shape:
        neuropil_values = _time_by_roi(beside, name)
        extra["neuropil"] = Signal(
            values=neuropil_values, sampling_rate_hz=rate_hz, units=beside.unit, start_s=signal.start_s
        )
    if deconvolved:
        activity = _time_by_roi(_wanted(file, name, deconvolved), name)
        if activity.shape != values.shape:
            raise Unreadable(f"{name}: {deconvolved!r} is {activity.shape}, the fluorescence {values.shape}")
        extra["deconvolved"] = Signal(values=activity, sampling_rate_hz=rate_hz, units="a.u.", start_s=signal.start_s)
    return RoiFluorescence(
        channels=_channels(main),
        signal=signal,
        sample_time_s=None if main.timestamps is None else times,
        extra_signals=extra,
    )


def nominal_rate_hz(times: npt.NDArray[np.float64], name: str) -> float:
    """Return the camera's rate from timestamps that jitter and skip.

    Each interval counts as the whole number of frames that it is nearest to, so lost frames do not lower
    the rate. Six decimals: timestamps in microseconds cannot tell more.

    Raises
    ------
    Unreadable
        If there are fewer than two; `name` is the file's, for the error.
    """
    if len(times) < 2:
        raise Unreadable(f"{name}: {len(times)} timestamps, the frame rate is not known")
    frames = np.rint(np.diff(times) / np.median(np.diff(times))).sum()
    return round(float(frames / (times[-1] - times[0])), 6)


def _find_all(file: NWBFile) -> dict[str, RoiResponseSeries]:
    """Return the ROI series of the processing modules, by the name of what holds them (lower case)."""
    found: dict[str, RoiResponseSeries] = {}
    for module in file.processing.values():
        for container in module.data_interfaces.values():
            if isinstance(container, Fluorescence | DfOverF):
                many = len(container.roi_response_series) > 1
                for series in container.roi_response_series.values():
                    found[(f"{container.name}/{series.name}" if many else container.name).lower()] = series
    return found


def _only_fluorescence(found: dict[str, RoiResponseSeries], name: str) -> RoiResponseSeries:
    candidates = {key: one for key, one in found.items() if not any(word in key for word in _NOT_FLUORESCENCE)}
    if len(candidates) != 1:
        raise Unreadable(
            f"{name}: {len(candidates)} fluorescence series ({', '.join(sorted(found)) or 'none at all'}); "
            "name one with the reader option `series`"
        )
    return next(iter(candidates.values()))


def _wanted(file: NWBFile, name: str, path: str) -> RoiResponseSeries:
    series = find_series(file, name, path)
    if not isinstance(series, RoiResponseSeries):
        raise Unreadable(f"{name}: {path!r} is not a RoiResponseSeries")
    return series


def _time_by_roi(series: RoiResponseSeries, name: str) -> npt.NDArray[np.float64]:
    """Return [time, ROI] in the series' unit.

    NWB asks for time first, but files of NWB 2.5 and before by Suite2p's exporter hold ROI x time: the length of
    the ROI region decides, and where that leaves both axes, the number of timestamps does.
    """
    n_roi = len(series.rois.data)
    shape = series.data.shape
    if len(shape) != 2 or n_roi not in shape:
        raise Unreadable(f"{name}: {series.name!r} has shape {shape} for {n_roi} ROIs")
    n_times = None if series.timestamps is None else len(series.timestamps)
    fitting = [axis for axis in (0, 1) if shape[1 - axis] == n_roi and n_times in (None, shape[axis])]
    if not fitting:
        raise Unreadable(f"{name}: {series.name!r} has shape {shape} for {n_roi} ROIs and {n_times} timestamps")
    values = scaled(series, series.data)
    return values if fitting[0] == 0 else np.ascontiguousarray(values.T)


def _channels(series: RoiResponseSeries) -> Channels:
    table = series.rois.table
    rows = [int(row) for row in series.rois.data[:]]
    position = np.stack([_centroid(table, row) for row in rows])
    known = bool(np.isfinite(position).any())
    quality: dict[str, npt.NDArray[np.float64]] = {}
    if "iscell" in table.colnames:
        # Suite2p: two columns, the verdict and the classifier's probability.
        iscell = np.asarray([np.atleast_1d(table["iscell"][row]) for row in rows], dtype=np.float64)
        quality["iscell"] = iscell[:, 0]
        if iscell.shape[1] == 2:
            quality["iscell_probability"] = iscell[:, 1]
    return Channels(
        id=tuple(f"roi-{roi}" for roi in np.asarray(table.id[:])[rows]),
        position=position if known else unknown_positions(len(rows)),
        position_unit="px" if known else "",
        space="imaging-plane",
        quality=quality,
    )


def _centroid(table: Any, row: int) -> npt.NDArray[np.float64]:
    """Return the weighted centre (x, y, 0) of a ROI's mask in pixels, NaN where the mask has no two dimensions."""
    if "pixel_mask" in table.colnames:
        mask = table["pixel_mask"][row]
        x, y, weight = (np.asarray(mask[column], dtype=np.float64) for column in ("x", "y", "weight"))
    elif "image_mask" in table.colnames:
        image = np.asarray(table["image_mask"][row], dtype=np.float64)
        # Some exporters flatten the image to one row: the pixels' places are lost.
        if image.ndim != 2 or min(image.shape) < 2:
            return np.full(3, np.nan)
        y, x = (axis.astype(np.float64) for axis in np.nonzero(image))
        weight = image[image != 0]
    else:
        return np.full(3, np.nan)
    if not weight.sum() > 0:
        return np.full(3, np.nan)
    return np.array([np.average(x, weights=weight), np.average(y, weights=weight), 0.0])
