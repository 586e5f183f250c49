"""Chosen groups of a large HDF5 file (NWB) over the network, without the rest of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py

from neurofm.recording import Unreadable

_BLOCK_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16
"""Datasets of at most this come wherever they are: names, units, references between tables."""


@dataclass(frozen=True, kw_only=True)
class PartialFile:
    """What came of a file."""

    fetched_bytes: int
    size: int
    """Bytes of the whole file at its archive."""
    left_out: tuple[str, ...]
    """Groups and datasets that are not in the local file because their data did not come."""


def fetch_groups(url: str, target: Path, *, groups: Sequence[str], **options: Any) -> PartialFile:
    """Fetch some groups of a remote HDF5 file into a local file of the same layout, by ranges of bytes.

    The local file is sparse: what did not come takes no disk. A series whose data did not come is unlinked, so that
    a reader misses it rather than takes zeros for its values.

    Parameters
    ----------
    url
        Where the file is, as fsspec says it: ``https://...`` (the host must serve ranges), ``s3://bucket/key``.
    target
        The local file; written beside its place first.
    groups
        Paths of groups or datasets that are wanted whole: ``units``, ``processing/running``.
    options
        fsspec's, such as ``anon=True`` of S3.

    Raises
    ------
    Unreadable
        If the file does not come, or is no HDF5 file.
    """
    # Here, because fsspec's file systems take a second to import.
    import fsspec  # noqa: PLC0415

    part = target.with_name(f".{target.name}.part")
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
        size = int(files.size(path))
        with part.open("w+b") as local:
            local.truncate(size)
            blocks = _Blocks(files, path, local, size)
            with h5py.File(blocks, "r+") as file:
                left_out = _take(file, [group.strip("/") for group in groups])
        part.replace(target)
    except (OSError, TypeError, KeyError, RuntimeError) as error:
        raise Unreadable(f"{url}: its groups cannot be fetched ({error})") from error
    finally:
        part.unlink(missing_ok=True)
    return PartialFile(fetched_bytes=blocks.fetched_bytes, size=size, left_out=left_out)


def _take(file: h5py.File, wanted: Sequence[str]) -> tuple[str, ...]:
    """Read all names and attributes, and the data wanted; unlink what stays without its data."""
    left_out: set[str] = set()

    def visit(name: str, node: Any) -> None:
        dict(node.attrs)
        if not isinstance(node, h5py.Dataset):
            return
        if node.nbytes <= _SMALL_BYTES or any(name == one or name.startswith(f"{one}/") for one in wanted):
            node[()]
        else:
            # A series without its data is no series; a table's column can be missed alone.
            is_series = name.endswith(("/data", "/timestamps"))
            left_out.add(name.rpartition("/")[0] if is_series else name)

    file.visititems(visit)
    for name in sorted(left_out):
        if name in file:
            del file[name]
    return tuple(sorted(left_out))


class _Blocks(io.RawIOBase):
    """A file of which blocks come when they are first read, and stay in a local sparse file."""

    def __init__(self, files: Any, path: str, local: IO[bytes], size: int) -> None:
        super().__init__()
        self._files, self._path, self._local, self._size = files, path, local, size
        self._here: set[int] = set()
        self._at = 0
        self.fetched_bytes = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: max(self._size, self._local_size())}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._need(self._at, self._at + len(buffer))
        self._local.seek(self._at)
        data = self._local.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        self._need(self._at, self._at + len(data))
        self._local.seek(self._at)
        written = self._local.write(data)
        self._at += written
        return written

    def truncate(self, size: int | None = None) -> int:
        return self._local.truncate(size)

    def flush(self) -> None:
        if not self._local.closed:
            self._local.flush()

    def _local_size(self) -> int:
        return self._local.seek(0, io.SEEK_END)

    def _need(self, start: int, stop: int) -> None:
        """Fetch the blocks of a span that are not here; neighbours come in one request."""
        last = min(stop, self._size)
        lacking = [block for block in range(start // _BLOCK_BYTES, -(-last // _BLOCK_BYTES)) if block not in self._here]
        runs: list[list[int]] = []
        for block in lacking:
            if runs and runs[-1][-1] == block - 1:
                runs[-1].append(block)
            else:
                runs.append([block])
        for run in runs:
            begin, end = run[0] * _BLOCK_BYTES, min((run[-1] + 1) * _BLOCK_BYTES, self._size)
            data = self._files.cat_file(self._path, start=begin, end=end)
            if len(data) != end - begin:
                raise OSError(f"{len(data)} bytes came of the {end - begin} asked for: does the host serve ranges?")
            self._local.seek(begin)
            self._local.write(data)
            self.fetched_bytes += len(data)
            self._here.update(run)
