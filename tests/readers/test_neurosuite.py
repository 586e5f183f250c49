"""Neurosuite: mouse A2929 as its lab wrote it, and the same session packed and described as CRCNS hc-3 does.

Sessions of hc-3 itself need an account. The tracked LEDs are made of A2929's own place and heading (its head is drawn
as two LEDs 4 cm apart), in the form of a ``.whl``; the cell table's metrics are made up.
"""

from __future__ import annotations

import io
import tarfile
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
from neurofm.recording import ManifestRecording, Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.sources.recordings import recordings_of
from tests.insertions import PROJECT
from tests.servers.crcns import lay_out_hc3

NAME = "A2929-200711"
PREPROCESS = load_params(PROJECT).preprocess
WHL_HZ = 39.0625
FIRST_FRAME_S = 671.0
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def mouse(shared_data: Path) -> Path:
    return shared_data / "ephys" / "neurosuite_A2929-200711"


def input_of(root: Path, main: str, *extra: str, subject: str = "lab:A2929") -> ReaderInput:
    entry = ManifestRecording(id="rec", subject=subject, files={"main": main}, extra=extra)
    return ReaderInput(dataset="hc", modality=Modality.SPIKES, species="Mus musculus", root=root, entry=entry)


def in_folder(folder: Path) -> ReaderInput:
    names = [file.name for file in folder.iterdir() if file.suffix != ".nwb"]
    return input_of(folder, f"{NAME}.xml" if f"{NAME}.xml" in names else f"{NAME}.clu.1", *names)


@pytest.fixture(scope="module")
def recording(mouse: Path) -> Recording:
    options = {"regions": {"1": "ADN", "2": "CA1"}, "epochs": ["sleep", "wake"]}
    return read_recording("neurosuite", in_folder(mouse), options)


def leds(mouse: Path) -> str:
    """Return a ``.whl`` whose first row is A2929's head at 671 s; every hundredth row, the second LED is not seen."""
    with h5py.File(mouse / f"{NAME}.nwb") as file:
        place = file["acquisition/Position"]
        time_s = place["x/timestamps"][()]
        at_s = np.arange(FIRST_FRAME_S, 1199, 1 / WHL_HZ)
        x, y = (np.interp(at_s, time_s, place[f"{axis}/data"][()]) * 100 + 100 for axis in ("x", "z"))
        heading = np.interp(at_s, time_s, np.unwrap(file["acquisition/CompassDirection/ry/data"][()]))
    step = 2 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    middle = np.stack([x, y], axis=1)
    both = np.concatenate([middle + step, middle - step], axis=1)
    both[::100, 2:] = -1
    return "".join(" ".join(f"{value:.4f}" for value in row) + "\n" for row in both)


@pytest.fixture(scope="module")
def archive(mouse: Path, tmp_path_factory: pytest.TempPathFactory) -> ReaderInput:
    """The session as hc-3 has it: one tar with ``.whl`` and ``.eeg``, tables beside it."""
    root = tmp_path_factory.mktemp("hc3")
    lay_out_hc3(mouse, root, checksums=False)
    top = root / "hc-3"
    contents = {file.name: file.read_bytes() for file in mouse.iterdir() if file.name.startswith(f"{NAME}.")}
    del contents[f"{NAME}.nwb"]
    contents[f"{NAME}.whl"] = leds(mouse).encode()
    contents[f"{NAME}.eeg"] = bytes(1200 * 1250 * 16 * 2)  # only its size counts
    pack(contents, top / "A2929" / f"{NAME}.tar.gz")
    cells = [f"{i},A2929,A2929,{1 + (i > 8)},{2 + i % 9},{'CA1' if i > 8 else 'ADN'},1,0,0,1,{20 + i},0,2.5,3.5,{kind}"
             for i, kind in enumerate("ppppppiipppppppn")]  # fmt: skip
    (top / "hc3-metadata-tables" / "hc3-cell.csv").write_text("\n".join(cells))
    entry = load_entry("crcns-hc-3", root=PROJECT)
    paths = [path.relative_to(top).as_posix() for path in sorted(top.rglob("*")) if path.is_file()]
    # As the entry has it, but for the animals' names.
    rule = entry.recordings.model_copy(update={"pattern": r"(?P<subject>A2929)/(?P<session>[^/]+)\.tar\.gz"})
    (found,) = recordings_of(paths, rule, namespace=entry.subject_namespace, where=entry.id)
    return ReaderInput(dataset=entry.id, modality=Modality.SPIKES, species=entry.species, root=top, entry=found)


def pack(contents: Contents, path: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def described(archive: ReaderInput) -> Recording:
    return read_recording("neurosuite", archive, {"offset_s": FIRST_FRAME_S})


def test_same_fifteen_units_as_in_nwb_within_a_microsecond(recording: Recording, mouse: Path) -> None:
    with h5py.File(mouse / f"{NAME}.nwb") as file:
        trains = np.split(file["units/spike_times"][()], file["units/spike_times_index"][()][:-1])
    spikes = recording.spikes
    assert spikes is not None
    assert len(recording.channels) == len(trains) == 15
    for unit, train in enumerate(trains):
        ours = spikes.time_s[spikes.channel == unit]
        assert len(ours) == len(train)
        assert np.abs(ours - train).max() < 1.001e-6
    assert recording.channels.region == ("ADN",) * 7 + ("CA1",) * 8


def test_artefacts_and_noise_are_dropped_and_counted(recording: Recording) -> None:
    assert recording.quality["artefact_spikes"] == 16_595 + 38_263
    assert recording.quality["noise_spikes"] == 7_817 + 1_095
    assert recording.channels.id[0] == "shank1-2"


def test_ripples_are_those_of_the_event_file(recording: Recording, mouse: Path) -> None:
    lines = [line.split("\t") for line in (mouse / f"{NAME}.evt.py.rip").read_text().splitlines()]
    # Not the NWB file's ripples, which were detected anew.
    times = {phase: np.array([float(t) for t, text in lines if f" {phase} " in text]) / 1000
             for phase in ("start", "peak", "stop")}  # fmt: skip
    events = recording.events
    assert events is not None
    ripples = events.where(np.array([label == "PyRip" for label in events.label]))
    assert len(ripples.label) == 428
    np.testing.assert_array_equal(ripples.onset_s, times["start"])
    np.testing.assert_allclose(ripples.onset_s + ripples.duration_s, times["stop"])
    np.testing.assert_array_equal(ripples.columns["peak_s"], times["peak"])


def test_epochs_have_the_names_given(recording: Recording) -> None:
    assert recording.events is not None
    epochs = recording.events.where(np.array([label in {"sleep", "wake"} for label in recording.events.label]))
    assert [*zip(epochs.onset_s, epochs.duration_s, epochs.label, strict=True)] == [
        (0, 600, "sleep"),
        (600, 600, "wake"),
    ]
    assert recording.spikes is not None
    assert recording.spikes.stop_s == 1200.0


def test_awake_is_the_same_as_in_nwb(mouse: Path) -> None:
    awake = {"awake": {"ones": ["wake"], "zeros": ["sleep"]}}
    ours = read_recording("neurosuite", in_folder(mouse), {"epochs": ["sleep", "wake"], "states": awake})
    nwb = read_recording("nwb", input_of(mouse, f"{NAME}.nwb"), {"states": awake})
    for name in ("values", "time_s"):
        np.testing.assert_array_equal(getattr(ours.targets["awake"], name), getattr(nwb.targets["awake"], name))
    assert ours.quality["has_behaviour"] is False
    with pytest.raises(Unreadable, match=f"{NAME}: states.awake: no interval is called 'wake', only PyRip, epoch"):
        read_recording("neurosuite", in_folder(mouse), {"states": awake})


def test_session_without_leds_is_kept_and_marked(recording: Recording) -> None:
    assert recording.targets == {}
    assert recording.quality["has_behaviour"] is False


def test_archive_gives_the_same_spikes_and_is_not_unpacked(
    recording: Recording, described: Recording, archive: ReaderInput
) -> None:
    assert recording.spikes is not None
    assert described.spikes is not None
    counts = np.bincount(described.spikes.channel, minlength=17)
    assert counts[7:9].tolist() == [0, 0]  # listed by the cell table only
    np.testing.assert_array_equal(np.delete(counts, [7, 8]), np.bincount(recording.spikes.channel))
    np.testing.assert_array_equal(described.spikes.time_s, recording.spikes.time_s)
    assert {path.name for path in archive.path().parent.iterdir()} == {f"{NAME}.tar.gz"}


def test_tables_give_region_kind_and_metrics(described: Recording) -> None:
    channels = described.channels
    # The cell table lists cluster 9 and 10 of shank 1 that have no spikes in this session: they are kept.
    assert channels.id[:9] == tuple(f"shank1-{cluster}" for cluster in range(2, 11))
    assert set(channels.region[:9]) == {"ADN"}
    np.testing.assert_array_equal(channels.quality["ed"][:3], [20, 21, 22])
    np.testing.assert_array_equal(channels.quality["pyramidal"][:9], [1] * 6 + [0, 0, 1])
    assert described.task == "sleep"
    assert described.scalars == {"behavior": "sleep", "familiarity": "1"}


def test_duration_is_that_of_the_field_potentials(described: Recording) -> None:
    assert described.spikes is not None
    assert described.spikes.stop_s == 1200.0
    assert described.quality["duration_stated"] is True


def test_leds_give_place_and_heading(described: Recording, mouse: Path) -> None:
    with h5py.File(mouse / f"{NAME}.nwb") as file:
        time_s = file["acquisition/CompassDirection/ry/timestamps"][()]
        heading = np.unwrap(file["acquisition/CompassDirection/ry/data"][()])
        x = file["acquisition/Position/x/data"][()] * 100 + 100
    direction, position = described.targets["head_direction"], described.targets["position"]
    expected = np.interp(direction.time_s, time_s, heading)
    seen = np.isfinite(direction.values[:, 0])
    assert not seen[::100].any()
    assert seen.sum() == len(seen) - len(seen[::100])
    turned = np.angle(np.exp(1j * expected[seen]) / (direction.values[seen, 0] + 1j * direction.values[seen, 1]))
    assert np.abs(turned).max() < 1e-3
    np.testing.assert_allclose(position.values[seen, 0], np.interp(position.time_s, time_s, x)[seen], atol=1e-3)
    assert np.isfinite(position.values).all()  # one LED is enough for a place


@pytest.mark.parametrize("late_s", [0.0, 12.5])
def test_a_late_video_moves_its_targets_by_as_much(archive: ReaderInput, described: Recording, late_s: float) -> None:
    moved = read_recording("neurosuite", archive, {"offset_s": FIRST_FRAME_S + late_s})
    for name, target in described.targets.items():
        np.testing.assert_allclose(moved.targets[name].time_s, target.time_s + late_s, atol=1e-9)
    before, after = (
        preprocess_recording(one, settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
        for one in (described, moved)
    )
    assert before.signal is not None
    shift = round(late_s * before.signal.sampling_rate_hz)
    n = len(before.signal.values)
    np.testing.assert_allclose(
        after.targets["position"].values[shift:], before.targets["position"].values[: n - shift], atol=1e-3
    )


def test_session_becomes_a_shard(described: Recording, tmp_path: Path) -> None:
    done = preprocess_recording(described, settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
    path = tmp_path / "session.zarr.zip"
    said = {"archive": "crcns", "source_id": "hc-3", "version": "x", "licence": "-", "citation": "-"}
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    shard = read_shard(path, extra=True)
    assert shard.usable.sum() == 15
    assert set(shard.recording.targets) == {"position", "head_direction"}
    assert shard.recording.channels.quality["pyramidal"][0] == 1


def line(contents: Contents, suffix: str, at: int, text: str) -> None:
    lines = contents[NAME + suffix].split(b"\n")
    lines[at] = text.encode()
    contents[NAME + suffix] = b"\n".join(lines)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c.pop(f"{NAME}.xml"), r"\.xml: the session has no \.xml, so the sampling rate"),
        (lambda c: c.update({f"{NAME}.xml": b"<parameters>"}), r"\.xml: not readable"),
        (lambda c: c.update({f"{NAME}.xml": b"<parameters/>"}), "does not state acquisitionSystem/samplingRate"),
        (lambda c: line(c, ".clu.1", -2, ""), r"res\.1: 103761 spike times, but .*clu\.1 gives 103760 spikes"),
        (lambda c: c.pop(f"{NAME}.res.2"), r"res\.2: no such file in the session"),
        (lambda c: line(c, ".res.1", 700, "1"), r"res\.1: spike times go back, from .* s to 5e-05 s \(number 700 of"),
        (lambda c: line(c, ".res.1", 0, "-40"), r"res\.1: a spike at sample -40 lies before"),
        (lambda c: line(c, ".res.2", 58_802, "24200000"), r"a spike at 1210 s lies past the recording's end \(1200 s"),
        (lambda c: line(c, ".clu.1", 0, "5"), r"clu\.1: spikes of 9 clusters, but its first line says 5"),
        (lambda c: line(c, ".clu.1", 7, "two"), r"clu\.1: not all of its lines are whole numbers"),
        (lambda c: c.update({f"{NAME}.whl": b"1 2 3 4\n1 2 3\n"}), r"whl: its lines have \[3, 4\] numbers"),
        (lambda c: c.update({f"{NAME}.evt.rip": b"soon\tripple start\n"}), "line 1 does not begin with a time"),
        (lambda c: c.update({"Epoch_TS.csv": b"600,0\n"}), "epoch 1 ends at 0 s, before it begins"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    mouse: Path, tmp_path: Path, damage: Callable[[Contents], Any], said: str
) -> None:
    contents = {file.name: file.read_bytes() for file in mouse.iterdir() if file.suffix not in {".nwb", ".nrs"}}
    damage(contents)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Unreadable, match=said):
        read_recording("neurosuite", in_folder(tmp_path), {})


def test_truncated_archive(archive: ReaderInput, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar.gz").write_bytes(archive.path().read_bytes()[:100_000])
    with pytest.raises(Unreadable, match=r"A2929-200711\.tar\.gz: not readable"):
        read_recording("neurosuite", input_of(tmp_path, f"{NAME}.tar.gz"), {})


def test_table_with_missing_columns(archive: ReaderInput, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar.gz").symlink_to(archive.path())
    (tmp_path / "hc3-cell.csv").write_text("1,A2929,A2929,1,2\n")
    with pytest.raises(Unreadable, match=r"hc3-cell\.csv: line 1 has 5 columns, expected 15"):
        read_recording("neurosuite", input_of(tmp_path, f"{NAME}.tar.gz", "hc3-cell.csv"), {})
