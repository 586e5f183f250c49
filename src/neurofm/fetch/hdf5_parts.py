"""Chosen groups of a large HDF5 file (NWB) over the network, without the rest of it."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import h5py
import numpy as np

from neurofm.recording import Unreadable

_BLOCK_BYTES = 1 << 18
_REQUEST_BYTES = 32 * _BLOCK_BYTES
"""Most that one request asks for: what breaks is asked for again whole."""
_SMALL_BYTES = 1 << 16
"""Datasets of at most this come wherever they are: names, units, references between tables."""
_SLAB_BYTES = 1 << 26
"""A dataset is walked through in pieces of about this, so that memory does not grow with it."""

_COLUMNS = "colnames"
"""Attribute of an NWB table: its columns, in order."""
_OF_TABLE = frozenset({"id", "start_time", "stop_time"})
_OF_SERIES = frozenset({"data", "timestamps"})
"""Without these a table, or a series, is none, and is missed as a whole."""
_TAILS = ("", "_index", "_index_index")
"""A ragged column has an index beside it, or two."""
_OF_HDF5 = (OSError, TypeError, KeyError, RuntimeError, ValueError)
"""What h5py raises for files that are damaged or none."""


class Remote(Protocol):
    """A file of which spans can be had."""

    size: int
    """Bytes of the whole."""

    def read(self, start: int, stop: int) -> bytes:
        """Return all bytes of a span."""


@dataclass(frozen=True, kw_only=True)
class PartialFile:
    """What came of a file."""

    left_out: tuple[str, ...]
    """Groups and datasets that are not in the local file because their data did not come."""
    lacking: tuple[str, ...]
    """Wanted groups that the file does not have."""


def fetch_groups(remote: Remote, target: Path, *, groups: Sequence[str]) -> PartialFile:
    """Bring some groups of a remote HDF5 file into a local file of the same size and layout, by ranges of bytes.

    The local file is sparse: what did not come takes no disk. A series whose data did not come is unlinked, so that
    a reader misses it rather than takes zeros for its values.

    Parameters
    ----------
    remote
        The file at its archive.
    target
        The local file, which must not be there yet. It is removed if this fails.
    groups
        Paths of groups or datasets that are wanted whole: ``units``, ``processing/running``.

    Raises
    ------
    Unreadable
        If it is no HDF5 file, a damaged one, or has none of the groups.
    Exception
        What `remote.read` raises, unchanged, and `OSError` if the disk does not take the file.
    """
    with target.open("x+b") as local:
        try:
            local.truncate(remote.size)
            done = _fetch(_Blocks(remote, local), groups)
            _restore_size(local, remote.size)
        except BaseException:
            target.unlink()
            raise
    return done


def _fetch(blocks: _Blocks, groups: Sequence[str]) -> PartialFile:
    """Let HDF5 read what is wanted through the blocks; what goes wrong there is raised as it is."""
    try:
        with h5py.File(blocks, "r+") as file:
            lacking = tuple(group for group in groups if group not in file)
            left_out = _take(file, blocks, groups) if len(lacking) < len(groups) else ()
    except Exception as error:
        if blocks.trouble is not None:
            raise blocks.trouble from None
        if isinstance(error, _OF_HDF5):
            raise Unreadable(f"not readable as HDF5 ({' '.join(str(error).split())})") from error
        raise
    if blocks.trouble is not None:
        raise blocks.trouble  # HDF5 did not mind
    if len(lacking) == len(groups):
        raise Unreadable(f"has none of the groups that are wanted ({', '.join(groups)})")
    return PartialFile(left_out=left_out, lacking=lacking)


def _take(file: h5py.File, blocks: _Blocks, groups: Sequence[str]) -> tuple[str, ...]:
    """Read all names and attributes, and the data wanted; unlink what stays without its data."""
    left_out: set[str] = set()
    links = _links(file)
    wanted = _with_targets(links, groups)

    def visit(name: str, node: Any) -> None:
        dict(node.attrs)
        if not isinstance(node, h5py.Dataset):
            return
        if node.nbytes <= _SMALL_BYTES or _is_in(name, wanted):
            blocks.have(_spans(node))
            _walk(node)
        else:
            left_out.add(_whole_of(node, name))

    file.visititems(visit)
    for name, target in links.items():
        if _is_in(name, wanted) and _is_in(target, left_out) and target in file:
            # What a wanted series shares with one that goes stays where it is wanted.
            shared = file[target]
            del file[name]
            file[name] = shared
    for name in sorted(left_out):
        if name in file:
            del file[name]
    for table in sorted({name.rpartition("/")[0] for name in left_out}):
        if table in file and _COLUMNS in file[table].attrs:
            _forget_columns(file[table], {name.rpartition("/")[2] for name in left_out if name.startswith(f"{table}/")})
    return tuple(sorted(left_out))


def _links(file: h5py.File) -> dict[str, str]:
    """Return what each soft link of the file leads to: pynwb writes timestamps that two series share once."""
    links: dict[str, str] = {}

    def note(name: str, link: Any) -> None:
        if isinstance(link, h5py.SoftLink):
            links[name] = posixpath.normpath(posixpath.join("/", posixpath.dirname(name), link.path)).strip("/")

    file.visititems_links(note)
    return links


def _with_targets(links: Mapping[str, str], wanted: Iterable[str]) -> frozenset[str]:
    """Add to what is wanted what links in it lead to."""
    found = frozenset(wanted)
    while more := {target for name, target in links.items() if _is_in(name, found)} - found:
        found |= more
    return found


def _is_in(name: str, groups: Iterable[str]) -> bool:
    return any(name == group or name.startswith(f"{group}/") for group in groups)


def _whole_of(node: h5py.Dataset, name: str) -> str:
    """Return what is nothing without this dataset: itself, its series, or its table."""
    parent, _, leaf = name.rpartition("/")
    needed = _OF_TABLE if _COLUMNS in node.parent.attrs else _OF_SERIES
    return parent if leaf in needed else name


def _forget_columns(table: h5py.Group, gone: Collection[str]) -> None:
    """Let a table name only columns that are whole: pynwb reads none that names others, or an index of nothing."""
    named = [name.decode() if isinstance(name, bytes) else str(name) for name in table.attrs[_COLUMNS]]
    lost = [name for name in named if not {f"{name}{tail}" for tail in _TAILS}.isdisjoint(gone)]
    for name in lost:
        for tail in _TAILS:
            if f"{name}{tail}" in table:
                del table[f"{name}{tail}"]
    table.attrs[_COLUMNS] = np.array([name for name in named if name not in lost], dtype=h5py.string_dtype())


def _spans(node: h5py.Dataset) -> list[tuple[int, int]]:
    """Return where a dataset's stored values begin and end in the file: to ask for neighbours together."""
    if node.chunks is None:
        start = node.id.get_offset()
        return [] if start is None else [(start, start + node.id.get_storage_size())]
    spans: list[tuple[int, int]] = []
    node.id.chunk_iter(lambda chunk: spans.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))
    return spans


def _walk(node: h5py.Dataset) -> None:
    """Read a dataset's values and forget them: then all that they need has come, texts and index included."""
    if node.nbytes <= _SLAB_BYTES or not node.shape:
        node[()]
        return
    rows = max(1, _SLAB_BYTES * node.shape[0] // node.nbytes)
    step = max(1, rows // node.chunks[0]) * node.chunks[0] if node.chunks else rows
    for start in range(0, node.shape[0], step):
        node[start : start + step]


def _restore_size(local: IO[bytes], size: int) -> None:
    """Give the local file the size of the whole one: HDF5 cuts off what it no longer needs at the end."""
    found = local.seek(0, io.SEEK_END)
    if found > size:
        raise Unreadable(f"grows by {found - size} bytes when groups are left out of it, and must come whole")
    local.truncate(size)


class _Blocks(io.RawIOBase):
    """A file of which blocks come when they are first read, and stay in a local sparse file."""

    def __init__(self, remote: Remote, local: IO[bytes]) -> None:
        super().__init__()
        self._remote, self._local = remote, local
        self._here: set[int] = set()
        self._at = 0
        self.trouble: BaseException | None = None
        """What first went wrong here, whatever HDF5 makes of it."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: max(self._remote.size, self._local_size())}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._noting():
            self._need([(self._at, self._at + len(buffer))])
            self._local.seek(self._at)
            data = self._local.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        with self._noting():
            self._need([(self._at, self._at + len(data))])
            self._local.seek(self._at)
            written = self._local.write(data)
        self._at += written
        return written

    def truncate(self, size: int | None = None) -> int:
        with self._noting():
            return self._local.truncate(size)

    def flush(self) -> None:
        if not self._local.closed:
            with self._noting():
                self._local.flush()

    def have(self, spans: Iterable[tuple[int, int]]) -> None:
        """Let the blocks of some spans come, in as few requests as may be."""
        with self._noting():
            self._need(spans)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        if self.trouble is not None:
            raise OSError("given up")
        try:
            yield
        except BaseException as error:
            self.trouble = error
            raise

    def _local_size(self) -> int:
        return self._local.seek(0, io.SEEK_END)

    def _need(self, spans: Iterable[tuple[int, int]]) -> None:
        """Fetch the blocks of spans that are not here; neighbours come in one request."""
        size = self._remote.size
        wanted = {
            block
            for start, stop in spans
            for block in range(start // _BLOCK_BYTES, -(-min(stop, size) // _BLOCK_BYTES))
        }
        runs: list[list[int]] = []
        for block in sorted(wanted - self._here):
            if runs and runs[-1][-1] == block - 1 and len(runs[-1]) * _BLOCK_BYTES < _REQUEST_BYTES:
                runs[-1].append(block)
            else:
                runs.append([block])
        for run in runs:
            begin, end = run[0] * _BLOCK_BYTES, min((run[-1] + 1) * _BLOCK_BYTES, size)
            data = self._remote.read(begin, end)
            self._local.seek(begin)
            self._local.write(data)
            self._here.update(run)
