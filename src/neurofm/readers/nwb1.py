"""Allen Brain Observatory two-photon files of NWB 1.0, which pynwb does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening, unknown_positions
from neurofm.readers.shared.nwb_ophys import nominal_rate_hz
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.stimulus import StimulusSource, grey_frames, presented
from neurofm.recording import Channels, Events, Modality, Recording, Signal, Stimulus, Target, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("h5py", "numpy")

_PIPELINE = "processing/brain_observatory_pipeline"
_DFF = f"{_PIPELINE}/DfOverF/imaging_plane_1"
_ROIS = f"{_PIPELINE}/ImageSegmentation"
_PRESENTED = "stimulus/presentation"
_TARGETS = {
    "running_speed": (f"{_PIPELINE}/BehavioralTimeSeries/running_speed", "cm/s", ("running_speed",)),
    "pupil": (f"{_PIPELINE}/PupilTracking/pupil_size", "px2", ("pupil_size",)),
    "gaze": (f"{_PIPELINE}/EyeTracking/pupil_location_spherical", "degree", ("altitude", "azimuth")),
}
"""Path, unit and columns (allensdk 2.16, `BrainObservatoryNwbDataSet`)."""
_FACTS = {
    "session_type": "general/session_type",
    "imaging_depth": "general/optophysiology/imaging_plane_1/imaging depth",
    "genotype": "general/subject/genotype",
    "sex": "general/subject/sex",
}

Floats = npt.NDArray[np.float64]


class Options(Settings):
    """What of the file is wanted."""

    events: bool = True
    """The stimulus presentations."""
    stimulus: StimulusSource | None = None
    """Images or a film that were shown, kept frame by frame; none by default, since they are large."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read dF/F with running speed, pupil and stimulus presentations (de Vries 2020, 10.1038/s41593-019-0550-9).

    Parameters
    ----------
    source
        ``main`` is the NWB 1.0 file.
    options
        Whether presentations become events, and which images are wanted.

    Returns
    -------
    Recording
        `signal` [time, cell] dF/F with its measured times; channels named by cell specimen, at the centre of their
        mask in pixels, in the plane's area. A session without running or pupil is read without them.

    Raises
    ------
    Unreadable
        If the file is damaged, no NWB 1.0 of that pipeline, or its parts do not fit each other.
    """
    path = source.path()
    if source.modality is not Modality.CALCIUM:
        raise Unreadable(f"{path.name}: reader 'nwb1' knows calcium, not {source.modality}")
    with opening(path), h5py.File(path, "r") as file:
        if _DFF not in file:
            raise Unreadable(f"{path.name}: no {_DFF}; is it an NWB 1.0 file of the Allen Brain Observatory?")
        times = _times(file[_DFF], path.name)
        channels = _channels(file, path.name)
        values = _time_by_cell(file[f"{_DFF}/data"], n_times=len(times), n_cells=len(channels), name=path.name)
        scalars = participant_scalars(source) | {
            fact: _text(file[where][()]) for fact, where in _FACTS.items() if where in file
        }
        rate_hz = nominal_rate_hz(times, path.name)
        return build(
            source,
            channels=channels,
            signal=Signal(values=values, sampling_rate_hz=rate_hz, units="dF/F", start_s=float(times[0])),
            sample_time_s=times,
            events=_events(file, times, path.name) if options.events else None,
            targets=_targets(file, path),
            stimulus=_stimulus(file, times, options.stimulus, path.name) if options.stimulus is not None else None,
            scalars=scalars,
        )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _times(group: h5py.Group, name: str) -> Floats:
    times = np.asarray(group["timestamps"][()], dtype=np.float64)
    # `not all(>)` rather than `any(<=)`: a NaN timestamp must fail, too.
    if not np.all(np.diff(times) > 0) or not np.isfinite(times).all():
        raise Unreadable(f"{name}: timestamps of {group.name!r} do not rise")
    return times


def _time_by_cell(data: h5py.Dataset, *, n_times: int, n_cells: int, name: str) -> Floats:
    """Return [time, cell]. The archive stores cells first; where both axes fit, that holds."""
    if data.shape not in {(n_cells, n_times), (n_times, n_cells)}:
        raise Unreadable(f"{name}: dF/F is {data.shape} for {n_cells} cells and {n_times} timestamps")
    values = np.asarray(data[()], dtype=np.float64)
    return np.ascontiguousarray(values.T) if data.shape == (n_cells, n_times) else values


def _channels(file: h5py.File, name: str) -> Channels:
    cells = file[f"{_ROIS}/cell_specimen_ids"][()]
    plane = file[f"{_ROIS}/imaging_plane_1"]
    rois = [_text(roi) for roi in plane["roi_list"][()]] if "roi_list" in plane else []
    if rois and len(rois) != len(cells):
        raise Unreadable(f"{name}: {len(cells)} cell specimens but {len(rois)} regions of interest")
    position = (
        np.stack([_centre(plane[roi]["img_mask"][()]) for roi in rois]) if rois else unknown_positions(len(cells))
    )
    known = bool(np.isfinite(position).any())
    where = "general/optophysiology/imaging_plane_1/location"
    # "VISp", or in the older pipeline "Area: VISp, depth: 175 um".
    area = _text(file[where][()]).removeprefix("Area: ").partition(",")[0] if where in file else ""
    return Channels(
        id=tuple(f"cell-{cell}" for cell in cells),
        position=position,
        position_unit="px" if known else "",
        space="imaging-plane",
        region=(area,) * len(cells),
    )


def _centre(mask: npt.NDArray[Any]) -> Floats:
    """Return the centre (x, y, 0) of a mask [y, x]; NaN where it is empty."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean(), 0.0]) if len(x) else np.full(3, np.nan)


def _targets(file: h5py.File, path: Path) -> dict[str, Target]:
    found: dict[str, Target] = {}
    for target, (where, unit, columns) in _TARGETS.items():
        if where not in file:
            continue
        times = _times(file[where], path.name)
        # Pipeline 0.9 stored running speed as [time, 1].
        values = np.asarray(file[where]["data"][()], dtype=np.float64).reshape(len(file[where]["data"]), -1)
        if values.shape != (len(times), len(columns)):
            raise Unreadable(f"{path.name}: {where!r} is {values.shape} for {len(times)} timestamps")
        found[target] = Target(values=values, unit=unit, columns=columns, time_s=times)
    return found


def _events(file: h5py.File, times: Floats, name: str) -> Events | None:
    """Return every presentation; its first and last two-photon frame become seconds."""
    tables = []
    for stimulus in sorted(file.get(_PRESENTED, {})):
        group = file[f"{_PRESENTED}/{stimulus}"]
        if "frame_duration" in group and len(group["frame_duration"]) > 0:
            label = stimulus.removesuffix("_stimulus")
            frames, columns = _presentations(group, label)
            _check_inside(frames, stimulus, n_times=len(times), name=name)
            tables.append((label, frames, columns))
    if not tables:
        return None
    onset = np.concatenate([times[frames[:, 0]] for _, frames, _ in tables])
    stop = np.concatenate([times[frames[:, 1]] for _, frames, _ in tables])
    label = [one for one, frames, _ in tables for _ in frames]
    order = sorted(range(len(onset)), key=lambda row: (onset[row], stop[row], label[row]))
    names = dict.fromkeys(column for _, _, columns in tables for column in columns)

    def together(column: str) -> Floats:
        return np.concatenate([one.get(column, np.full(len(frames), np.nan)) for _, frames, one in tables])[order]

    return Events(
        onset_s=onset[order],
        duration_s=np.maximum(stop - onset, 0)[order],
        label=tuple(label[row] for row in order),
        columns={column: together(column) for column in names},
    )


def _stimulus(file: h5py.File, times: Floats, source: StimulusSource, name: str) -> Stimulus | None:
    """Return a template's frames and when each was seen, from its first two-photon frame to the end of its last."""
    stack, shown = f"stimulus/templates/{source.template}_image_stack", f"{_PRESENTED}/{source.template}_stimulus"
    missing = [path for path in (f"{stack}/data", f"{shown}/frame_duration", f"{shown}/data") if path not in file]
    if missing:
        if source.optional:
            return None
        raise Unreadable(f"{name}: no {missing[0]}")
    where = f"{name}: stimulus {source.template!r}"
    span, columns = _presentations(file[shown], source.template)
    _check_inside(span, source.template, n_times=len(times), name=name)
    if list(columns) != ["frame"] or len(columns["frame"]) != len(span):
        raise Unreadable(f"{where}: its presentations have no frame numbers, or not one each")
    order = np.argsort(span[:, 0], kind="stable")
    first, last = span[order].T
    edges = np.append(times, 2 * times[-1] - times[-2])
    onset_s, stop_s = edges[first], edges[last + 1]
    # Films run at the rate of the scan, so that one's last two-photon frame is often the next one's first.
    shared = np.flatnonzero(first[1:] == last[:-1])
    stop_s[shared] = onset_s[shared + 1]
    return presented(
        grey_frames(file[f"{stack}/data"], source=source, where=where),
        onset_s=onset_s,
        stop_s=stop_s,
        frame=columns["frame"][order],
        source=source,
        where=where,
    )


def _check_inside(frames: npt.NDArray[np.int64], stimulus: str, *, n_times: int, name: str) -> None:
    if len(frames) == 0 or frames.shape != (len(frames), 2) or frames.min() < 0 or frames.max() >= n_times:
        raise Unreadable(f"{name}: frames of {stimulus!r} are none, or outside of the {n_times} of the recording")


def _presentations(group: h5py.Group, label: str) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Return the [presentation, 2] first and last frames, and what is said of each presentation."""
    frames = np.asarray(group["frame_duration"][()]).astype(np.int64)
    data = np.asarray(group["data"][()], dtype=np.float64)
    if label == "spontaneous":
        # Rows say in turn that the grey screen began (1) and ended (-1).
        return np.stack([frames[data == 1, 0], frames[data == -1, 0]], axis=1), {}
    if "features" in group:
        return frames, {_text(feature): data[:, i] for i, feature in enumerate(group["features"][()])}
    # Images and movies: which picture of the template was shown.
    return frames, {"frame": data.reshape(-1)}
