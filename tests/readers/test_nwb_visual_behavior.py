"""Sessions of Visual Behavior Neuropixels: change detection, ellipses of the eye. See `tests.visual_behavior_nwb`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurofm.catalog import load_entry
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Events, Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from tests.allen_nwb import trains_of
from tests.servers.allensdk_environment import in_allensdk
from tests.visual_behavior_nwb import (
    BLINKS,
    IMAGES,
    LACKING,
    TRIALS,
    UNITS,
    head_speed,
    pupil_area,
    write_visual_behavior,
)

Source = Callable[..., ReaderInput]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def park(shared_data: Path) -> Path:
    return shared_data / "calcium" / "park2024_v1_gratings" / "230809_mrcuts28_fov4_grat-000_data.mat"


@pytest.fixture(scope="module")
def a2929(sample_source: Source) -> Path:
    path: Path = sample_source("a2929-hd").path()
    return path


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, a2929: Path, park: Path) -> Path:
    path = tmp_path_factory.mktemp("behavior") / "ecephys_session_1064644573.nwb"
    return write_visual_behavior(path, trains_of(a2929), a2929=a2929, park=park)


@pytest.fixture(scope="module")
def recording(session: Path, source_of: Source) -> Recording:
    return _read(session, source_of)


def _read(path: Path, source_of: Source) -> Recording:
    # By the options with which the catalogue reads the archive.
    entry = load_entry("allen-vb-neuropixels", root=ROOT)
    return read_recording(entry.reader, source_of(path, Modality.SPIKES), entry.reader_options)


def _preprocessed(recording: Recording) -> Recording:
    params = load_params(ROOT).preprocess
    return preprocess_recording(recording, settings=params.of(recording.modality), common=params.common)


def _rows(events: Events | None, label: str) -> tuple[Events, list[int]]:
    assert events is not None
    return events, [row for row, one in enumerate(events.label) if one == label]


def _of(events: Events, column: str, rows: list[int]) -> list[Any]:
    return [events.columns[column][row] for row in rows]


@pytest.mark.parametrize("column", sorted(TRIALS))
def test_trials_have_every_column(recording: Recording, column: str) -> None:
    events, rows = _rows(recording.events, "trials")
    np.testing.assert_array_equal(events.onset_s[rows], [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(events.duration_s[rows], 10)
    expected = [np.nan if value == LACKING else value for value in TRIALS[column]]
    np.testing.assert_array_equal(_of(events, column, rows), expected)


def test_images_have_their_columns_and_other_stimuli_have_none(recording: Recording) -> None:
    events, rows = _rows(recording.events, IMAGES)
    assert _of(events, "image_name", rows) == ["im012_r", "omitted", "im036_r", "im036_r", "im036_r"]
    for column, expected in {
        "is_change": [0, 0, 1, 0, 1],
        "omitted": [0, 1, 0, 0, 0],
        "flashes_since_change": [7, 8, 0, 1, 0],
        "stimulus_block": [0, 0, 0, 0, 5],
        "active": [1, 1, 1, 1, 0],
    }.items():
        assert _of(events, column, rows) == expected, column
    events, rows = _rows(recording.events, "gabor_20_deg_250ms_presentations")
    assert _of(events, "orientation", rows) == [0, 45]
    assert _of(events, "active", rows) == [0, 0]
    # -99 is the writer's fill of integers that a stimulus does not have; a place of -40 degrees is none.
    assert np.isnan(_of(events, "flashes_since_change", rows)).all()
    assert _of(events, "position_x", rows) == [-40, 30]
    assert _of(events, "image_name", rows) == ["", ""]


def test_other_layouts_keep_such_integers(session: Path, source_of: Source) -> None:
    events = read_recording("nwb", source_of(session, Modality.SPIKES), {}).events
    assert events is not None
    assert np.count_nonzero(np.asarray(events.columns["flashes_since_change"]) == LACKING) == 3


def test_pupil_is_the_area_without_blinks(recording: Recording, park: Path) -> None:
    time_s, area, blink = pupil_area(park)
    pupil = recording.targets["pupil"]
    np.testing.assert_array_equal(pupil.time_s, time_s)
    assert pupil.unit == "px2"
    assert blink.sum() == 6 + 36 + 44, "two failed fits, and what is too large"
    np.testing.assert_array_equal(pupil.values[:, 0], np.where(blink, np.nan, area))


def test_blinks_are_taken_from_their_flags_too(session: Path, tmp_path: Path, source_of: Source) -> None:
    # Older files have the area as it was fitted, blinks and all, and only the flags tell.
    path = tmp_path / session.name
    path.write_bytes(session.read_bytes())
    with h5py.File(path, "r+") as file:
        pupil, blink = file["acquisition/EyeTracking/pupil_tracking"], file["acquisition/EyeTracking/likely_blink/data"]
        pupil["area"][...] = 2222.0
        expected = np.where(blink[()], np.nan, 2222.0)
    np.testing.assert_array_equal(_read(path, source_of).targets["pupil"].values[:, 0], expected)


def test_running_speed_is_the_filtered_one(recording: Recording, a2929: Path) -> None:
    time_s, speed = head_speed(a2929)
    running = recording.targets["running_speed"]
    np.testing.assert_array_equal(running.values[:, 0], speed)
    np.testing.assert_array_equal(running.time_s, time_s)
    assert running.unit == "cm/s"


def test_units_have_structures_by_their_electrodes_and_the_archives_metrics(recording: Recording) -> None:
    channels = recording.channels
    # Peak channels run against the units, so the first unit is at electrode 14; electrode 0 has no histology.
    assert channels.region == ("CA1", "VISl5", "VISp2/3", "LGd") * 3 + ("CA1", "VISl5", "")
    np.testing.assert_array_equal(channels.position[0], [8014, 2000, 7000])
    assert np.isnan(channels.position[14]).all()
    good = np.ones(UNITS)
    good[3] = 0
    np.testing.assert_array_equal(channels.quality["good"], good)
    np.testing.assert_array_equal(channels.quality["d_prime"], 1 + np.arange(UNITS))
    assert np.isnan(channels.quality["max_drift"]).all()
    assert not {"cluster_id", "local_index", "peak_channel_id", "spike_amplitudes"} & set(channels.quality)


def test_session_without_cameras_is_kept(tmp_path: Path, a2929: Path, park: Path, source_of: Source) -> None:
    path = write_visual_behavior(tmp_path / "s.nwb", trains_of(a2929), a2929=a2929, park=park, behaviour=False)
    recording = _read(path, source_of)
    assert recording.targets == {}
    assert recording.events is not None


def test_file_without_the_extensions_types_is_refused_by_name(
    tmp_path: Path, a2929: Path, park: Path, source_of: Source
) -> None:
    path = write_visual_behavior(tmp_path / "s.nwb", trains_of(a2929), a2929=a2929, park=park, definitions=False)
    with pytest.raises(Unreadable, match=r"s\.nwb.*'ndx-(aibs-ecephys|ellipse-eye-tracking)' not a namespace"):
        _read(path, source_of)


def test_shard_of_a_session(recording: Recording, tmp_path: Path, park: Path) -> None:
    done = _preprocessed(recording)
    assert np.flatnonzero(done.channels.quality["excluded"]).tolist() == [3, 4, 5, 6]
    said = dict.fromkeys(("archive", "source_id", "version", "licence", "citation"), "-")
    path = tmp_path / "rec.zarr.zip"
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    shard = read_shard(path)
    assert np.flatnonzero(~shard.usable).tolist() == [3, 4, 5, 6]
    read = shard.recording
    assert read.channels.region == recording.channels.region
    events, rows = _rows(read.events, "trials")
    assert _of(events, "hit", rows) == [1, 0, 0, 0, 0, 0]
    assert _of(events, "change_image_name", rows) == TRIALS["change_image_name"]
    assert set(read.targets) == {"pupil", "running_speed"}
    pupil = read.targets["pupil"]
    centre_s = pupil.time_s + 0.01  # of bins of 20 ms
    time_s, area, blink = pupil_area(park)
    seen_s, seen = time_s[~blink], area[~blink]
    expected = np.interp(centre_s, seen_s, seen, left=np.nan, right=np.nan)
    after = np.searchsorted(seen_s, centre_s).clip(1, len(seen_s) - 1)
    expected[seen_s[after] - seen_s[after - 1] > 0.5] = np.nan
    np.testing.assert_allclose(pupil.values[:, 0], expected, rtol=1e-6)
    # A blink of less than max_target_gap_s is bridged, one of two seconds is not.
    known = [np.isfinite(expected[(centre_s > time_s[a]) & (centre_s < time_s[b])]) for a, b in BLINKS]
    assert (known[0].all(), known[1].any()) == (True, False)


_ASK = """
import numpy as np, pynwb
from allensdk.brain_observatory.behavior.data_objects.eye_tracking.eye_tracking_table import EyeTrackingTable
from allensdk.brain_observatory.behavior.data_objects.running_speed.running_speed import RunningSpeed
from allensdk.brain_observatory.behavior.data_objects.stimuli.presentations import Presentations
from allensdk.brain_observatory.ecephys.probes import Probes
with pynwb.NWBHDF5IO(path, 'r', load_namespaces=True) as io:
    file = io.read()
    trials = file.trials.to_dataframe()
    shown = Presentations.from_nwb(file, add_is_change=False, add_trials_dependent_values=False).value
    eye, running = EyeTrackingTable.from_nwb(file).value, RunningSpeed.from_nwb(file).value
    probes = Probes.from_nwb(file, probe_lfp_meta_map=None)
    everything = dict(filter_by_validity=False, filter_out_of_brain_units=False)
    usual = dict(amplitude_cutoff_maximum=0.1, presence_ratio_minimum=0.95, isi_violations_maximum=0.5)
    units = probes.get_units_table(**everything)
    kept = probes.get_units_table(filter_by_validity=True, filter_out_of_brain_units=False, **usual)
    channels = [one for probe in probes.probes for one in probe.channels.value]
    answer = {
        'licks': [list(one) for one in trials['lick_times']], 'hit': trials['hit'].tolist(),
        'start': shown['start_time'].tolist(), 'name': shown['stimulus_name'].tolist(),
        'is_change': shown['is_change'].astype(float).fillna(-1).tolist(),
        'pupil': eye['pupil_area'].fillna(-1).tolist(), 'blink': eye['likely_blink'].tolist(),
        'eye_times': eye['timestamps'].tolist(), 'speed': running['speed'].tolist(),
        'units': units.index.tolist(), 'kept': kept.index.tolist(),
        'region': {str(one.id): one.structure_acronym or '' for one in channels},
        'peak': dict(zip(map(str, units.index.tolist()), units['peak_channel_id'].tolist()))}
"""


def test_allensdk_reads_the_same_session(session: Path, recording: Recording) -> None:
    theirs = in_allensdk(_ASK, path=str(session))
    events, rows = _rows(recording.events, "trials")
    assert _of(events, "hit", rows) == theirs["hit"]
    assert [len(trial) for trial in theirs["licks"]] == [3, 0, 1, 1, 0, 2]
    stimuli = [row for row in range(len(events.label)) if row not in rows]
    np.testing.assert_array_equal(events.onset_s[stimuli], theirs["start"])
    assert _of(events, "stimulus_name", stimuli) == theirs["name"]
    np.testing.assert_array_equal(np.nan_to_num(_of(events, "is_change", stimuli), nan=-1), theirs["is_change"])
    pupil = recording.targets["pupil"]
    np.testing.assert_array_equal(np.nan_to_num(pupil.values[:, 0], nan=-1), theirs["pupil"])
    np.testing.assert_array_equal(np.isnan(pupil.values[:, 0]), theirs["blink"])
    np.testing.assert_array_equal(pupil.time_s, theirs["eye_times"])
    np.testing.assert_array_equal(recording.targets["running_speed"].values[:, 0], theirs["speed"])
    region = [theirs["region"][str(theirs["peak"][name.removeprefix("unit-")])] for name in recording.channels.id]
    assert list(recording.channels.region) == region
    kept = np.flatnonzero(_preprocessed(recording).channels.quality["excluded"] == 0)
    assert sorted(f"unit-{unit}" for unit in theirs["kept"]) == sorted(recording.channels.id[row] for row in kept)
