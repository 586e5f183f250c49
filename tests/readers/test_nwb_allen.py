"""The Allen Institute's layouts: ecephys of NWB 2, two-photon of NWB 1.0. The files are made, see `tests.allen_nwb`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from tests.allen_nwb import trains_of, write_brain_observatory, write_ecephys
from tests.servers.allensdk_environment import in_allensdk

Source = Callable[..., ReaderInput]
CODING = {"layout": "allen-visual-coding"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, sample_source: Source) -> Path:
    trains = trains_of(sample_source("a2929-hd").path())
    return write_ecephys(tmp_path_factory.mktemp("ecephys") / "session_1.nwb", trains)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, sample_source: Source) -> Path:
    folder = tmp_path_factory.mktemp("ophys")
    return write_brain_observatory(folder / "510214538.nwb", sample_source("a0662-2p").path())


def _damaged(path: Path, folder: Path, change: Callable[[h5py.File], None]) -> Path:
    copy = Path(shutil.copy(path, folder / path.name))
    with h5py.File(copy, "r+") as file:
        change(file)
    return copy


def _put(where: str, index: int, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[where][index] = value

    return change


def test_units_have_the_archives_metrics_and_places(session: Path, source_of: Source) -> None:
    channels = read_recording("nwb", source_of(session, Modality.SPIKES), CODING).channels
    good = np.ones(15)
    good[3] = 0
    np.testing.assert_array_equal(channels.quality["good"], good)
    np.testing.assert_array_equal(channels.quality["snr"], 1 + np.arange(15))
    assert np.isnan(channels.quality["amplitude_cutoff"][5])
    # Peak channels run against the units; the last unit's has no histology.
    assert channels.region == ("VISp",) * 14 + ("",)
    np.testing.assert_array_equal(channels.position[0], [8014, 2000, 7000])
    assert np.isnan(channels.position[14]).all()
    assert (channels.position_unit, channels.space) == ("um", "allen-ccf-2017")
    np.testing.assert_array_equal(channels.quality["probe"], (14 - np.arange(15)) % 2)


def test_presentations_keep_their_columns(session: Path, source_of: Source) -> None:
    events = read_recording("nwb", source_of(session, Modality.SPIKES), CODING).events
    assert events is not None
    assert events.label[:2] == ("drifting_gratings_presentations", "flashes_presentations")
    np.testing.assert_array_equal(events.onset_s, [0, 5, 10, 15, 20, 25])
    nan = np.nan
    np.testing.assert_array_equal(events.columns["orientation"], [45, nan, nan, nan, 90, nan])
    np.testing.assert_array_equal(events.columns["contrast"], [nan, 0.8, nan, 0.8, nan, 0.8])
    assert events.columns["stimulus_name"] == ("drifting_gratings", "flashes") * 3


def test_running_speed_lies_in_the_middle_of_its_intervals(session: Path, source_of: Source) -> None:
    running = read_recording("nwb", source_of(session, Modality.SPIKES), CODING).targets["running_speed"]
    np.testing.assert_allclose(running.time_s, np.arange(0, 100, 0.017) + 0.008)
    assert running.unit == "cm/s"


def test_session_without_running_is_kept(tmp_path: Path, source_of: Source, sample_source: Source) -> None:
    trains = trains_of(sample_source("a2929-hd").path())
    trains[2] = trains[2][:0]
    path = write_ecephys(tmp_path / "still.nwb", trains, running=False)
    recording = read_recording("nwb", source_of(path, Modality.SPIKES), CODING)
    assert recording.targets == {}
    # A unit without spikes stays, and is not usable.
    assert len(recording.channels) == 15
    done = _preprocessed(recording)
    beyond = done.channels.quality["excluded"] > 0  # the archive's metrics, made up here
    assert 0 < beyond.sum() < 14
    assert not beyond[2]
    assert np.flatnonzero((done.channels.quality["usable"] == 0) & ~beyond).tolist() == [2]


def _preprocessed(recording: Recording) -> Recording:
    params = load_params(Path(__file__).resolve().parents[2]).preprocess
    return preprocess_recording(recording, settings=params.of(recording.modality), common=params.common)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_put("units/spike_times", 10, 900.0), "not sorted"),
        (_put("units/spike_times", -1, 2e7), "sample numbers"),
        (_put("units/spike_times_index", -1, 12), "does not fit"),
        (_put("units/peak_channel_id", 0, 5), "not in the table of electrodes"),
        (_put("processing/running/running_speed/timestamps", 9, 0.0), "do not rise"),
        (_put("intervals/flashes_presentations/stop_time", 0, 1.0), "before it begins"),
    ],
)
def test_damaged_session(
    session: Path, tmp_path: Path, source_of: Source, change: Callable[[h5py.File], None], said: str
) -> None:
    path = _damaged(session, tmp_path, change)
    with pytest.raises(Unreadable, match=rf"session_1\.nwb.*{said}"):
        read_recording("nwb", source_of(path, Modality.SPIKES), CODING)


def test_single_spikes_outside_are_left_to_preprocessing(session: Path, tmp_path: Path, source_of: Source) -> None:
    path = _damaged(session, tmp_path, _put("units/spike_times", 0, -0.004))
    spikes = read_recording("nwb", source_of(path, Modality.SPIKES), CODING).spikes
    assert spikes is not None
    assert (spikes.time_s[0], spikes.start_s) == (-0.004, 0.0)


def test_observation_intervals_are_the_observation(session: Path, tmp_path: Path, source_of: Source) -> None:
    def change(file: h5py.File) -> None:
        units = file["units"]
        vector = {"namespace": "hdmf-common", "description": "-"}
        intervals = units.create_dataset("obs_intervals", data=np.tile([1.0, 900.0], (15, 1)))
        intervals.attrs.update({**vector, "neurodata_type": "VectorData", "object_id": "a-1"})
        index = units.create_dataset("obs_intervals_index", data=np.arange(1, 16, dtype=np.uint8))
        index.attrs.update({**vector, "neurodata_type": "VectorIndex", "object_id": "a-2", "target": intervals.ref})
        units.attrs["colnames"] = [*units.attrs["colnames"], "obs_intervals"]

    spikes = read_recording("nwb", source_of(_damaged(session, tmp_path, change), Modality.SPIKES), CODING).spikes
    assert spikes is not None
    assert (spikes.start_s, spikes.stop_s) == (1.0, 900.0)
    assert spikes.time_s[-1] > spikes.stop_s


@pytest.mark.parametrize(("reader", "modality"), [("nwb", Modality.SPIKES), ("nwb1", Modality.CALCIUM)])
def test_shard_holds_what_was_read(
    session: Path, experiment: Path, tmp_path: Path, source_of: Source, *, reader: str, modality: Modality
) -> None:
    source = source_of(session if reader == "nwb" else experiment, modality)
    recording = read_recording(reader, source, CODING if reader == "nwb" else {})
    path = tmp_path / "rec.zarr.zip"
    said = dict.fromkeys(("archive", "source_id", "version", "licence", "citation"), "-")
    done = _preprocessed(recording)
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    read = read_shard(path).recording
    assert read.channels.id == recording.channels.id
    assert "running_speed" in read.targets
    assert read.events is not None
    assert recording.events is not None
    assert read.events.label == recording.events.label


def test_brain_observatory(experiment: Path, source_of: Source, sample_source: Source) -> None:
    recording = read_recording("nwb1", source_of(experiment, Modality.CALCIUM), {})
    with h5py.File(sample_source("a0662-2p").path()) as file:
        traces = file["processing/ophys/Fluorescence/Fluorescence/data"][:5]
    assert recording.signal is not None
    assert recording.events is not None
    np.testing.assert_array_equal(recording.signal.values, traces.T)
    assert recording.signal.sampling_rate_hz == pytest.approx(30)
    assert recording.channels.id[0] == "cell-517000000"
    np.testing.assert_array_equal(recording.channels.position[1], [5, 2, 0])
    assert recording.channels.region == ("VISp",) * 5
    assert recording.scalars["session_type"] == "three_session_A"
    assert recording.events.label == ("drifting_gratings",) * 2 + ("natural_scenes",) * 2 + ("spontaneous",)
    np.testing.assert_allclose(recording.events.duration_s, np.array([60, 60, 7, 7, 400]) / 30)
    np.testing.assert_array_equal(recording.events.columns["orientation"], [45] + [np.nan] * 4)
    np.testing.assert_array_equal(recording.events.columns["frame"], [np.nan, np.nan, 17, -1, np.nan])
    assert _preprocessed(recording).signal is not None


_DFF = "processing/brain_observatory_pipeline/DfOverF/imaging_plane_1"


def _drop(where: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[where]

    return change


def _all_nan(file: h5py.File) -> None:
    file[f"{_DFF}/data"][:] = np.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_put(f"{_DFF}/timestamps", 9, 0.0), "do not rise"),
        (_all_nan, "no finite value"),
        (_drop(_DFF), "is it an NWB 1.0 file"),
        (_put("stimulus/presentation/natural_scenes_stimulus/frame_duration", 0, 99999), "outside of the 2000"),
    ],
)
def test_damaged_experiment(
    experiment: Path, tmp_path: Path, source_of: Source, change: Callable[[h5py.File], None], said: str
) -> None:
    path = _damaged(experiment, tmp_path, change)
    with pytest.raises(Unreadable, match=rf"510214538\.nwb.*{said}"):
        read_recording("nwb1", source_of(path, Modality.CALCIUM), {})


def test_experiment_stored_time_by_cell_and_without_running(
    experiment: Path, tmp_path: Path, source_of: Source
) -> None:
    def change(file: h5py.File) -> None:
        turned = file[f"{_DFF}/data"][()].T
        del file[f"{_DFF}/data"], file["processing/brain_observatory_pipeline/BehavioralTimeSeries"]
        file[f"{_DFF}/data"] = turned

    whole = read_recording("nwb1", source_of(experiment, Modality.CALCIUM), {})
    recording = read_recording("nwb1", source_of(_damaged(experiment, tmp_path, change), Modality.CALCIUM), {})
    assert recording.signal is not None
    assert whole.signal is not None
    np.testing.assert_array_equal(recording.signal.values, whole.signal.values)
    assert recording.targets == {}


_ASK_EXPERIMENT = """
from allensdk.core.brain_observatory_nwb_data_set import BrainObservatoryNwbDataSet
data = BrainObservatoryNwbDataSet(path)
times, dff = data.get_dff_traces()
gratings, scenes = data.get_stimulus_table('drifting_gratings'), data.get_stimulus_table('natural_scenes')
grey = data.get_stimulus_table('spontaneous')
speed, speed_times = data.get_running_speed()
answer = {'times': times.tolist(), 'dff': dff.tolist(), 'ids': data.get_cell_specimen_ids().tolist(),
          'starts': [int(one) for table in (gratings, scenes, grey) for one in table['start']],
          'frames': scenes['frame'].tolist(), 'type': data.get_session_type(),
          'speed': speed[2:].tolist(), 'speed_times': speed_times[2:].tolist()}
"""


def test_allensdk_reads_the_same_experiment(experiment: Path, source_of: Source) -> None:
    theirs = in_allensdk(_ASK_EXPERIMENT, path=str(experiment))
    ours = read_recording("nwb1", source_of(experiment, Modality.CALCIUM), {})
    assert ours.signal is not None
    assert ours.sample_time_s is not None
    assert ours.events is not None
    np.testing.assert_array_equal(ours.signal.values.T, theirs["dff"])
    np.testing.assert_array_equal(ours.sample_time_s, theirs["times"])
    assert ours.channels.id == tuple(f"cell-{cell}" for cell in theirs["ids"])
    np.testing.assert_array_equal(ours.events.onset_s, ours.sample_time_s[theirs["starts"]])
    np.testing.assert_array_equal(ours.events.columns["frame"][2:4], theirs["frames"])
    np.testing.assert_array_equal(ours.targets["running_speed"].values[:, 0], theirs["speed"])
    np.testing.assert_array_equal(ours.targets["running_speed"].time_s, theirs["speed_times"])
    assert ours.scalars["session_type"] == theirs["type"]
