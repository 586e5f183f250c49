"""Ring: decoded blocks in one piece of memory; the oldest make place for the next."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt


class Memory:
    """Bytes, of which other processes can fill parts if they are shared.

    Parameters
    ----------
    size
        Bytes.
    shared
        Whether other processes are to fill them, which makes them slower to use: the kernel gives large pages only to
        what one process has.
    folder
        Put them in a file there, which has no name and is gone with this process; in memory where it is None.
    """

    def __init__(self, size: int, *, shared: bool, folder: Path | None = None) -> None:
        self.size = size
        self._handle = -1
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                self._handle = os.dup(file.fileno())
        elif shared:
            self._handle = os.memfd_create("neurofm-pool")
        if self._handle < 0:
            self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            os.ftruncate(self._handle, size)
            self._map = mmap.mmap(self._handle, size, flags=mmap.MAP_SHARED)
        if folder is None:
            with suppress(OSError):  # A kernel may have been built without large pages.
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        if folder is None:
            # Pages of memory are there from the start: the first touch of each costs more than what is then read from
            # it. A file's are not, or all of it would be written to disk as zeros.
            self.bytes[:: mmap.PAGESIZE] = 0

    @property
    def path(self) -> Path:
        """Where another process of this user opens it, if it is shared and as long as this process lives."""
        return Path(f"/proc/{os.getpid()}/fd/{self._handle}")

    def close(self) -> None:
        """Give it back; arrays made of it keep it until they go."""
        del self.bytes
        if self._handle >= 0:
            os.close(self._handle)


def attach(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return another process's memory."""
    with path.open("r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=np.uint8)


def aligned(size: int) -> int:
    """Return the bytes that a block takes: samples of any dtype may begin after it."""
    return -(-size // 64) * 64


class Ring:
    """Where blocks lie in a piece of memory.

    Parameters
    ----------
    size
        Bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._next = 0
        self._places: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def __contains__(self, block: int) -> bool:
        return block in self._places

    def place(self, block: int) -> int:
        """Return the first byte of a block that is there."""
        return self._places[block][0]

    def make_place(self, block: int, size: int) -> tuple[int, list[int]]:
        """Give a block the place of the oldest.

        Returns
        -------
        Its first byte, and the blocks that are gone.

        Raises
        ------
        ValueError
            If it is larger than the whole ring.
        """
        if size > self.size:
            raise ValueError(f"a block of {size} bytes in a ring of {self.size}")
        wraps = self._next + size > self.size
        first = 0 if wraps else self._next
        gone = []
        # The oldest lie just ahead; where the end of the ring is left empty, all that lay there goes too.
        while self._places:
            other, (start, length) = next(iter(self._places.items()))
            ahead = wraps and start >= self._next
            if not ahead and not (start < first + size and first < start + length):
                break
            del self._places[other]
            gone.append(other)
        self._next = first + aligned(size)
        self._places[block] = (first, size)
        return first, gone
