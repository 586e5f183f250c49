"""Arrays read inside a packed shard by offset: a window costs its own chunks and nothing else.

zarr-python reads the same files and is what `read_shard` uses; a window of two seconds takes it a hundred times longer
(`make bench-loader`), which is why this module exists. It knows what `neurofm.shards.write` writes and refuses the
rest: one Zarr v3 shard per array, chunks of whole rows, ``blosc`` or nothing, crc32c.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import numpy.typing as npt

from neurofm.recording import Unreadable
from neurofm.shards.byte_ranges import ByteRanges, LocalBytes, RemoteBytes
from neurofm.shards.write import SCHEMA
from neurofm.shards.zip_index import zip_index

_CRC_BYTES = 4
_INDEX_ROW_BYTES = 16
"""An inner chunk's offset and length, two unsigned integers of 8 bytes (Zarr v3, sharding_indexed)."""
_MISSING = 2**64 - 1
_TOGETHER = 2
"""Chunks; one is read by itself."""
_MOST_AT_ONCE = 1 << 26
"""Bytes; a long recording is not to be read whole before it is decoded."""
_MEMORY = threading.local()


def _scratch(size: int) -> memoryview:
    """Return memory of this thread that is used again: new memory costs as much as decoding it."""
    if len(getattr(_MEMORY, "bytes", b"")) < size:
        _MEMORY.bytes = bytearray(size)
    return memoryview(_MEMORY.bytes)[:size]


class DamagedChunk(Unreadable):
    """A chunk whose checksum differs or that does not decode."""


@dataclass(frozen=True, kw_only=True)
class PackedArray:
    """One array of a shard."""

    file: ByteRanges
    name: str
    """Path inside the shard: ``signal``, ``targets/position``."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    """Rows of an inner chunk."""
    compressed: bool
    offset: int
    """Where the array's content begins in the file."""
    index: npt.NDArray[np.uint64]
    """[chunk, 2] offset from there, and bytes."""
    checked: npt.NDArray[np.bool_]
    """[chunk] whose checksum was found right; each is computed once."""

    @property
    def chunks(self) -> int:
        """How many inner chunks there are."""
        return len(self.index)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the chunks as they lie in the file."""
        present = self.index[:, 0] != _MISSING
        return int(self.index[present, 1].sum())

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the array in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def read(self, start: int, stop: int, *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Return rows [start, stop).

        Parameters
        ----------
        start, stop
            ``0 <= start <= stop <= shape[0]``.
        out
            [stop - start, ...] C-contiguous, of the array's dtype, to be filled; made where it is not given.

        Raises
        ------
        IndexError
            For rows outside the array.
        DamagedChunk
            If a chunk's checksum differs; the text names file, array and chunk.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.file.name}: {self.name}: rows {start} to {stop} of {self.shape[0]}")
        if out is None:
            out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        contents = self._contents(start // self.chunk_rows, -(-stop // self.chunk_rows))
        row = start
        while row < stop:
            number, within = divmod(row, self.chunk_rows)
            rows = min(stop - row, self.chunk_rows - within)
            into = out[row - start : row - start + rows]
            if rows == self.chunk_rows:
                self.decode(number, into, content=contents.get(number))
            else:
                whole = np.empty((self.chunk_rows, *self.shape[1:]), dtype=self.dtype)
                self.decode(number, whole, content=contents.get(number))
                into[...] = whole[within : within + rows]
            row += rows
        return out

    def _contents(self, first: int, stop: int) -> Mapping[int, memoryview]:
        """Read neighbouring chunks at once, where they lie side by side as neurofm writes them; else none."""
        index = self.index[first:stop]
        if len(index) < _TOGETHER or (index[:, 0] == _MISSING).any():
            return {}
        ends = index.sum(axis=1)
        begin, end = int(index[0, 0]), int(ends[-1])
        if (ends[:-1] != index[1:, 0]).any() or end - begin > _MOST_AT_ONCE:
            return {}
        content = _scratch(end - begin)
        self.file.read_into(self.offset + begin, content)
        places = (index - np.array([begin, 0], dtype=np.uint64)).tolist()
        return {first + at: content[place : place + length] for at, (place, length) in enumerate(places)}

    def decode(self, number: int, out: npt.NDArray[Any], *, content: bytes | memoryview | None = None) -> None:
        """Fill `out` [chunk_rows, ...] with chunk `number`; what lies beyond the array's end is 0.

        Parameters
        ----------
        number
            Of the chunk.
        out
            C-contiguous, of the array's dtype.
        content
            The chunk as it lies in the file, where it has been read already.

        Raises
        ------
        DamagedChunk
            If its checksum differs or it does not decode.
        """
        offset, length = (int(value) for value in self.index[number])
        if offset == _MISSING:
            raise DamagedChunk(f"{self.file.name}: {self.name}: chunk {number} is missing")
        if content is None:
            content = self.file.read(self.offset + offset, length)
        body = content[:-_CRC_BYTES]
        if not self.checked[number]:
            if google_crc32c.value(bytes(body)) != int.from_bytes(content[-_CRC_BYTES:], "little"):
                raise DamagedChunk(f"{self.file.name}: {self.name}: chunk {number} has another checksum")
            self.checked[number] = True
        try:
            if self.compressed:
                numcodecs.blosc.decompress(body, out)
            else:
                out[...] = np.frombuffer(body, dtype=self.dtype).reshape(out.shape)
        except (RuntimeError, ValueError) as error:
            raise DamagedChunk(f"{self.file.name}: {self.name}: chunk {number} does not decode ({error})") from error

    def fingerprint(self) -> bytes:
        """Return the checksums of all chunks: arrays of equal content, cut alike, have equal ones."""
        present = self.index[self.index[:, 0] != _MISSING].astype(np.int64)
        return b"".join(
            self.file.read(self.offset + int(offset) + int(length) - _CRC_BYTES, _CRC_BYTES)
            for offset, length in present
        )

    def damaged(self) -> Iterator[str]:
        """Yield a sentence for each chunk that is missing, has another checksum or does not decode."""
        whole = np.empty((self.chunk_rows, *self.shape[1:]), dtype=self.dtype)
        self.checked[:] = False
        for number in range(self.chunks):
            try:
                self.decode(number, whole)
            except DamagedChunk as error:
                yield str(error)


class PackedShard:
    """One shard, opened by reading its table of contents; arrays are looked at when they are asked for."""

    def __init__(self, place: Path | str, **options: object) -> None:
        """Open `place`, a path or an fsspec address (``s3://bucket/key``, with fsspec's `options`).

        Raises
        ------
        Unreadable
            If it is not there or is no shard.
        """
        remote = isinstance(place, str) and "://" in place
        self._file: ByteRanges = RemoteBytes(str(place), **options) if remote else LocalBytes(Path(place))
        self._entries = zip_index(self._file)
        if "zarr.json" not in self._entries:
            raise Unreadable(f"{self._file.name}: not a {SCHEMA} shard")

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of all arrays, sorted."""
        ends = "/c"
        found = {name[: name.index(f"{ends}/")] for name in self._entries if f"{ends}/" in name}
        return tuple(sorted(found))

    def attributes(self, group: str = "") -> Mapping[str, Any]:
        """Return what is said of the shard, or of one of its groups or arrays.

        Raises
        ------
        Unreadable
            If there is no such group, or the shard is of another schema.
        """
        said = self._metadata(group)["attributes"]
        if not group and said.get("schema") != SCHEMA:
            raise Unreadable(f"{self._file.name}: schema is {said.get('schema')!r}, not {SCHEMA}")
        return dict(said)

    def array(self, name: str) -> PackedArray:
        """Return the array of that path.

        Raises
        ------
        Unreadable
            If there is none, or it is laid out as `neurofm.shards.write` does not.
        """
        said = self._metadata(name)
        try:
            shape = tuple(int(size) for size in said["shape"])
            sharding = said["codecs"][0]["configuration"]
            chunk_rows = int(sharding["chunk_shape"][0])
            codecs = tuple(codec["name"] for codec in sharding["codecs"])
            whole_rows = tuple(sharding["chunk_shape"][1:]) == tuple(max(1, size) for size in shape[1:])
            dtype = np.dtype(said["data_type"]).newbyteorder("<")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Unreadable(f"{self._file.name}: {name}: its description is damaged ({error})") from error
        known = codecs in {("bytes", "blosc", "crc32c"), ("bytes", "crc32c")}
        if not (known and whole_rows and sharding.get("index_location", "end") == "end"):
            raise Unreadable(f"{self._file.name}: {name}: laid out in another way than neurofm writes")
        chunks = -(-max(1, shape[0]) // chunk_rows)
        offset, length = self._content(name, dimensions=len(shape), empty=0 in shape)
        index = self._index(name, offset=offset, length=length, chunks=chunks if length else 0)
        return PackedArray(
            file=self._file,
            name=name,
            shape=shape,
            dtype=dtype,
            chunk_rows=chunk_rows,
            compressed="blosc" in codecs,
            offset=offset,
            index=index,
            checked=np.zeros(len(index), dtype=np.bool_),
        )

    def _content(self, name: str, *, dimensions: int, empty: bool) -> tuple[int, int]:
        key = "/".join([name, "c", *["0"] * dimensions])
        if key in self._entries:
            return self._entries[key]
        if empty:
            return 0, 0
        raise Unreadable(f"{self._file.name}: {name}: its samples are missing")

    def _index(self, name: str, *, offset: int, length: int, chunks: int) -> npt.NDArray[np.uint64]:
        if chunks == 0:
            return np.zeros((0, 2), dtype=np.uint64)
        size = chunks * _INDEX_ROW_BYTES + _CRC_BYTES
        if size > length:
            raise DamagedChunk(f"{self._file.name}: {name}: cut short")
        content = self._file.read(offset + length - size, size)
        if google_crc32c.value(content[:-_CRC_BYTES]) != int.from_bytes(content[-_CRC_BYTES:], "little"):
            raise DamagedChunk(f"{self._file.name}: {name}: the table of its chunks has another checksum")
        return np.frombuffer(content[:-_CRC_BYTES], dtype="<u8").reshape(chunks, 2)

    def _metadata(self, name: str) -> dict[str, Any]:
        key = f"{name}/zarr.json" if name else "zarr.json"
        if key not in self._entries:
            raise Unreadable(f"{self._file.name}: there is no {name!r} in it")
        try:
            said = json.loads(self._file.read(*self._entries[key]))
        except ValueError as error:
            raise Unreadable(f"{self._file.name}: {key} is damaged ({error})") from error
        if not isinstance(said, dict):
            raise Unreadable(f"{self._file.name}: {key} is damaged")
        return said
