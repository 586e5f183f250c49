"""Files in the layouts of the Allen Institute, made of real recordings of others: its own cannot be had here.

The units are those of A2929 (head-direction and CA1 cells), the fluorescence that of A0662 (219 ROIs, 10 Hz); channel
ids, metrics, running speed and stimuli are made up, only their layout is the archive's; the film is a brain's
(`tests.pictures`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries

UNITS = 15
PEAK = 850_000_000


def trains_of(a2929: Path) -> list[npt.NDArray[np.float64]]:
    """Return the spike times of the 15 units of A2929."""
    with h5py.File(a2929) as file:
        return np.split(file["units/spike_times"][()], file["units/spike_times_index"][()][:-1])


def write_ecephys(
    path: Path,
    trains: list[npt.NDArray[np.float64]],
    *,
    running: bool = True,
    film: npt.NDArray[Any] | None = None,
) -> Path:
    """Write a session as allensdk's writer lays Visual Coding Neuropixels out (NWB 2, /units with peak_channel_id).

    A film is shown twice from 100 s on, 30 frames a second, with 10 s of grey between.
    """
    file = NWBFile(session_description="-", identifier="1", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    groups = [
        file.create_electrode_group(name, description="-", location="-", device=file.create_device(name))
        for name in ("probeA", "probeB")
    ]
    for column in ("valid_data", "probe_id", "local_index", "probe_vertical_position", "probe_horizontal_position"):
        file.add_electrode_column(column, "-")
    for row in range(UNITS):
        place = (8000.0 + row, 2000.0, 7000.0) if row else (-1.0, -1.0, -1.0)
        file.add_electrode(
            x=place[0], y=place[1], z=place[2], location="VISp" if row else "None", group=groups[row % 2],
            id=PEAK + row, valid_data=True, probe_id=700 + row % 2, local_index=row,
            probe_vertical_position=20 * row, probe_horizontal_position=43,
        )  # fmt: skip
    for column in ("peak_channel_id", "quality", "snr", "firing_rate", "isi_violations", "amplitude_cutoff"):
        file.add_unit_column(column, "-")
    for row, train in enumerate(trains):
        file.add_unit(
            id=950_000_000 + row, spike_times=train, peak_channel_id=PEAK + UNITS - 1 - row,
            quality="noise" if row == 3 else "good", snr=1.0 + row, firing_rate=len(train) / 1200.0,
            isi_violations=0.1 * row, amplitude_cutoff=np.nan if row == 5 else 0.01,
        )  # fmt: skip
    if running:
        module = file.create_processing_module("running", "-")
        start = np.arange(0.0, 100.0, 0.017)
        module.add(TimeSeries(name="running_speed", data=np.sin(start), timestamps=start, unit="cm/s"))
        module.add(TimeSeries(name="running_speed_end_times", data=start, timestamps=start + 0.016, unit="cm/s"))
    _add_presentations(file)
    if film is not None:
        _add_film(file, film)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    if film is not None:
        _add_index(path, frames=len(film))
    return path


def film_onsets_s(frames: int) -> npt.NDArray[np.float64]:
    """Return when each frame of `write_ecephys`' film came on, both times."""
    once = 100.0 + np.arange(frames) / 30.0
    return np.concatenate([once, once[-1] + 1 / 30.0 + 10.0 + np.arange(frames) / 30.0])


def _add_presentations(file: NWBFile) -> None:
    for stimulus, columns in _STIMULI.items():
        table = TimeIntervals(name=f"{stimulus}_presentations", description="-")
        for column in columns:
            table.add_column(column, "-")
        for row in range(3):
            extra = {column: values[row] for column, values in columns.items()}
            begin = 10.0 * row + (5.0 if stimulus == "flashes" else 0.0)
            table.add_interval(start_time=begin, stop_time=begin + 2.0, tags=["stimulus_time_interval"], **extra)
        file.add_time_intervals(table)


def _add_film(file: NWBFile, film: npt.NDArray[Any]) -> None:
    """Add it as allensdk does: a template, and a table of its presentations."""
    template = ImageSeries(name="natural_movie_one", data=film, unit="NA", format="raw", starting_time=0.0, rate=1.0)
    file.add_stimulus_template(template)
    onset_s = film_onsets_s(len(film))
    frame = np.tile(np.arange(len(film)), 2)
    table = TimeIntervals(name="natural_movie_one_presentations", description="-")
    table.add_column("frame", "-")
    for row, begin in enumerate(onset_s):
        table.add_interval(start_time=begin, stop_time=begin + 1 / 30.0, frame=float(frame[row]))
    file.add_time_intervals(table)


def _add_index(path: Path, *, frames: int) -> None:
    """Add the index series that allensdk writes, too; pynwb reads one of a film, but writes none any more."""
    with h5py.File(path, "r+") as file:
        index = file["stimulus/presentation"].create_group("natural_movie_one")
        index.attrs.update(
            neurodata_type="IndexSeries", namespace="core", object_id="i-1", description="-", comments="-"
        )
        index["data"] = np.tile(np.arange(frames, dtype=np.uint32), 2)
        index["data"].attrs.update(unit="N/A", conversion=1.0, offset=0.0, resolution=-1.0)
        index["timestamps"] = film_onsets_s(frames)
        index["timestamps"].attrs.update(unit="seconds", interval=1)
        index["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/natural_movie_one")


def write_large(path: Path, trains: list[npt.NDArray[np.float64]], *, lfp_bytes: int) -> Path:
    """Write a session as `write_ecephys` does, with so many bytes in the place of LFP, in chunks as writers have it."""
    write_ecephys(path, trains)
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        file.add_acquisition(TimeSeries(name="lfp", data=np.zeros((2, 4), np.int16), unit="V", rate=1250.0))
        io.write(file)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["acquisition/lfp/data"].attrs)
        del file["acquisition/lfp/data"]
        shape, chunks = (lfp_bytes // 200, 100), (5000, 100)
        data = file.create_dataset("acquisition/lfp/data", shape=shape, dtype=np.int16, chunks=chunks, fillvalue=7)
        data.attrs.update(attributes)
        data[::5000] = 1
    return path


_STIMULI: dict[str, dict[str, list[Any]]] = {
    "drifting_gratings": {
        "stimulus_name": ["drifting_gratings"] * 3,
        "orientation": ["45.0", "null", "90.0"],
        "temporal_frequency": [2.0, 4.0, np.nan],
    },
    "flashes": {"stimulus_name": ["flashes"] * 3, "contrast": [0.8, 0.8, 0.8], "color": ["-1.0", "1.0", "N/A"]},
}


def write_brain_observatory(
    path: Path, a0662: Path, *, cells: int = 5, film: npt.NDArray[np.uint8] | None = None
) -> Path:
    """Write an experiment as the Allen Brain Observatory has it in NWB 1.0: cells x time, frames for times.

    allensdk's `BrainObservatoryNwbDataSet` is the description of that layout. A film is shown twice, from two-photon
    frame 1000 on: each of its frames for one of the scan's, every second for two, which shares that with the next.
    """
    with h5py.File(a0662) as real, h5py.File(path, "w") as file:
        traces = real["processing/ophys/Fluorescence/Fluorescence/data"][:cells]
        times = 3.0 + np.arange(traces.shape[1]) / 30.0
        pipeline = file.create_group("processing/brain_observatory_pipeline")
        for where in ("DfOverF", "Fluorescence"):
            pipeline[f"{where}/imaging_plane_1/data"] = traces
            pipeline[f"{where}/imaging_plane_1/timestamps"] = times
        pipeline["ImageSegmentation/cell_specimen_ids"] = 517_000_000 + np.arange(cells)
        plane = pipeline.create_group("ImageSegmentation/imaging_plane_1")
        plane["roi_list"] = [f"roi_{cell}".encode() for cell in range(cells)]
        for cell in range(cells):
            mask = np.zeros((16, 16), dtype=np.uint8)
            mask[cell : cell + 3, 4:7] = 1
            plane[f"roi_{cell}/img_mask"] = mask
        # The wheel starts two frames late, as in the archive's files.
        pipeline["BehavioralTimeSeries/running_speed/data"] = np.sin(times[2:])
        pipeline["BehavioralTimeSeries/running_speed/timestamps"] = times[2:]
        file["general/session_type"] = np.bytes_("three_session_A")
        file["general/optophysiology/imaging_plane_1/location"] = np.bytes_("VISp")
        shown = file.create_group("stimulus/presentation")
        shown["drifting_gratings_stimulus/data"] = [[2.0, 45.0, 0.0], [np.nan, np.nan, 1.0]]
        shown["drifting_gratings_stimulus/features"] = [b"temporal_frequency", b"orientation", b"blank_sweep"]
        shown["drifting_gratings_stimulus/frame_duration"] = [[100, 160], [190, 250]]
        shown["natural_scenes_stimulus/data"] = [17, -1]
        shown["natural_scenes_stimulus/frame_duration"] = [[400, 407], [408, 415]]
        shown["spontaneous_stimulus/data"] = [1, -1]
        shown["spontaneous_stimulus/frame_duration"] = [[500, 500], [900, 900]]
        if film is not None:
            frame = np.tile(np.arange(len(film)), 2)
            first = 1000 + np.arange(len(frame))
            file["stimulus/templates/natural_movie_one_image_stack/data"] = film
            shown["natural_movie_one_stimulus/data"] = frame
            shown["natural_movie_one_stimulus/frame_duration"] = np.stack([first, first + frame % 2], axis=1)
    return path
