"""Frames shown, inside a shard: whole, compressed, read by offset; a shard without them is what it was."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.recording import Recording, Signal, Stimulus
from neurofm.shards import read_shard, write_shard
from neurofm.shards.packed import DamagedChunk, PackedShard
from tests.pictures import film_of, stimulus_of
from tests.shards.film import PROVENANCE


@pytest.fixture(scope="module")
def film(shared_data: Path) -> npt.NDArray[np.uint8]:
    return film_of(shared_data)


@pytest.fixture(scope="module")
def watched(sample_recording: Callable[..., Recording], film: npt.NDArray[np.uint8]) -> Recording:
    """Two-photon imaging, 2000 frames at 10 Hz, in front of the film."""
    recording = sample_recording("a0662-2p")
    assert recording.signal is not None
    signal = Signal(values=recording.signal.values[:, :20], sampling_rate_hz=10.0, units="a.u.")
    channels = replace(
        recording.channels,
        id=recording.channels.id[:20],
        position=recording.channels.position[:20],
        region=recording.channels.region[:20],
        quality={},
    )
    return replace(
        recording,
        channels=channels,
        signal=signal,
        sample_time_s=None,
        extra_signals={},
        targets={},
        stimulus=stimulus_of(film, signal.time_s),
    )


@pytest.fixture(scope="module")
def shard(watched: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stimulus") / "a0662.zarr.zip"
    write_shard(watched, provenance=PROVENANCE, path=path)
    return path


def test_what_was_shown_comes_back_to_those_who_ask(shard: Path, watched: Recording) -> None:
    back = read_shard(shard, extra=True).recording.stimulus
    assert back is not None
    assert watched.stimulus is not None
    np.testing.assert_array_equal(back.frames, watched.stimulus.frames)
    np.testing.assert_array_equal(back.shown, watched.stimulus.shown)
    np.testing.assert_allclose(back.time_s, watched.stimulus.time_s)
    assert (back.frames.dtype.name, back.shown.dtype.name) == ("uint8", "int32")
    assert read_shard(shard).recording.stimulus is None  # training pays for no frame


def test_all_else_keeps_its_bytes(shard: Path, watched: Recording, tmp_path: Path) -> None:
    write_shard(replace(watched, stimulus=None), provenance=PROVENANCE, path=tmp_path / "without.zarr.zip")
    with zipfile.ZipFile(shard) as seen, zipfile.ZipFile(tmp_path / "without.zarr.zip") as blind:
        more = set(seen.namelist()) - set(blind.namelist())
        assert more == {
            f"stimulus/{name}" for name in ("zarr.json", "frames/zarr.json", "frames/c/0/0/0", "shown/zarr.json")
        } | {"stimulus/shown/c/0"}
        assert all(seen.read(name) == blind.read(name) for name in blind.namelist())
    write_shard(watched, provenance=PROVENANCE, path=tmp_path / "again.zarr.zip")
    assert (tmp_path / "again.zarr.zip").read_bytes() == shard.read_bytes()


def test_chunks_are_whole_frames_of_128_kb_and_smaller_than_they_were(shard: Path) -> None:
    frames = PackedShard(shard).array("stimulus/frames")
    assert frames.shape == (1452, 40, 20)
    assert frames.chunk_rows == 164  # 131 200 bytes
    assert frames.compressed
    assert frames.stored_bytes < 0.7 * frames.decoded_bytes


@settings(max_examples=60, deadline=None)
@given(ends=st.tuples(st.integers(0, 1452), st.integers(0, 1452)))
def test_any_frames_are_the_slice_of_the_film(ends: tuple[int, int], shard: Path, film: npt.NDArray[np.uint8]) -> None:
    start, stop = sorted(ends)
    np.testing.assert_array_equal(PackedShard(shard).array("stimulus/frames").read(start, stop), film[start:stop])


def test_a_flipped_bit_of_a_frame_names_its_chunk(shard: Path, tmp_path: Path) -> None:
    frames = PackedShard(shard).array("stimulus/frames")
    content = bytearray(shard.read_bytes())
    content[frames.offset + int(frames.index[3, 0]) + 40] ^= 1
    (tmp_path / shard.name).write_bytes(bytes(content))
    damaged = PackedShard(tmp_path / shard.name).array("stimulus/frames")
    with pytest.raises(DamagedChunk, match=r"a0662\.zarr\.zip: stimulus/frames: chunk 3 has another checksum"):
        damaged.read(3 * 164, 3 * 164 + 1)
    np.testing.assert_array_equal(damaged.read(0, 3 * 164), frames.read(0, 3 * 164))


def test_a_stimulus_of_another_length_is_not_written(watched: Recording, tmp_path: Path) -> None:
    assert watched.stimulus is not None
    short = replace(watched.stimulus, shown=watched.stimulus.shown[:-1], time_s=watched.stimulus.time_s[:-1])
    with pytest.raises(ValueError, match="the stimulus has 1999 samples, the signal 2000"):
        write_shard(replace(watched, stimulus=short), provenance=PROVENANCE, path=tmp_path / "a.zarr.zip")


@pytest.mark.parametrize(
    ("frames", "shown", "words"),
    [
        (np.zeros((3, 4, 5), np.float32), [0, 1], r"frames are float32 \(3, 4, 5\), expected uint8"),
        (np.zeros((3, 4, 5, 3), np.uint8), [0, 1], "expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), [0, 3], r"frames 0 to 3 were shown, of 3 \(-1 is none\)"),
        (np.zeros((3, 4, 5), np.uint8), [-2, 0], "frames -2 to 0 were shown"),
        (np.zeros((3, 4, 5), np.uint8), [0, 1, 2], "3 int32 frames at 2 times"),
    ],
)
def test_impossible_stimuli_are_refused(frames: npt.NDArray[np.uint8], shown: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Stimulus(frames=frames, shown=np.array(shown, dtype=np.int32), time_s=np.array([0.0, 1.0]))
