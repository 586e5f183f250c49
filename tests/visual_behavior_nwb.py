"""A session in the layout of the Allen Institute's Visual Behavior Neuropixels: its own files cannot be had here.

Spikes are those of mouse A2929 (head-direction and CA1 cells), running speed is that of its head, and the pupil is
that of a mouse of Park 2024 (16 Hz there). Metrics, places of electrodes, trials and images are made up. What pynwb
lacks the types for is put with h5py: the ellipses of `ndx-ellipse-eye-tracking` and the probes of `ndx-aibs-ecephys`.
Both come with allensdk only, no package index has them. Groups, attributes, types and the fill for lacking integers
were compared once with what allensdk 2.16.2 (pynwb 2.8.0) writes of such tables; a test lets allensdk read this file.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from scipy.ndimage import binary_dilation

UNITS = 15
PEAK = 850_000
LACKING = -99
"""What the archive's writer puts where an integer is lacking."""
IMAGES = "Natural_Images_Lum_Matched_set_ophys_G_2019_presentations"
PUPIL_START_S, PUPIL_RATE_HZ = 5.0, 16.0
BLINKS = ((100, 102), (2000, 2032))
"""Frames in which no ellipse could be fitted: an eighth of a second, and two seconds."""
STRUCTURES = ("VISp2/3", "VISl5", "CA1", "LGd")

_Floats = npt.NDArray[np.float64]
_ELLIPSES = "ndx-ellipse-eye-tracking"
_PROBES = "ndx-aibs-ecephys"
_COLUMNS = (
    "snr", "firing_rate", "isi_violations", "presence_ratio", "amplitude_cutoff", "isolation_distance", "l_ratio",
    "d_prime", "nn_hit_rate", "nn_miss_rate", "silhouette_score", "max_drift", "cumulative_drift", "waveform_duration",
    "PT_ratio", "repolarization_slope", "recovery_slope", "amplitude", "spread", "velocity_above", "velocity_below",
    "cluster_id", "local_index", "peak_channel_id", "quality",
)  # fmt: skip
_NONE = np.nan
TRIALS: dict[str, list[Any]] = {
    # A hit, a miss, an aborted trial, a false alarm, a correct rejection, and one with a reward for free.
    "initial_image_name": ["im012_r", "im036_r", "im012_r", "im012_r", "im012_r", "im012_r"],
    "change_image_name": ["im036_r", "im012_r", "im012_r", "im012_r", "im012_r", "im104_r"],
    "is_change": [True, True, False, False, False, True],
    "change_time_no_display_delay": [3.5, 13.25, _NONE, 33.5, 43.25, 53.0],
    "go": [True, True, False, False, False, False],
    "catch": [False, False, False, True, True, False],
    "response_time": [3.95, _NONE, _NONE, 33.9, _NONE, _NONE],
    "reward_time": [3.96, _NONE, _NONE, _NONE, _NONE, 53.15],
    "reward_volume": [0.007, 0.0, 0.0, 0.0, 0.0, 0.005],
    "hit": [True, False, False, False, False, False],
    "false_alarm": [False, False, False, True, False, False],
    "miss": [False, True, False, False, False, False],
    "correct_reject": [False, False, False, False, True, False],
    "aborted": [False, False, True, False, False, False],
    "auto_rewarded": [False, False, False, False, False, True],
    "change_frame": [210, 795, LACKING, 2010, 2595, 3180],
    "trial_length": [10.0] * 6,
}
LICKS: tuple[list[float], ...] = ([3.95, 4.1, 4.2], [], [21.0], [33.9], [], [53.3, 53.4])
"""Times of licks by trial, seconds."""
_SHOWN: dict[str, dict[str, list[Any]]] = {
    # Flashes of a quarter of a second, every 0.75 s; the last one is of the passive replay.
    IMAGES: {
        "start_time": [2.0, 2.75, 3.5, 4.25, 100.0],
        "stop_time": [2.25, 3.0, 3.75, 4.5, 100.25],
        "stimulus_block": [0, 0, 0, 0, 5],
        "image_name": ["im012_r", "omitted", "im036_r", "im036_r", "im036_r"],
        "is_change": [0.0, 0.0, 1.0, 0.0, 1.0],
        "omitted": [0.0, 1.0, 0.0, 0.0, 0.0],
        "rewarded": [0.0, 0.0, 1.0, 0.0, 0.0],
        "flashes_since_change": [7, 8, 0, 1, 0],
        "active": [True, True, True, True, False],
        "start_frame": [120, 165, 210, 255, 6000],
        "end_frame": [135.0, _NONE, 225.0, 270.0, 6015.0],
    },
    "spontaneous_presentations": {
        "start_time": [60.0], "stop_time": [70.0], "stimulus_block": [1], "active": [False],
        "flashes_since_change": [LACKING],
    },
    "gabor_20_deg_250ms_presentations": {
        "start_time": [70.0, 70.25], "stop_time": [70.25, 70.5], "stimulus_block": [2, 2], "active": [False, False],
        "flashes_since_change": [LACKING] * 2, "orientation": [0.0, 45.0], "position_x": [-40.0, 30.0],
    },
}  # fmt: skip


def head_speed(a2929: Path) -> tuple[_Floats, _Floats]:
    """Return [time] seconds, and the speed of A2929's head in them, cm/s."""
    with h5py.File(a2929) as file:
        place = file["acquisition/Position"]
        time_s, x, z = (place[path][::10] for path in ("x/timestamps", "x/data", "z/data"))
    return time_s[1:], 100 * np.hypot(np.diff(x), np.diff(z)) / np.diff(time_s)


def pupil_area(park: Path) -> tuple[_Floats, _Floats, npt.NDArray[np.bool_]]:
    """Return [time] seconds, the area in square pixels (NaN where no ellipse was fitted), and the likely blinks.

    As in the archive's pipeline, areas beyond three standard deviations are blinks, too, and two frames to either side.
    """
    trials = scipy.io.loadmat(park, simplify_cells=True, variable_names=["D"])["D"]["pupil_zscore"]
    area = 2000 + 1000 * np.concatenate([np.ravel(trial) for trial in trials])
    for start, stop in BLINKS:
        area[start:stop] = np.nan
    far = np.abs(area - np.nanmean(area)) > 3 * np.nanstd(area)
    blink = binary_dilation(np.isnan(area) | far, iterations=2)
    return PUPIL_START_S + np.arange(len(area)) / PUPIL_RATE_HZ, area, blink


def write_visual_behavior(
    path: Path, trains: list[_Floats], *, a2929: Path, park: Path, behaviour: bool = True, definitions: bool = True
) -> Path:
    """Write the session; without `behaviour`, one whose eye camera and wheel failed.

    Without `definitions`, the file lacks the copy of the extensions' types that pynwb puts into every file.
    """
    file = NWBFile(
        session_description="-", identifier="1064644573", session_start_time=datetime(2020, 1, 1, tzinfo=UTC)
    )
    _put_units(file, trains)
    frames = np.arange(0.0, 120.0, 1 / 60)
    shown = TimeSeries(name="timestamps", data=frames, timestamps=frames, unit="s")
    file.create_processing_module("stimulus", "-").add(shown)
    if behaviour:
        time_s, speed = head_speed(a2929)
        running = file.create_processing_module("running", "-")
        running.add(TimeSeries(name="speed", data=speed, timestamps=time_s, unit="cm/s"))
        running.add(TimeSeries(name="speed_unfiltered", data=speed + 1, timestamps=time_s, unit="cm/s"))
    for name, columns in _SHOWN.items():
        table = TimeIntervals(name=name, description="-")
        for column in ("stimulus_name", *columns):
            if column not in {"start_time", "stop_time"}:
                table.add_column(column, "-")
        for row in zip(*columns.values(), strict=True):
            said = dict(zip(columns, row, strict=True)) | {"stimulus_name": name.removesuffix("_presentations")}
            table.add_interval(**said, tags="stimulus_time_interval", timeseries=shown)
        file.add_time_intervals(table)
    for trial in range(6):
        file.add_trial(start_time=10.0 * trial, stop_time=10.0 * trial + 10)
    for column, values in TRIALS.items():
        file.add_trial_column(column, "-", data=values)
    ends = np.cumsum([len(trial) for trial in LICKS]).tolist()
    file.add_trial_column("lick_times", "-", data=np.concatenate(LICKS), index=ends)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    with h5py.File(path, "r+") as written:
        _put_probes(written)
        if behaviour:
            _put_eye(written, park)
        if definitions:
            _put_definitions(written)
    return path


def _put_units(file: NWBFile, trains: list[_Floats]) -> None:
    """Put fifteen units on two probes; unit 3 is noise, and each of the next three breaks one of the usual limits."""
    groups = [
        file.create_electrode_group(name, description="-", location="-", device=file.create_device(name))
        for name in ("probeA", "probeB")
    ]
    for column in ("probe_vertical_position", "probe_horizontal_position", "probe_id", "probe_channel_number"):
        file.add_electrode_column(column, "-")
    file.add_electrode_column("valid_data", "-")
    for row in range(UNITS):
        # Without histology, coordinates are -1, and there is no structure.
        place = (8000.0 + row, 2000.0, 7000.0) if row else (-1.0, -1.0, -1.0)
        file.add_electrode(
            x=place[0], y=place[1], z=place[2], location=STRUCTURES[row % 4] if row else "None", group=groups[row % 2],
            id=PEAK + row, valid_data=True, probe_id=700 + row % 2, probe_channel_number=row,
            probe_vertical_position=20 * row, probe_horizontal_position=43,
        )  # fmt: skip
    for column in _COLUMNS:
        file.add_unit_column(column, "-")
    file.add_unit_column("spike_amplitudes", "-", index=True)
    for row, train in enumerate(trains):
        said: dict[str, Any] = dict.fromkeys(_COLUMNS, 1.0 + row)
        said |= {"cluster_id": row, "local_index": row, "peak_channel_id": PEAK + UNITS - 1 - row}
        said |= {"quality": "noise" if row == 3 else "good", "firing_rate": len(train) / 1200}
        said |= {"isi_violations": 0.6 if row == 4 else 0.1, "amplitude_cutoff": 0.2 if row == 5 else 0.05}
        said |= {"presence_ratio": 0.8 if row == 6 else 0.99, "max_drift": np.nan}
        file.add_unit(
            id=950_000 + row, spike_times=train, spike_amplitudes=np.ones(len(train)), waveform_mean=np.zeros((2, 3)),
            **said,
        )  # fmt: skip


def _typed(group: h5py.Group, namespace: str, kind: str, **said: object) -> h5py.Group:
    group.attrs.update({"namespace": namespace, "neurodata_type": kind, **said})
    return group


def _put_probes(file: h5py.File) -> None:
    """Turn the table and groups of electrodes, and their devices, into the archive's types."""
    _typed(file["general/extracellular_ephys/electrodes"], "hdmf-common", "DynamicTable")
    for number, name in enumerate(("probeA", "probeB")):
        said: dict[str, Any] = {"probe_id": 700 + number}
        _typed(file["general/devices"][name], _PROBES, "EcephysProbe", **said, sampling_rate=30000.0)
        said |= {"has_lfp_data": True, "lfp_sampling_rate": 1250.0}
        _typed(file["general/extracellular_ephys"][name], _PROBES, "EcephysElectrodeGroup", **said)


def _put_eye(file: h5py.File, park: Path) -> None:
    """Put the ellipses: one series has the times, and the others point to them."""
    time_s, area, blink = pupil_area(park)
    eye = file["acquisition"].create_group("EyeTracking")
    _typed(eye, _ELLIPSES, "EllipseEyeTracking", object_id="eye")
    said = {"comments": "no comments", "description": "no description"}
    for name, scale in (("eye_tracking", 4.0), ("pupil_tracking", 1.0), ("corneal_reflection_tracking", 0.1)):
        series = _typed(eye.create_group(name), _ELLIPSES, "EllipseSeries", object_id=name, **said)
        _put_data(series, np.stack([300 + 0 * area, 200 + 0 * area], axis=1), unit="meters")
        series["area"], series["area_raw"] = np.where(blink, np.nan, area * scale), area * scale
        series["width"] = series["height"] = np.sqrt(area * scale / np.pi)
        series["angle"] = 0 * area
        series["reference_frame"] = "nose"
    series = _typed(eye.create_group("likely_blink"), "core", "TimeSeries", object_id="blink", **said)
    _put_data(series, blink, unit="N/A")
    times = eye["eye_tracking"].create_dataset("timestamps", data=time_s)
    times.attrs.update({"interval": 1, "unit": "seconds"})
    for name in ("pupil_tracking", "corneal_reflection_tracking", "likely_blink"):
        eye[name]["timestamps"] = h5py.SoftLink("/acquisition/EyeTracking/eye_tracking/timestamps")


def _put_data(series: h5py.Group, values: npt.NDArray[Any], *, unit: str) -> None:
    data = series.create_dataset("data", data=values)
    data.attrs.update({"conversion": 1.0, "offset": 0.0, "resolution": -1.0, "unit": unit})


def _put_definitions(file: h5py.File) -> None:
    """Put the types of both extensions where pynwb keeps its copy of them, ``/specifications``."""
    ellipse = [_dataset("data", "numeric", [None, 2])]
    ellipse += [_dataset(name, "float", [None]) for name in ("area", "area_raw", "width", "height", "angle")]
    parts = dict.fromkeys(("eye_tracking", "pupil_tracking", "corneal_reflection_tracking"), "EllipseSeries")
    parts["likely_blink"] = "TimeSeries"
    tracking = [{"name": name, "neurodata_type_inc": kind, "doc": "-"} for name, kind in parts.items()]
    _put_extension(
        file, _ELLIPSES, "0.1.0", "ndx-ellipse-eye-tracking.extensions",
        [
            _kind("EllipseSeries", "SpatialSeries", datasets=ellipse),
            _kind("EllipseEyeTracking", "EyeTracking", default_name="EyeTracking", groups=tracking),
        ],
    )  # fmt: skip
    probe = {"sampling_rate": "float64", "probe_id": "int"}
    group = {"has_lfp_data": "bool", "probe_id": "int", "lfp_sampling_rate": "float64"}
    _put_extension(
        file, _PROBES, "0.2.0", "ndx-aibs-ecephys.extension",
        [
            _kind("EcephysProbe", "Device", attributes=_attributes(probe)),
            _kind("EcephysElectrodeGroup", "ElectrodeGroup", attributes=_attributes(group)),
        ],
    )  # fmt: skip


def _kind(name: str, parent: str, **said: object) -> dict[str, object]:
    return {"neurodata_type_def": name, "neurodata_type_inc": parent, "doc": "-", **said}


def _dataset(name: str, dtype: str, shape: list[int | None]) -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape, "doc": "-"}


def _attributes(dtypes: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "dtype": dtype, "doc": "-"} for name, dtype in dtypes.items()]


def _put_extension(file: h5py.File, name: str, version: str, source: str, kinds: list[dict[str, object]]) -> None:
    space = {
        "name": name, "version": version, "doc": "-", "author": ["-"], "contact": ["-"],
        "schema": [{"namespace": "core"}, {"source": source}],
    }  # fmt: skip
    group = file["specifications"].create_group(f"{name}/{version}")
    group["namespace"] = json.dumps({"namespaces": [space]})
    group[source] = json.dumps({"groups": kinds})
