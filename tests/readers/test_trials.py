"""A laboratory's own tables by a mapping: every case is a real file, or one that was made wrong."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rdata
import scipy.io
from ruamel.yaml import YAML

from neurofm.catalog.entry import CatalogEntry
from neurofm.errors import UserError
from neurofm.preprocess import preprocess_recording
from neurofm.preprocess.common import Common
from neurofm.preprocess.spikes import ModalitySettings as SpikeSettings
from neurofm.readers import ReaderInput, read_recording, reader_options
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard

SourceOf = Callable[..., ReaderInput]
ROOT = Path(__file__).resolve().parents[2]
SPIKES = Modality.SPIKES
COUNTS: dict[str, Any] = {"signal": {"path": "counts", "axes": "trial unit time"}, "period_s": 0.01}


@pytest.fixture(scope="module")
def examples() -> dict[str, CatalogEntry]:
    """Return the entries that docs/formats/trials.md shows, by id."""
    text = (ROOT / "docs" / "formats" / "trials.md").read_text(encoding="utf-8")
    blocks = [
        YAML(typ="safe").load(block) for block in re.findall(r"^```yaml\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    return {block["id"]: CatalogEntry.parse(block, where="docs", mend="correct it") for block in blocks}


def _read(entry: CatalogEntry, main: Path, source_of: SourceOf) -> Recording:
    roles = {role: str(name) for role, name in entry.recordings.roles.items()}
    return read_recording(entry.reader, source_of(main, entry.modality, roles=roles), entry.reader_options)


def test_steinmetz(examples: dict[str, CatalogEntry], shared_data: Path, source_of: SourceOf) -> None:
    path = shared_data / "ephys" / "steinmetz2019_rds" / "session1.rds"
    found = _read(examples["steinmetz-cori"], path, source_of)
    raw = rdata.read_rds(path)
    assert found.signal is not None
    assert found.stretches is not None
    assert found.events is not None
    assert found.signal.sampling_rate_hz == pytest.approx(100)
    assert found.channels.region == tuple(raw["brain_area"])
    for number in (0, 57, 113):
        start = round(found.stretches[number, 0] * 100)
        np.testing.assert_array_equal(found.signal.values[start : start + 40], raw["spks"][number].T)
    assert found.signal.values.sum() == sum(trial.sum() for trial in raw["spks"])
    np.testing.assert_array_equal(np.asarray(found.events.columns["contrast_left"]), raw["contrast_left"])
    onset = np.asarray(found.events.columns["recorded_onset_s"])
    np.testing.assert_array_equal(onset, [trial[0] for trial in raw["time"]])
    np.testing.assert_allclose(found.events.duration_s, 0.4)


def test_steinmetz_on_the_recorded_clock(shared_data: Path, source_of: SourceOf, examples: dict[str, Any]) -> None:
    path = shared_data / "ephys" / "steinmetz2019_rds" / "session1.rds"
    options = {**examples["steinmetz-cori"].reader_options, "clock": "recorded"}
    found = read_recording("trials", source_of(path, SPIKES), options)
    assert found.events is not None
    onset = np.asarray(found.events.columns["recorded_onset_s"])
    np.testing.assert_allclose(found.events.onset_s, onset, atol=0.005 + 1e-9)


def test_park(examples: dict[str, CatalogEntry], shared_data: Path, source_of: SourceOf) -> None:
    path = shared_data / "calcium" / "park2024_v1_gratings" / "230803_mrcuts24_fov1_grat-000_data.mat"
    found = _read(examples["park-gratings"], path, source_of)
    raw = scipy.io.loadmat(path)["D"][0, 0]
    assert found.signal is not None
    assert found.stretches is not None
    assert found.events is not None
    assert found.signal.values.shape[1] == 28
    assert found.signal.sampling_rate_hz == 16
    start = round(found.stretches[5, 0] * 16)
    # Neuron 10 is the tenth, not the second as its name would sort.
    np.testing.assert_array_equal(found.signal.values[start : start + 49, 9], raw["neuron10"][0, 5].ravel())
    assert np.isnan(found.signal.values[start + 49 : start + 52]).all()
    np.testing.assert_array_equal(np.asarray(found.events.columns["direction"])[:8], np.arange(8) * 45)
    speed = found.targets["running_speed"]
    np.testing.assert_array_equal(speed.values[:49, 0], raw["speed"][0, 0].ravel())
    assert speed.time_s[49] == pytest.approx(found.stretches[1, 0])


def test_m1(examples: dict[str, CatalogEntry], shared_data: Path, source_of: SourceOf) -> None:
    path = shared_data / "ephys" / "m1_chewie_myow" / "full-chewie-10032013-0.10.pkl"
    found = _read(examples["m1-chewie"], path, source_of)
    raw = pickle.loads(path.read_bytes())["data"]
    assert found.signal is not None
    assert found.events is not None
    assert found.stretches is not None
    start = round(found.stretches[2, 0] * 10)
    np.testing.assert_allclose(found.signal.values[start : start + 12] * 10, raw["firing_rates"][2])
    np.testing.assert_allclose(found.events.duration_s, [len(trial) / 10 for trial in raw["velocity"]])
    np.testing.assert_array_equal(found.targets["velocity"].values[11:22], raw["velocity"][1])
    assert found.targets["velocity"].time_s[0] == pytest.approx(0.05)
    assert list(np.asarray(found.events.columns["direction"])[:2]) == [raw["labels"][0][0, 0], raw["labels"][1][0, 0]]


def test_nelpy_spike_times_with_a_trodes_track(
    examples: dict[str, CatalogEntry], shared_data: Path, source_of: SourceOf
) -> None:
    path = shared_data / "ephys" / "nelpy_linear_track" / "linear-track" / "spikes.mat"
    found = _read(examples["nelpy-track"], path, source_of)
    assert found.spikes is not None
    assert len(found.channels) == 31
    assert found.spikes.start_s == pytest.approx(4397.0023)
    position = found.targets["position"]
    assert position.columns == ("x", "y")
    assert 1 / np.median(np.diff(position.time_s)) == pytest.approx(60, abs=0.1)
    assert position.values.min() >= 0
    assert position.values[:, 0].max() <= 640


def test_from_reader_to_shard_and_back(
    examples: dict[str, CatalogEntry], shared_data: Path, source_of: SourceOf, tmp_path: Path
) -> None:
    path = shared_data / "ephys" / "steinmetz2019_rds" / "session1.rds"
    clean = preprocess_recording(
        _read(examples["steinmetz-cori"], path, source_of),
        settings=SpikeSettings(bin_ms=20, isi_violation_ms=1.5, presence_block_s=60.0),
        common=Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5),
    )
    said = Provenance(archive="local", source_id="", version="", files=(), licence="", citation="", libraries={})
    write_shard(clean, provenance=said, path=tmp_path / "rec.zarr.zip")
    shard = read_shard(tmp_path / "rec.zarr.zip")
    assert shard.valid.sum() == 114 * 20
    assert shard.recording.events is not None
    assert len(shard.recording.events.label) == 114
    assert set(shard.recording.events.columns) >= {"contrast_left", "contrast_right", "feedback"}
    assert "excluded_reason" not in shard.attrs["quality"]


def test_matlab_7_3_npz_and_a_table_of_trials_say_the_same(tmp_path: Path, source_of: SourceOf) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 3, 20)).astype(np.float64)
    side = ["left", "right"] * 3
    np.savez(tmp_path / "a.npz", counts=counts, side=np.array(side))
    cells = np.empty((1, 6), dtype=object)
    cells[0] = list(counts)
    scipy.io.savemat(tmp_path / "b.mat", {"counts": cells, "side": np.array(side, dtype=object)})
    with h5py.File(tmp_path / "c.mat", "w", userblock_size=512) as file:
        hidden = file.create_group("#refs#")
        trials = [hidden.create_dataset(f"t{i}", data=trial.T).ref for i, trial in enumerate(counts)]
        texts = [hidden.create_dataset(f"s{i}", data=[[ord(c)] for c in text]) for i, text in enumerate(side)]
        for text in texts:
            text.attrs["MATLAB_class"] = np.bytes_("char")
        file.create_dataset("counts", data=np.array([[ref] for ref in trials], dtype=h5py.ref_dtype))
        file.create_dataset("side", data=np.array([[text.ref] for text in texts], dtype=h5py.ref_dtype))
    (tmp_path / "d.pkl").write_bytes(
        pickle.dumps([{"counts": trial, "side": s} for trial, s in zip(counts, side, strict=True)])
    )
    for name in ("a.npz", "b.mat", "c.mat", "d.pkl"):
        found = read_recording("trials", source_of(tmp_path / name, SPIKES), {**COUNTS, "trials": {"side": "side"}})
        assert found.signal is not None, name
        np.testing.assert_array_equal(found.signal.values[:20], counts[0].T, err_msg=name)
        assert found.events is not None
        assert found.events.columns["side"] == tuple(side), name


def test_trials_of_different_length_and_missing_labels(tmp_path: Path, source_of: SourceOf) -> None:
    counts = np.ones((3, 2, 20))
    counts[1, :, 12:] = np.nan
    np.savez(tmp_path / "a.npz", counts=counts, choice=np.array([1, np.nan, -1]))
    found = read_recording("trials", source_of(tmp_path / "a.npz", SPIKES), {**COUNTS, "trials": {"choice": "choice"}})
    assert found.events is not None
    np.testing.assert_allclose(found.events.duration_s, [0.2, 0.12, 0.2])
    np.testing.assert_array_equal(np.asarray(found.events.columns["choice"]), [1, np.nan, -1])
    # A session without labels is kept.
    bare = read_recording("trials", source_of(tmp_path / "a.npz", SPIKES), COUNTS)
    assert bare.events is not None
    assert not bare.events.columns


GOOD: dict[str, Any] = {
    "counts": np.ones((4, 3, 20)),
    "choice": np.array([1.0, 2, 1, 2]),
    "area": np.array(["VISp", "CA1", "CA1"]),
    "onset": np.array([0.0, 1, 2, 3]),
    "speed": np.ones((4, 20)),
}
MAPPED: dict[str, Any] = {
    **COUNTS,
    "trials": {"choice": "choice"},
    "channels": {"region": "area"},
    "onset": "onset",
    "targets": {"speed": {"paths": ["speed"], "axes": "trial time", "unit": "cm/s"}},
}


def _with(name: str, at: tuple[int, ...], value: float) -> dict[str, Any]:
    changed = GOOD[name].astype(np.float64)
    changed[at] = value
    return {name: changed}


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        (_with("counts", (1, 2, 3), -1), {}, "1 counts of spikes are negative"),
        (_with("counts", (1, 2, 3), 0.5), {}, "no whole number of spikes per bin of 10 ms"),
        (_with("counts", (1, 2, 3), np.nan), {}, r"1 counts of spikes are missing \(NaN\)"),
        ({"counts": np.full((4, 3, 20), np.nan)}, {}, "trial 1 of 4 holds no sample"),
        ({"choice": np.array([1.0, 2, 1])}, {}, "choice: 3 values for 4 trials"),
        ({"area": np.array(["VISp", "CA1"])}, {}, "3 units, but 2 values of region in a.npz: area"),
        ({"counts": np.ones((4, 20, 3))}, {}, "20 units, but 3 values of region .*unit and time the wrong way round"),
        ({"onset": np.array([0.0, 1, 1.1, 3])}, {}, "trial 3 begins at 1.100 s, before trial 2 ends at 1.200 s"),
        ({"onset": np.array([0.0, 1, np.nan, 3])}, {}, "onset: 3 times for 4 trials"),
        ({"speed": np.ones((4, 21))}, {}, "speed, trial 1: 21 samples, the signal has 20"),
        ({"speed": np.ones((3, 20))}, {}, "speed: 3 trials, the signal has 4"),
        ({"counts": np.ones((4, 3))}, {}, r"counts: \[4, 3\] does not have the 3 axes trial unit time"),
        ({"counts": np.array(["a", "b"])}, {}, "holds <U1 values, expected numbers"),
        ({}, {"units": "dF/F"}, "spikes are in `units: count` or `units: Hz`"),
        (
            {},
            {"signal": {"path": "spks", "axes": "trial unit time"}},
            r"no variable 'spks'; it has counts \[4, 3, 20\], ch",
        ),
        ({}, {"period_s": "choice"}, "choice: 4 times for 1 trials"),
        (_with("speed", (2, 3), 5), {"trials": {"speed": "speed"}}, "speed, trial 3: changes within the trial"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    tmp_path: Path, source_of: SourceOf, changed: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "a.npz", **{**GOOD, **changed})
    source = source_of(tmp_path / "a.npz", SPIKES)
    with pytest.raises(Unreadable, match=rf"^a\.npz.*{said}") as caught:
        read_recording("trials", source, {**MAPPED, **options})
    assert "\n" not in str(caught.value)


def test_swapped_axes_of_real_trials_are_found_by_their_shape(
    examples: dict[str, Any], shared_data: Path, source_of: SourceOf
) -> None:
    path = shared_data / "ephys" / "m1_chewie_myow" / "full-chewie-10032013-0.10.pkl"
    swapped = {"path": "data.firing_rates", "axes": "trial unit time"}
    options = {**examples["m1-chewie"].reader_options, "signal": swapped}
    with pytest.raises(Unreadable, match=r"trials have 9 to 14 units; every trial has 174 samples: `axes` may have"):
        read_recording("trials", source_of(path, SPIKES), options)


@pytest.mark.parametrize("name", ["session1.rds", "fov.mat", "a.npz", "m1.pkl", "track.videoPositionTracking"])
def test_a_file_that_was_cut_off_is_named(name: str, tmp_path: Path, shared_data: Path, source_of: SourceOf) -> None:
    real = {
        "session1.rds": "ephys/steinmetz2019_rds/session1.rds",
        "fov.mat": "calcium/park2024_v1_gratings/230803_mrcuts24_fov1_grat-000_data.mat",
        "m1.pkl": "ephys/m1_chewie_myow/full-chewie-10032013-0.10.pkl",
        "track.videoPositionTracking": "ephys/nelpy_linear_track/linear-track/trajectory.videoPositionTracking",
    }
    if name in real:
        content = (shared_data / real[name]).read_bytes()
    else:
        np.savez(tmp_path / name, **GOOD)
        content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2 - 1])
    with pytest.raises(Unreadable, match=name.replace(".", r"\.")):
        read_recording("trials", source_of(tmp_path / name, SPIKES), COUNTS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({**COUNTS, "signal": {"path": "x", "axes": "trial neuron time"}}, "not an order of trial, time and unit"),
        ({"period_s": 0.01}, "one of them"),
        ({"signal": COUNTS["signal"]}, "needs `period_s`"),
        ({**COUNTS, "clock": "recorded"}, "needs `onset`"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_a_mistake_of_the_user(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        reader_options("trials", options, where="data/catalog/lab.yaml: reader_options")
