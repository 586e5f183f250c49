"""``sessInfo.mat`` of hc-11, laid out as MATLAB 7.3 writes it, from a real rat on a linear track.

Files of hc-11 itself need an account. Spikes (31 units) and place (pixels of a camera at 60 Hz) are those of nelpy's
example recording; which units are pyramidal, the one-dimensional place (x along the track) and the epochs are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording, Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from tests.insertions import PROJECT

NAME = "Achilles_10252013_sessInfo.mat"
PREPROCESS = load_params(PROJECT).preprocess
Contents = dict[str, npt.NDArray[np.float64]]


@pytest.fixture(scope="module")
def contents(shared_data: Path) -> Contents:
    """Arrays as MATLAB has them: columns for vectors."""
    folder = shared_data / "ephys" / "nelpy_linear_track" / "linear-track"
    trains = _trains(folder / "spikes.mat")
    ids = np.concatenate([np.full(len(train), 300 + i) for i, train in enumerate(trains)])
    time_s = np.concatenate(trains)
    place = _place(folder / "trajectory.videoPositionTracking")
    start_s, stop_s = min(time_s.min(), place["t"][0]), max(time_s.max(), place["t"][-1])
    x = place["x"].astype(np.float64)
    x[::500] = np.nan  # not tracked
    return {
        "Spikes/SpikeTimes": time_s[:, None],
        "Spikes/SpikeIDs": ids[:, None].astype(np.float64),
        "Spikes/PyrIDs": np.arange(300.0, 325.0)[:, None],
        "Spikes/IntIDs": np.arange(325.0, 332.0)[:, None],  # the last one has no spike
        "Position/OneDLocation": x[:, None],
        "Position/TwoDLocation": np.stack([x, place["y"]], axis=1),
        "Position/TimeStamps": place["t"][None, :],
        "Epochs/PREEpoch": np.array([[start_s, start_s + 500]]),
        "Epochs/MazeEpoch": np.array([[start_s + 500, stop_s - 500]]),
        "Epochs/POSTEpoch": np.array([[stop_s - 500, stop_s]]),
        "Epochs/NREM": np.array([[start_s + 10, start_s + 40], [stop_s - 90, stop_s - 50]]),
    }


def _trains(file: Path) -> list[npt.NDArray[np.float64]]:
    found = []
    for tetrode in np.atleast_1d(scipy.io.loadmat(file, squeeze_me=True)["spikes"]):
        for unit in np.atleast_1d(tetrode):
            fields = unit.dtype.names if hasattr(unit, "dtype") else None
            if fields and "time" in fields:
                times = np.asarray(unit["time"].item() if unit["time"].dtype == object else unit["time"]).ravel()
                if times.size:
                    found.append(times.astype(np.float64))
    return found


def _place(file: Path) -> dict[str, npt.NDArray[Any]]:
    content = file.read_bytes()
    header_end = content.index(b"<End settings>\n") + len(b"<End settings>\n")
    rate = re.search(rb"clockrate: (\d+)", content)
    assert rate
    rows = np.frombuffer(
        content[header_end:], dtype=[("t", "<u4"), ("x", "<u2"), ("y", "<u2"), ("x2", "<u2"), ("y2", "<u2")]
    )
    return {"t": rows["t"] / int(rate[1]), "x": rows["x"], "y": rows["y"].astype(np.float64)}


def write(contents: Contents, folder: Path) -> ReaderInput:
    """Write a MATLAB 7.3 file: a user block of 512 bytes that names it, structs as groups, axes reversed."""
    path = folder / NAME
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in contents.items():
            dataset = file.create_dataset(f"sessInfo/{name}", data=values.T)
            dataset.attrs["MATLAB_class"] = np.bytes_("double")
        for group in ("sessInfo", *(f"sessInfo/{part}" for part in file["sessInfo"])):
            file[group].attrs["MATLAB_class"] = np.bytes_("struct")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + b"\x00\x02IM")
    entry = ManifestRecording(id="rec", subject="buzsaki-hc-11:Achilles", files={"main": NAME})
    return ReaderInput(
        dataset="crcns-hc-11", modality=Modality.SPIKES, species="Rattus norvegicus", root=folder, entry=entry
    )


@pytest.fixture(scope="module")
def source(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> ReaderInput:
    return write(contents, tmp_path_factory.mktemp("hc11"))


@pytest.fixture(scope="module")
def recording(source: ReaderInput) -> Recording:
    return read_recording("sessinfo", source, {"position_unit": "px"})


def test_spikes_of_every_unit(recording: Recording, contents: Contents) -> None:
    spikes = recording.spikes
    assert spikes is not None
    assert recording.channels.id == tuple(f"unit-{300 + i}" for i in range(32))
    assert np.all(np.diff(spikes.time_s) >= 0)
    for unit in range(32):
        theirs = contents["Spikes/SpikeTimes"][contents["Spikes/SpikeIDs"] == 300 + unit]
        np.testing.assert_array_equal(spikes.time_s[spikes.channel == unit], np.sort(theirs))


def test_pyramidal_cells_and_interneurons(recording: Recording) -> None:
    np.testing.assert_array_equal(recording.channels.quality["pyramidal"], [1] * 25 + [0] * 7)
    assert set(recording.channels.region) == {"CA1"}


def test_position_is_that_of_the_file(recording: Recording, contents: Contents) -> None:
    place = recording.targets["position"]
    np.testing.assert_array_equal(place.values, contents["Position/TwoDLocation"])
    np.testing.assert_array_equal(place.time_s, contents["Position/TimeStamps"].ravel())
    assert recording.targets["linear_position"].columns == ("x",)
    assert (place.unit, place.columns) == ("px", ("x", "y"))


def test_epochs_are_events_and_bound_the_observation(recording: Recording) -> None:
    events, spikes = recording.events, recording.spikes
    assert events is not None
    assert spikes is not None
    assert sorted(events.label) == ["maze", "nrem", "nrem", "post", "pre"]
    assert spikes.start_s == events.onset_s[0]
    assert spikes.stop_s == (events.onset_s + events.duration_s).max()


def test_a_late_video_moves_the_position_by_as_much(source: ReaderInput, recording: Recording) -> None:
    moved = read_recording("sessinfo", source, {"offset_s": 3.2})
    np.testing.assert_allclose(moved.targets["position"].time_s, recording.targets["position"].time_s + 3.2)
    before, after = (
        preprocess_recording(one, settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
        for one in (recording, moved)
    )
    assert before.signal is not None
    shift = round(3.2 * before.signal.sampling_rate_hz)
    np.testing.assert_allclose(
        after.targets["position"].values[shift:], before.targets["position"].values[:-shift], atol=0.01
    )


def test_session_becomes_a_shard(recording: Recording, tmp_path: Path) -> None:
    done = preprocess_recording(recording, settings=PREPROCESS.of(Modality.SPIKES), common=PREPROCESS.common)
    path = tmp_path / "session.zarr.zip"
    said = {"archive": "crcns", "source_id": "hc-11", "version": "x", "licence": "-", "citation": "-"}
    write_shard(done, provenance=Provenance(files=(), libraries={}, **said), path=path)
    shard = read_shard(path, extra=True)
    assert shard.usable.sum() == 31
    assert not shard.usable[31], "the unit without spikes is kept, and not usable"


def test_session_without_position_is_kept_and_marked(contents: Contents, tmp_path: Path) -> None:
    alone = {name: values for name, values in contents.items() if not name.startswith("Position")}
    recording = read_recording("sessinfo", write(alone, tmp_path), {})
    assert recording.targets == {}
    assert recording.quality["has_behaviour"] is False


def test_sleep_against_the_maze(source: ReaderInput, contents: Contents) -> None:
    # Of hours before and after, some asleep, it is not known.
    states = {"awake": {"ones": ["maze"], "zeros": ["nrem"]}}
    recording = read_recording("sessinfo", source, {"states": states})
    awake = recording.targets["awake"]
    asleep = (awake.time_s[:, None] >= contents["Epochs/NREM"][:, 0]) & (
        awake.time_s[:, None] < contents["Epochs/NREM"][:, 1]
    )
    np.testing.assert_array_equal(awake.values[:, 0] == 0, asleep.any(axis=1))
    maze_s = np.ptp(contents["Epochs/MazeEpoch"])
    assert (awake.values[:, 0] == 1).sum() / 10 == pytest.approx(maze_s, abs=0.2)
    assert {"position", "linear_position", "awake"} == set(recording.targets)


def put(name: str, at: int, value: float) -> Callable[[Contents], None]:
    def damage(contents: Contents) -> None:
        contents[name].flat[at] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c.update({"Spikes/SpikeIDs": c["Spikes/SpikeIDs"][:-1]}), "spike times, but Spikes/SpikeIDs gives"),
        (lambda c: c.pop("Spikes/SpikeIDs"), "no Spikes/SpikeTimes with Spikes/SpikeIDs"),
        (put("Spikes/SpikeTimes", 5, -100.0), "spike at -100 s lies before"),
        (put("Spikes/SpikeTimes", 5, 1e6), r"spike at 1e\+06 s lies past the recording's end"),
        (put("Spikes/SpikeTimes", 5, np.nan), "that are no numbers"),
        (put("Position/TimeStamps", 50, 0.0), "timestamps of the position go back"),
        (
            lambda c: c.update({"Position/TwoDLocation": c["Position/TwoDLocation"][:-1]}),
            r"Position/TwoDLocation is \(",
        ),
        (put("Epochs/MazeEpoch", 1, 0.0), "Epochs/MazeEpoch ends at 0 s, before it begins"),
        (lambda c: c.update({"Epochs/Wake": np.ones((2, 3))}), r"Epochs/Wake is \(2, 3\)"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    contents: Contents, tmp_path: Path, damage: Callable[[Contents], Any], said: str
) -> None:
    damaged = {name: values.copy() for name, values in contents.items()}
    damage(damaged)
    with pytest.raises(Unreadable, match=rf"Achilles.*{said}"):
        read_recording("sessinfo", write(damaged, tmp_path), {})


def test_another_matlab_file(tmp_path: Path, contents: Contents) -> None:
    source = write(contents, tmp_path)
    with h5py.File(source.path(), "r+") as file:
        file.move("sessInfo", "info")
    with pytest.raises(Unreadable, match="no variable sessInfo"):
        read_recording("sessinfo", source, {})
    source.path().write_bytes(b"MATLAB 5.0 MAT-file" + bytes(1000))
    with pytest.raises(Unreadable, match="not readable"):
        read_recording("sessinfo", source, {})
