"""ALF files: insertions laid out as IBL's from real recordings (`tests.insertions`), and IBL's own photometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from one.alf.cache import make_parquet_db
from one.api import One

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.readers.shared.allen_ccf import acronyms
from neurofm.recording import ManifestRecording, Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from tests.insertions import PROBES, PROJECT, SESSION, SORTING, copied, input_of, insertions

PREPROCESS = load_params(PROJECT).preprocess
ALF = f"{SESSION}/alf"
CQ002 = "cortexlab/Subjects/CQ002/2024-11-05/001"

# What ONE-api says of tables that name no default revision, and pandas of ONE-api.
pytestmark = [
    pytest.mark.filterwarnings("ignore:No default revision"),
    pytest.mark.filterwarnings("ignore:Multiple revisions"),
    pytest.mark.filterwarnings("ignore:The copy keyword"),
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    root = tmp_path_factory.mktemp("ibl")
    insertions(root, shared_data)
    return root


@pytest.fixture(scope="module")
def probes(tree: Path) -> list[Recording]:
    return [read_recording("alf", input_of(tree, index), {}) for index in range(len(PROBES))]


@pytest.fixture(scope="module")
def one(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> One:
    tables = tmp_path_factory.mktemp("tables")
    make_parquet_db(tree, out_dir=tables)
    return One(cache_dir=tree, tables_dir=tables, mode="local")


def read(root: Path, **options: Any) -> Recording:
    return read_recording("alf", input_of(root), options)


def values_of(recording: Recording, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(recording.targets[name].values, dtype=np.float64)


def test_spikes_are_those_that_one_loads(probes: list[Recording], one: One) -> None:
    (session,) = one.search(subject="A2929")
    for probe, recording in zip(PROBES, probes, strict=True):
        theirs = one.load_object(session, "spikes", collection=f"alf/{probe}/{SORTING}")
        assert recording.spikes is not None
        order = np.lexsort((theirs["clusters"], theirs["times"]))
        np.testing.assert_array_equal(recording.spikes.time_s, theirs["times"][order])
        np.testing.assert_array_equal(recording.spikes.channel, theirs["clusters"][order])


def test_units_carry_the_archives_metrics_under_its_names(probes: list[Recording], one: One) -> None:
    (session,) = one.search(subject="A2929")
    theirs = one.load_dataset(session, "clusters.metrics", collection=f"alf/{PROBES[0]}/{SORTING}")
    quality = probes[0].channels.quality
    assert set(quality) == {"firing_rate", "presence_ratio", "slidingRP_viol", "label", "good"}
    np.testing.assert_array_equal(quality["firing_rate"], [*theirs["firing_rate"], np.nan])
    np.testing.assert_array_equal(quality["good"], [0, 0, *[1] * 6, 0, np.nan])


def test_regions_are_acronyms_and_places_micrometres(probes: list[Recording]) -> None:
    assert probes[0].channels.region == (*["AD"] * 9, "")
    assert set(probes[1].channels.region) == {"CA1", ""}
    assert (probes[0].channels.position_unit, probes[0].channels.space) == ("um", "bregma-mlapdv")
    np.testing.assert_array_equal(probes[0].channels.position[3], [1200, 60, -3])


def test_probes_of_a_session_are_simultaneous(probes: list[Recording]) -> None:
    assert {recording.clock.id for recording in probes} == {f"ibl-brainwide/{SESSION}"}
    first, second = (recording.spikes for recording in probes)
    assert first is not None
    assert second is not None
    assert first.start_s == second.start_s == 0.0  # so their bins coincide


def test_a_clock_that_the_catalogue_names_is_kept(tree: Path) -> None:
    named = replace(input_of(tree), clock="lab")
    assert read_recording("alf", named, {}).clock.id == named.clock_id


def test_trials_are_those_that_one_loads(probes: list[Recording], one: One) -> None:
    (session,) = one.search(subject="A2929")
    theirs = one.load_object(session, "trials")
    events = probes[0].events
    assert events is not None
    np.testing.assert_array_equal(events.onset_s, theirs["intervals"][:, 0])
    np.testing.assert_allclose(events.onset_s + events.duration_s, theirs["intervals"][:, 1])
    columns = events.columns
    for name, ours in {"choice": "choice", "feedbackType": "feedback", "contrastLeft": "contrast_left"}.items():
        np.testing.assert_array_equal(columns[ours], theirs[name])
    np.testing.assert_allclose(
        np.asarray(columns["response_time"], dtype=np.float64), theirs["response_times"] - theirs["stimOn_times"]
    )
    left = np.isfinite(theirs["contrastLeft"])
    assert columns["stimulus"] == tuple(np.where(left, "left", "right"))
    assert probes[0].quality["n_trials"] == len(left)


def test_trials_can_begin_at_the_stimulus(tree: Path, one: One) -> None:
    (session,) = one.search(subject="A2929")
    theirs = one.load_object(session, "trials")["stimOn_times"]
    recording = read(tree, trial_onset="stimOn_times")
    assert recording.events is not None
    np.testing.assert_array_equal(recording.events.onset_s, theirs[np.isfinite(theirs)])
    assert recording.quality["trials_without_time"] == np.isnan(theirs).sum()


def test_wheel_velocity_is_the_slope_of_its_position(probes: list[Recording], one: One) -> None:
    (session,) = one.search(subject="A2929")
    wheel = one.load_object(session, "wheel")
    target = probes[0].targets["wheel_velocity"]
    velocity = values_of(probes[0], "wheel_velocity")[:, 0]
    assert target.unit == "rad/s"
    # What it turned in each ten seconds, by velocity and by position.
    edges = np.arange(680, 1180, 10.0)
    turned = np.interp(edges, target.time_s, np.cumsum(velocity) / 250)
    np.testing.assert_allclose(
        np.diff(turned), np.diff(np.interp(edges, wheel["timestamps"], wheel["position"])), atol=0.05
    )


def test_cameras_give_pupil_and_body_parts(probes: list[Recording], tree: Path) -> None:
    frames = pd.read_parquet(tree / ALF / "_ibl_leftCamera.lightningPose.pqt")
    np.testing.assert_array_equal(
        np.isnan(values_of(probes[0], "pose_left_nose_tip")[:, 0]), frames["nose_tip_likelihood"] < 0.9
    )
    np.testing.assert_array_equal(
        values_of(probes[0], "pose_left_nose_tip")[1], frames[["nose_tip_x", "nose_tip_y"]].iloc[1]
    )
    np.testing.assert_array_equal(values_of(probes[0], "pupil")[:, 0], frames["nose_tip_y"])


def test_a_late_wheel_moves_its_target_by_as_much(tree: Path, tmp_path: Path, probes: list[Recording]) -> None:
    late = copied(tree, tmp_path / "late")
    file = late / ALF / "_ibl_wheel.timestamps.npy"
    np.save(file, np.load(file) + 2.5)
    before, after = (
        preprocess_recording(recording, settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
        for recording in (probes[0], read(late))
    )
    assert before.signal is not None
    bins = round(2.5 * before.signal.sampling_rate_hz)
    for name, shift in {"wheel_velocity": bins, "pupil": 0}.items():
        stayed, moved = values_of(before, name), values_of(after, name)
        np.testing.assert_allclose(moved[shift:], stayed[: len(stayed) - shift], atol=1e-3)


def test_insertion_becomes_a_shard(probes: list[Recording], tmp_path: Path) -> None:
    done = preprocess_recording(probes[0], settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
    # Of ten clusters, the first two and the last with spikes have labels under 1; the tenth has no spikes.
    assert done.quality["unit_exclusions"] == "3 by label less than 1 (0 to 0.6667); 3 by good less than 1 (0 to 0)"
    path = tmp_path / "insertion.zarr.zip"
    said = {"archive": "ibl", "source_id": "brain-wide-map", "version": "x", "licence": "CC-BY-4.0", "citation": "-"}
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    shard = read_shard(path, extra=True)
    assert shard.recording.clock.id == f"ibl-brainwide/{SESSION}"
    assert np.flatnonzero(~shard.usable).tolist() == [0, 1, 8, 9], "the cluster without spikes is kept, and not usable"
    assert shard.recording.channels.region[0] == "AD"
    assert shard.recording.events is not None
    assert set(shard.recording.targets) == {"wheel_velocity", "pupil", "pose_left_nose_tip"}


@pytest.mark.parametrize(
    ("revision", "expected"), [("", 5.0), ("2024-05-06", 2.0), ("2024-05-05", 0.0), ("2030-01-01", 5.0)]
)
def test_revision_is_the_one_that_one_chooses(tree: Path, tmp_path: Path, revision: str, expected: float) -> None:
    root = copied(tree, tmp_path / "revised")
    folder = root / ALF
    for name, moved in {"2024-05-06": 2.0, "2025-03-03": 5.0}.items():
        (folder / f"#{name}#").mkdir()
        times = np.load(folder / "_ibl_wheel.timestamps.npy")
        np.save(folder / f"#{name}#" / "_ibl_wheel.timestamps.npy", times + moved)
    tables = tmp_path / "tables"
    tables.mkdir()
    make_parquet_db(root, out_dir=tables)
    one = One(cache_dir=root, tables_dir=tables, mode="local")
    (session,) = one.search(subject="A2929")
    theirs = one.load_dataset(session, "_ibl_wheel.timestamps", collection="alf", revision=revision or None)
    target = read(root, revision=revision).targets["wheel_velocity"]
    ours = target.time_s[0]
    assert ours == theirs[0]
    assert ours == pytest.approx(np.load(folder / "_ibl_wheel.timestamps.npy")[0] + expected)


def test_nothing_is_written_beside_the_files(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    read(tree)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_session_without_behaviour_is_kept_and_marked(tree: Path, tmp_path: Path) -> None:
    root = copied(tree, tmp_path / "alone")
    for file in (root / ALF).glob("_ibl_*"):
        file.unlink()
    recording = read(root)
    assert recording.events is None
    assert recording.targets == {}
    assert recording.quality["has_behaviour"] is False


SPIKES = f"{ALF}/{PROBES[0]}/{SORTING}"
Damage = Callable[[Path], None]


def changed(name: str, change: Callable[[Any], Any]) -> Damage:
    def damage(root: Path) -> None:
        file = root / name
        if file.suffix == ".pqt":
            change(pd.read_parquet(file)).to_parquet(file)
        else:
            np.save(file, change(np.load(file)))

    return damage


def put(values: Any, at: int, value: Any) -> Any:
    values[at] = value
    return values


def overlapping(trials: pd.DataFrame) -> pd.DataFrame:
    stop_s = trials["intervals_1"].to_numpy(dtype=np.float64, copy=True)
    stop_s[4] += 1
    return trials.assign(intervals_1=stop_s)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed(f"{SPIKES}/spikes.times.npy", lambda v: put(v, 500, 0.0)), r"spikes\.times\.npy: spike times go back"),
        (changed(f"{SPIKES}/spikes.times.npy", lambda v: put(v, 0, -3.0)), "spike at -3 s lies before"),
        (changed(f"{SPIKES}/spikes.times.npy", lambda v: put(v, 9, np.nan)), "not all numbers .*number 9"),
        (changed(f"{SPIKES}/spikes.times.npy", lambda v: v[:-1]), "spike times, but spikes.clusters.npy gives"),
        (changed(f"{SPIKES}/spikes.times.npy", lambda v: v.astype(object)), "holds Python objects"),
        (changed(f"{SPIKES}/spikes.clusters.npy", lambda v: put(v, 9, 40)), "cluster 40, but the unit table .* 10 row"),
        (lambda root: (root / SPIKES / "spikes.clusters.npy").unlink(), "no spikes.clusters beside it"),
        (changed(f"{ALF}/_ibl_wheel.timestamps.npy", lambda v: put(v, 99, 0.0)), "timestamps of the wheel go back"),
        (changed(f"{ALF}/_ibl_wheel.position.npy", lambda v: v[:-1]), "timestamps of the wheel for"),
        (changed(f"{ALF}/_ibl_leftCamera.times.npy", lambda v: v[:-1]), "times for .* frames of features"),
        (changed(f"{ALF}/_ibl_trials.table.pqt", overlapping), "trials overlap: trial 5 begins at"),
        (
            changed(f"{ALF}/_ibl_trials.table.pqt", lambda t: t.drop(columns="intervals_0")),
            "trials without `intervals`",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(tree: Path, tmp_path: Path, damage: Damage, said: str) -> None:
    root = copied(tree, tmp_path / "bad")
    damage(root)
    with pytest.raises(Unreadable, match=said):
        read(root)


def test_structures_that_the_ontology_lacks_keep_their_number() -> None:
    assert acronyms([382, -382, 0, 997, 123_456_789]) == ("CA1", "CA1", "", "root", "CCF:123456789")


@pytest.fixture
def photometry(shared_data: Path) -> ReaderInput:
    root = shared_data / "ephys" / "ibl_alf_photometry_CQ002"
    main = f"{CQ002}/alf/photometry/photometry.signal.pqt"
    extra = (f"{CQ002}/alf/photometry/photometryROI.locations.pqt", f"{CQ002}/alf/task_00/_ibl_trials.table.pqt")
    entry = ManifestRecording(id="rec", subject="ibl:CQ002", files={"main": main}, extra=extra)
    return ReaderInput(dataset="fibres", modality=Modality.CALCIUM, species="Mus musculus", root=root, entry=entry)


def test_photometry_keeps_the_indicators_frames(photometry: ReaderInput) -> None:
    recording = read_recording("alf", photometry, {})
    table = pd.read_parquet(photometry.path())
    frames = table[(table["name"] == "GCaMP") & table["valid"]]
    assert recording.signal is not None
    np.testing.assert_array_equal(recording.signal.values, frames[["G0", "G4"]])
    assert recording.signal.sampling_rate_hz == pytest.approx(30, abs=0.01)
    assert recording.channels.region == ("SI", "PPT")
    assert set(recording.noise) == {"isosbestic"}
    assert recording.events is not None
    assert len(recording.events.label) == 328
    assert recording.clock.id == f"fibres/{CQ002}"
    done = preprocess_recording(recording, settings=PREPROCESS.of(Modality.CALCIUM), common=PREPROCESS.common)
    assert done.quality["n_usable"] == 2


def test_photometry_of_another_indicator(photometry: ReaderInput) -> None:
    with pytest.raises(Unreadable, match=r"no frames of 'dLight' \(it has GCaMP, Isosbestic; reader option"):
        read_recording("alf", photometry, {"indicator": "dLight"})
