"""Spikes and fluorescence from NWB files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import TimeSeries as BaseTimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, PlaneSegmentation, RoiResponseSeries
from sklearn.linear_model import Ridge

from neurofm.errors import UserError
from neurofm.preprocess.common import align_target
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable

TARGETS = {
    "head_direction": {"paths": ["acquisition/CompassDirection/ry"], "kind": "angle"},
    "position": {"paths": ["acquisition/Position/x", "acquisition/Position/z"], "kind": "linear"},
}
Source = Callable[..., ReaderInput]

# What pynwb says while the files for these tests are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The linked table"),
    pytest.mark.filterwarnings("ignore:RoiResponseSeries 'green'"),
]


@pytest.fixture(scope="module")
def spikes(sample_source: Source) -> Recording:
    return read_recording("nwb", sample_source("a2929-hd"), {"targets": TARGETS, "events": ["epochs", "sleep_ripples"]})


@pytest.fixture(scope="module")
def calcium(sample_source: Source) -> Recording:
    return read_recording("nwb", sample_source("a0662-2p"), {})


def test_units_and_their_spikes_are_the_files(spikes: Recording, sample_source: Source) -> None:
    with h5py.File(sample_source("a2929-hd").path()) as file:
        trains = np.split(file["units/spike_times"][()], file["units/spike_times_index"][()][:-1])
    assert spikes.spikes is not None
    assert len(spikes.channels) == len(trains) == 15
    assert np.all(np.diff(spikes.spikes.time_s) >= 0)
    for unit, train in enumerate(trains):
        np.testing.assert_array_equal(spikes.spikes.time_s[spikes.spikes.channel == unit], train)
    assert spikes.channels.region == ("adn",) * 7 + ("ca1",) * 8


def test_observation_lasts_as_long_as_the_epochs(spikes: Recording) -> None:
    assert spikes.spikes is not None
    assert (spikes.spikes.start_s, spikes.spikes.stop_s) == (0.0, 1200.0)


def test_placeholder_coordinates_are_no_positions(spikes: Recording) -> None:
    assert np.isnan(spikes.channels.position).all()
    assert spikes.channels.position_unit == ""


def test_epochs_keep_their_tags_and_other_tables_their_name(spikes: Recording) -> None:
    events = spikes.events
    assert events is not None
    epochs = {label: i for i, label in enumerate(events.label) if label in {"sleep", "wake"}}
    assert events.onset_s[epochs["sleep"]] == 0
    assert events.onset_s[epochs["wake"]] == 600
    assert events.duration_s[epochs["wake"]] == 600
    assert events.label.count("sleep_ripples") == 594


def test_facts_come_from_the_manifest(spikes: Recording) -> None:
    assert (spikes.subject, spikes.session) == ("peyrache-lab:A2929", "200711")
    assert spikes.species == "Mus musculus"


def test_angle_becomes_cosine_and_sine(spikes: Recording, sample_source: Source) -> None:
    with h5py.File(sample_source("a2929-hd").path()) as file:
        angle = file["acquisition/CompassDirection/ry/data"][()]
    target = spikes.targets["head_direction"]
    assert target.columns == ("cos", "sin")
    np.testing.assert_allclose(target.values, np.stack([np.cos(angle), np.sin(angle)], axis=1))
    position = spikes.targets["position"]
    assert position.columns == ("x", "z")
    assert position.values.shape == (len(angle), 2)


@pytest.mark.parametrize(("axis", "r2"), [("rx", (-1, 0.1)), ("ry", (0.6, 1)), ("rz", (-1, 0.1))])
def test_yaw_is_the_rotation_that_the_head_direction_cells_follow(
    sample_source: Source, axis: str, r2: tuple[float, float]
) -> None:
    wanted = {"paths": [f"acquisition/CompassDirection/{axis}"], "kind": "angle"}
    recording = read_recording("nwb", sample_source("a2929-hd"), {"targets": {"head": wanted}})
    spikes, target = recording.spikes, recording.targets["head"]
    assert spikes is not None
    edges = np.arange(672, 1199, 0.4)
    counts = np.stack([np.histogram(spikes.time_s[spikes.channel == u], edges)[0] for u in range(15)], axis=1)
    truth = np.stack([np.interp(edges[:-1] + 0.2, target.time_s, target.values[:, k]) for k in range(2)], axis=1)
    half = len(counts) // 2
    score = Ridge().fit(counts[:half], truth[:half]).score(counts[half:], truth[half:])
    assert r2[0] < score < r2[1]


def test_fluorescence_stored_roi_by_time_is_turned(calcium: Recording, sample_source: Source) -> None:
    with h5py.File(sample_source("a0662-2p").path()) as file:
        stored = file["processing/ophys/Fluorescence/Fluorescence/data"][()]
        neuropil = file["processing/ophys/Neuropil/Neuropil/data"][()]
    assert stored.shape == (219, 2000)
    assert calcium.signal is not None
    np.testing.assert_array_equal(calcium.signal.values, stored.T)
    np.testing.assert_array_equal(calcium.extra_signals["neuropil"].values, neuropil.T)
    assert calcium.signal.sampling_rate_hz == 10
    assert calcium.sample_time_s is None


def test_roi_table_gives_cell_probability_and_place(calcium: Recording, sample_source: Source) -> None:
    with h5py.File(sample_source("a0662-2p").path()) as file:
        table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
        first = table["pixel_mask"][: table["pixel_mask_index"][0]]
        iscell = table["iscell"][()]
    np.testing.assert_array_equal(calcium.channels.quality["iscell"], iscell[:, 0])
    np.testing.assert_array_equal(calcium.channels.quality["iscell_probability"], iscell[:, 1])
    expected = [np.average(first[axis], weights=first["weight"]) for axis in ("x", "y")]
    np.testing.assert_allclose(calcium.channels.position[0], [*expected, 0])
    assert (calcium.channels.position_unit, calcium.channels.space) == ("px", "imaging-plane")


@pytest.mark.parametrize(("index", "frames", "unit"), [(0, 35743, "px"), (1, 35790, "")])
def test_miniscope_reports_its_timestamps(sample_source: Source, index: int, frames: int, unit: str) -> None:
    recording = read_recording("nwb", sample_source("cnmfe-miniscope", index), {})
    assert recording.signal is not None
    assert recording.signal.values.shape == (frames, 10)
    assert recording.signal.sampling_rate_hz == 30
    assert recording.sample_time_s is not None
    assert len(recording.sample_time_s) == frames
    # The second file's masks are flattened: where the cells were is lost.
    assert recording.channels.position_unit == unit
    assert np.isfinite(recording.channels.position).all() == (unit == "px")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": {"t": {"paths": ["acquisition/Speed"], "kind": "linear"}}}, "no 'Speed'"),
        ({"targets": {"t": {"paths": ["acquisition/Position"], "kind": "linear"}}}, "is not a time series"),
        ({"targets": {"t": {"paths": ["acquisition/Position/x"], "kind": "angle"}}}, "radian or degree"),
        (
            {"targets": {"t": {"paths": ["acquisition/Position/x", "acquisition/sleep_ripples"], "kind": "linear"}}},
            "do not share their times",
        ),
    ],
)
def test_target_that_cannot_be_had(sample_source: Source, options: dict[str, object], said: str) -> None:
    with pytest.raises(Unreadable, match=said) as error:
        read_recording("nwb", sample_source("a2929-hd"), options)
    assert "A2929-200711.nwb" in str(error.value)


AWAKE = {"ones": ["wake"], "zeros": ["sleep"]}


def test_awake_is_what_the_epochs_say_up_to_their_ends(sample_source: Source) -> None:
    recording = read_recording("nwb", sample_source("a2929-hd"), {"targets": TARGETS, "states": {"awake": AWAKE}})
    assert set(recording.targets) == {*TARGETS, "awake"}
    awake = recording.targets["awake"]
    assert (awake.columns, awake.values.shape) == (("awake",), (len(awake.time_s), 1))
    assert np.all(np.diff(awake.time_s) > 0)
    # The epochs meet at 600 s; on the signal's times there is no sample that is neither or both.
    of_bins = align_target(awake, np.arange(60_000) / 50, max_gap_s=0.5, centre_offset_s=0.01)
    np.testing.assert_array_equal(of_bins.values[:, 0], np.repeat([0, 1], 30_000))


def test_a_state_is_not_known_between_intervals_nor_where_both_are(sample_source: Source) -> None:
    # Ripples lie within sleep, so that where they are, both are claimed.
    ripples = {"intervals": "sleep_*", "ones": ["sleep_ripples"], "zeros": ["sleep_ripples_timesupport"]}
    fourth = {"intervals": "sleep_ripples", "column": "tags", "ones": ["4"], "zeros": ["1"], "optional": True}
    options = {"states": {"ripple": ripples, "none": fourth}}
    recording = read_recording("nwb", sample_source("a2929-hd"), {"events": ["sleep_ripples"], **options})
    events, ripple = recording.events, recording.targets["ripple"]
    assert events is not None
    inside = (ripple.time_s[:, None] >= events.onset_s) & (ripple.time_s[:, None] < events.onset_s + events.duration_s)
    np.testing.assert_array_equal(np.isnan(ripple.values[:, 0]), inside.any(axis=1))
    assert set(ripple.values[~inside.any(axis=1), 0]) == {0.0}
    # Tags are lists, so that they are no column; being optional, nothing is made of them.
    assert "none" not in recording.targets


def test_states_come_from_a_column_of_any_interval_table(tmp_path: Path, source_of: Source) -> None:
    path = _units_file(tmp_path / "states.nwb", spike_times=[[2.0, 3.0], [2.0, 2.5]])
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        table = TimeIntervals(name="sleep_states", description="-")
        table.add_column("stage", "-")
        for start, stage in enumerate(["W", "N", "R", "?", "W"]):
            table.add_interval(start_time=2.0 * start, stop_time=2.0 * start + 2, stage=stage)
        file.add_time_intervals(table)
        io.write(file)
    awake = {"intervals": "sleep_states", "column": "stage", "ones": ["W"], "zeros": ["N", "R"]}
    found = read_recording("nwb", source_of(path, Modality.SPIKES), {"states": {"awake": awake}}).targets["awake"]
    known = align_target(found, np.arange(11.0), max_gap_s=0.5, centre_offset_s=0.5).values[:, 0]
    np.testing.assert_array_equal(known, [1, 1, 0, 0, 0, 0, np.nan, np.nan, 1, 1, np.nan])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"ones": ["Wake"]},
            r"states\.awake: no interval is called 'Wake', only sleep, wake\. Mend: .*`optional: true`",
        ),
        ({"intervals": "epoch"}, r"states\.awake: no interval table 'epoch', only epochs, .*sleep_ripples.*\. Mend: "),
        ({"column": "label"}, r"'epochs' has no column 'label' .*, only none at all\. Mend: correct `column`"),
    ],
)
def test_a_state_that_cannot_be_had(sample_source: Source, change: dict[str, object], said: str) -> None:
    options = {"states": {"awake": AWAKE | change}}
    with pytest.raises(Unreadable, match=said) as error:
        read_recording("nwb", sample_source("a2929-hd"), options)
    assert str(error.value).startswith("A2929-200711.nwb: ")
    assert "\n" not in str(error.value)
    optional = {"states": {"awake": AWAKE | change | {"optional": True}}}
    targets = read_recording("nwb", sample_source("a2929-hd"), optional).targets
    # Without `Wake`, that the animal slept is still known.
    assert [*targets] == (["awake"] if "ones" in change else [])


def test_a_state_may_not_be_two_things(sample_source: Source) -> None:
    with pytest.raises(Unreadable, match="'position' is the name of another target"):
        read_recording("nwb", sample_source("a2929-hd"), {"targets": TARGETS, "states": {"position": AWAKE}})
    with pytest.raises(UserError, match=r"a2929-hd\.yaml.*'wake' is among `ones` and among `zeros`") as error:
        read_recording("nwb", sample_source("a2929-hd"), {"states": {"awake": AWAKE | {"zeros": ["wake"]}}})
    assert "states" in str(error.value)


@pytest.mark.parametrize("kept", [0, 1000, 3_000_000])
def test_truncated_file(sample_source: Source, source_of: Source, tmp_path: Path, kept: int) -> None:
    whole = sample_source("a2929-hd").path()
    damaged = tmp_path / "damaged.nwb"
    damaged.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(Unreadable, match=r"damaged\.nwb"):
        read_recording("nwb", source_of(damaged, Modality.SPIKES), {})


def test_file_of_the_other_kind(sample_source: Source, source_of: Source) -> None:
    file = sample_source("a2929-hd").path()
    with pytest.raises(Unreadable, match="0 fluorescence series"):
        read_recording("nwb", source_of(file, Modality.CALCIUM), {})
    with pytest.raises(Unreadable, match="not eeg"):
        read_recording("nwb", source_of(file, Modality.EEG), {})


def _empty_file() -> NWBFile:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return NWBFile(session_description="made by a test", identifier="made", session_start_time=start)


def _write(file: NWBFile, path: Path) -> Path:
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def _units_file(path: Path, *, spike_times: list[list[float]]) -> Path:
    """Two units on two electrodes of known place, an angle in degrees, observation intervals."""
    file = _empty_file()
    device = file.create_device("probe")
    group = file.create_electrode_group("shank", description="-", location="CA3", device=device)
    for i in range(2):
        file.add_electrode(x=10.0 * i, y=1.0, z=-5.0, location=f"area{i}", group=group)
    for times in spike_times:
        file.add_unit(spike_times=times, electrodes=[0, 1], obs_intervals=[[1.0, 9.0]])
    file.add_acquisition(TimeSeries(name="heading", data=[0.0, 90.0, 180.0], unit="degrees", rate=1.0))
    return _write(file, path)


def test_electrodes_give_place_region_and_interval(tmp_path: Path, source_of: Source) -> None:
    path = _units_file(tmp_path / "units.nwb", spike_times=[[2.0, 3.0], [2.0, 2.5]])
    options = {"targets": {"heading": {"paths": ["acquisition/heading"], "kind": "angle"}}}
    recording = read_recording("nwb", source_of(path, Modality.SPIKES), options)
    assert recording.spikes is not None
    np.testing.assert_array_equal(recording.channels.position, [[5.0, 1.0, -5.0]] * 2)
    assert recording.channels.position_unit == "um"
    assert recording.channels.region == ("area0", "area0")
    # The target begins at 0, but the units were observed from 1 to 9.
    assert (recording.spikes.start_s, recording.spikes.stop_s) == (1.0, 9.0)
    np.testing.assert_array_equal(recording.spikes.channel, [0, 1, 1, 0])
    heading = recording.targets["heading"].values
    np.testing.assert_allclose(heading, [[1, 0], [0, 1], [-1, 0]], atol=1e-12)


@pytest.mark.parametrize(("spike_times", "said"), [([[], []], "no spike"), ([[1.0, np.nan], [2.0]], "not numbers")])
def test_impossible_spikes(tmp_path: Path, source_of: Source, spike_times: list[list[float]], said: str) -> None:
    path = _units_file(tmp_path / "units.nwb", spike_times=spike_times)
    with pytest.raises(Unreadable, match=rf"units\.nwb.*{said}"):
        read_recording("nwb", source_of(path, Modality.SPIKES), {})


def _ophys_file(path: Path, *, names: tuple[str, ...], shape: tuple[int, int], times: list[float] | None) -> Path:
    """Three ROIs without masks worth the name, one series per name."""
    file = _empty_file()
    channel = OpticalChannel(name="green", description="-", emission_lambda=500.0)
    device = file.create_device("microscope")
    plane = file.create_imaging_plane(
        name="plane", optical_channel=channel, description="-", device=device, excitation_lambda=900.0,
        indicator="GCaMP6f", location="V1",
    )  # fmt: skip
    segmentation = PlaneSegmentation(name="rois", description="-", imaging_plane=plane)
    for _ in range(3):
        segmentation.add_roi(image_mask=np.zeros((4, 4)))
    module = file.create_processing_module("ophys", "-")
    module.add(ImageSegmentation(plane_segmentations=[segmentation]))
    timing = {"rate": 5.0} if times is None else {"timestamps": times}
    region = segmentation.create_roi_table_region(description="all", region=[0, 1, 2])
    series: list[BaseTimeSeries] = [
        RoiResponseSeries(name=name, data=np.arange(np.prod(shape)).reshape(shape), unit="a.u.", rois=region, **timing)
        for name in names
    ]
    module.add(Fluorescence(roi_response_series=series))
    return _write(file, path)


def test_which_of_two_series_must_be_said(tmp_path: Path, source_of: Source) -> None:
    path = _ophys_file(tmp_path / "two.nwb", names=("green", "red"), shape=(6, 3), times=None)
    source = source_of(path, Modality.CALCIUM)
    with pytest.raises(Unreadable, match=r"2 fluorescence series .*green.*red.*`series`"):
        read_recording("nwb", source, {})
    recording = read_recording("nwb", source, {"series": "processing/ophys/Fluorescence/red"})
    assert recording.signal is not None
    assert recording.signal.values.shape == (6, 3)
    # Empty masks have no centre.
    assert np.isnan(recording.channels.position).all()


def test_timestamps_decide_what_the_rois_leave_open(tmp_path: Path, source_of: Source) -> None:
    stored = np.arange(9).reshape(3, 3)
    path = _ophys_file(tmp_path / "square.nwb", names=("green",), shape=(3, 3), times=[0.0, 0.2, 0.4])
    options = {"series": "processing/ophys/Fluorescence/green", "deconvolved": "processing/ophys/Fluorescence/green"}
    recording = read_recording("nwb", source_of(path, Modality.CALCIUM), options)
    assert recording.signal is not None
    # Both ways fit: time comes first, as NWB asks.
    np.testing.assert_array_equal(recording.signal.values, stored)
    np.testing.assert_array_equal(recording.extra_signals["deconvolved"].values, stored)
    # Three ROIs by three, but five timestamps: neither way fits.
    with h5py.File(path, "r+") as file:
        series = file["processing/ophys/Fluorescence/green"]
        attributes = dict(series["timestamps"].attrs)
        del series["timestamps"]
        series.create_dataset("timestamps", data=[0.0, 0.2, 0.4, 0.6, 0.8]).attrs.update(attributes)
    with pytest.raises(Unreadable, match=r"square\.nwb: 'green' has shape \(3, 3\) for 3 ROIs and 5 timestamps"):
        read_recording("nwb", source_of(path, Modality.CALCIUM), {})


@pytest.mark.parametrize(
    ("shape", "times", "said"),
    [
        ((6, 4), None, "shape"),
        ((6, 3), [0.0, 0.2, 0.1, 0.6, 0.8, 1.0], "do not rise"),
        ((6, 3), [0.0, 0.2, float("nan"), 0.6, 0.8, 1.0], "do not rise"),
    ],
)
def test_impossible_fluorescence(
    tmp_path: Path, source_of: Source, shape: tuple[int, int], times: list[float] | None, said: str
) -> None:
    path = _ophys_file(tmp_path / "odd.nwb", names=("green",), shape=shape, times=times)
    with pytest.raises(Unreadable, match=rf"odd\.nwb.*{said}"):
        read_recording("nwb", source_of(path, Modality.MINISCOPE), {})


def test_lost_frames_do_not_lower_the_rate(tmp_path: Path, source_of: Source) -> None:
    times = [0.0, 0.05, 0.1, 0.3, 0.35, 0.4]
    path = _ophys_file(tmp_path / "gap.nwb", names=("green",), shape=(6, 3), times=times)
    recording = read_recording("nwb", source_of(path, Modality.MINISCOPE), {})
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == pytest.approx(20)


def _pupil_file(path: Path) -> Path:
    file = _empty_file()
    times = np.arange(4.0)
    area = TimeSeries(name="area", data=[3.0, 4.0, 5.0, 6.0], control=[9, 8, 7, 6], control_description=["-"] * 4,
                      unit="px2", timestamps=times)  # fmt: skip
    file.add_acquisition(area)
    file.add_acquisition(TimeSeries(name="likely_blink", data=[False, True, False, False], unit="-", timestamps=times))
    file.add_unit(spike_times=[0.5, 1.5])
    return _write(file, path)


@pytest.mark.parametrize(("field", "expected"), [("data", [3, np.nan, 5, 6]), ("control", [9, np.nan, 7, 6])])
def test_blinks_of_the_pupil_are_nan_in_the_field_asked_for(
    tmp_path: Path, source_of: Source, field: str, expected: list[float]
) -> None:
    pupil = {"paths": ["acquisition/area"], "kind": "linear", "field": field, "invalid": "acquisition/likely_blink"}
    source = source_of(_pupil_file(tmp_path / "pupil.nwb"), Modality.SPIKES)
    read = read_recording("nwb", source, {"targets": {"pupil": pupil}}).targets["pupil"]
    np.testing.assert_array_equal(read.values[:, 0], expected)
    with pytest.raises(Unreadable, match=r"pupil\.nwb: 'area' has no 'width'"):
        read_recording("nwb", source, {"targets": {"pupil": pupil | {"field": "width"}}})
