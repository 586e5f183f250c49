"""Windows read inside a packed shard by offset: zarr's own samples, damage by name, here and on a real S3 server."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

from neurofm.recording import Signal, Unreadable
from neurofm.shards import read_shard, write_shard
from neurofm.shards.packed import DamagedChunk, PackedShard
from tests.servers.fixtures import s3_fixture
from tests.servers.seaweed import SeaweedServer
from tests.shards.film import PROVENANCE, write_film

__all__ = ["s3_fixture"]

CHUNK = 15
"""Rows of an inner chunk here, so that there are several: 30 s at a repetition time of 2 s."""


@pytest.fixture(scope="module")
def shard(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "ds000228" / "sub-pixar001_task-pixar.zarr.zip"
    write_film(path, shared_data=shared_data)
    return path


@pytest.fixture(scope="module")
def stored(shard: Path) -> npt.NDArray[np.int16]:
    """The samples as zarr-python has them."""
    return np.asarray(read_shard(shard).stored, dtype=np.int16)


@settings(max_examples=200, deadline=None)
@given(ends=st.tuples(st.integers(0, 168), st.integers(0, 168)))
def test_any_window_is_the_slice_of_the_decoded_array(
    ends: tuple[int, int], shard: Path, stored: npt.NDArray[np.int16]
) -> None:
    start, stop = sorted(ends)
    signal = PackedShard(shard).array("signal")
    np.testing.assert_array_equal(signal.read(start, stop), stored[start:stop])
    room = np.full((stop - start, stored.shape[1]), -1, dtype=np.int16)
    assert signal.read(start, stop, out=room) is room
    np.testing.assert_array_equal(room, stored[start:stop])


def test_every_array_of_a_shard_is_what_zarr_reads(shard: Path) -> None:
    packed = PackedShard(shard)
    with ZipStore(shard, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        names = {name for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array)}
        empty = {name for name in names if 0 in group[name].shape}  # type: ignore[union-attr]  # all are arrays
        assert set(packed.names) == names - empty
        for name in names:
            array = packed.array(name)
            np.testing.assert_array_equal(array.read(0, array.shape[0]), group[name][...])  # type: ignore[index]
        assert packed.attributes() == dict(group.attrs)
        assert packed.attributes("channels") == dict(group["channels"].attrs)
    assert empty == {"events/onset_s", "events/duration_s"}


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 169)])
def test_rows_outside_the_array_are_refused(start: int, stop: int, shard: Path) -> None:
    with pytest.raises(IndexError, match=f"signal: rows {start} to {stop} of 168"):
        PackedShard(shard).array("signal").read(start, stop)


def _changed(shard: Path, home: Path, change: Callable[[bytearray, int], None]) -> Path:
    """Copy a shard and change its bytes; the change is told where the signal's content begins."""
    content = bytearray(shard.read_bytes())
    with zipfile.ZipFile(shard) as archive:
        header = archive.getinfo("signal/c/0/0").header_offset
    change(content, header + 30 + len("signal/c/0/0"))
    (home / shard.name).write_bytes(bytes(content))
    return home / shard.name


def test_a_flipped_bit_names_recording_array_and_chunk_and_leaves_other_chunks_alone(
    shard: Path, stored: npt.NDArray[np.int16], tmp_path: Path
) -> None:
    offset = int(PackedShard(shard).array("signal").index[4, 0])

    def flip(content: bytearray, start: int) -> None:
        content[start + offset + 40] ^= 1

    damaged = PackedShard(_changed(shard, tmp_path, flip)).array("signal")
    words = r"sub-pixar001_task-pixar\.zarr\.zip: signal: chunk 4 has another checksum"
    with pytest.raises(DamagedChunk, match=words):
        damaged.read(4 * CHUNK - 1, 4 * CHUNK + 1)
    np.testing.assert_array_equal(damaged.read(0, 4 * CHUNK), stored[: 4 * CHUNK])
    np.testing.assert_array_equal(damaged.read(5 * CHUNK, 168), stored[5 * CHUNK :])
    (found,) = damaged.damaged()
    assert "chunk 4" in found


def test_a_missing_chunk_is_said(shard: Path, tmp_path: Path) -> None:
    signal = PackedShard(shard).array("signal")
    index = signal.index.copy()
    index[2] = 2**64 - 1
    missing = replace(signal, index=index)
    with pytest.raises(DamagedChunk, match="signal: chunk 2 is missing"):
        missing.read(0, 168)
    (found,) = missing.damaged()
    assert "chunk 2" in found


def test_a_damaged_table_of_chunks_is_said(shard: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shard) as archive:
        size = archive.getinfo("signal/c/0/0").file_size

    def flip(content: bytearray, start: int) -> None:
        content[start + size - 10] ^= 1

    with pytest.raises(DamagedChunk, match="signal: the table of its chunks has another checksum"):
        PackedShard(_changed(shard, tmp_path, flip)).array("signal")


def test_another_schema_a_cut_file_and_no_shard_at_all_are_refused(shard: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr.zip"
    other.write_bytes(shard.read_bytes().replace(b"neurofm-recording/1", b"neurofm-recording/9"))
    with pytest.raises(Unreadable, match="schema is 'neurofm-recording/9', not neurofm-recording/1"):
        PackedShard(other).attributes()
    cut = tmp_path / "cut.zarr.zip"
    cut.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(Unreadable, match=r"cut\.zarr\.zip: not a whole shard"):
        PackedShard(cut)
    with zipfile.ZipFile(tmp_path / "pressed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zarr.json", "{}" * 100)
    with pytest.raises(Unreadable, match="entries are compressed"):
        PackedShard(tmp_path / "pressed.zip")
    with pytest.raises(Unreadable, match=r"nowhere\.zarr\.zip: cannot be read"):
        PackedShard(tmp_path / "nowhere.zarr.zip")


def test_a_shard_replaced_while_it_is_open_is_not_read_with_the_old_ones_offsets(shard: Path, tmp_path: Path) -> None:
    path = tmp_path / shard.name
    path.write_bytes(shard.read_bytes())
    signal = PackedShard(path).array("signal")
    signal.read(0, 10)
    new = tmp_path / "new"
    new.write_bytes(shard.read_bytes())
    new.replace(path)
    with pytest.raises(Unreadable, match="was replaced while it was in use"):
        signal.read(0, 10)


def test_a_window_on_s3_costs_its_own_chunks(shard: Path, stored: npt.NDArray[np.int16], s3: SeaweedServer) -> None:
    s3.make_bucket("shards")
    s3.put("shards", f"ds000228/{shard.name}", shard.read_bytes())
    credentials = s3.environment
    remote = PackedShard(
        f"s3://shards/ds000228/{shard.name}",
        endpoint_url=s3.url,
        key=credentials["AWS_ACCESS_KEY_ID"],
        secret=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    np.testing.assert_array_equal(remote.array("signal").read(20, 50), stored[20:50])
    assert remote.attributes()["dataset"] == "ds000228"
    with pytest.raises(Unreadable, match="cannot be read"):
        PackedShard("s3://shards/nobody.zarr.zip", endpoint_url=s3.url, anon=True)


def test_a_real_signal_lies_smaller_on_disk(shard: Path) -> None:
    signal = PackedShard(shard).array("signal")
    assert signal.decoded_bytes / signal.stored_bytes > 1.4


def test_a_signal_that_compression_leaves_as_it_is_is_refused(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurofm.shards.quantise.STEP_SD", 0.0)  # the whole range of 16 bits, as once was
    values = np.random.default_rng(1).uniform(size=(600, 116))
    noise = replace(read_shard(shard).recording, signal=Signal(values=values, sampling_rate_hz=0.5, units="SD"))
    with pytest.raises(ValueError, match="compression leaves the signal's 139200 bytes as they are"):
        write_shard(noise, provenance=PROVENANCE, path=tmp_path / "a.zarr.zip")
    assert not list(tmp_path.iterdir())
