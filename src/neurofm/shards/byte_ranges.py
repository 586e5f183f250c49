"""Byte ranges of a file that lies here or on S3, read without opening the rest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from neurofm.recording import Unreadable


class ByteRanges(Protocol):
    """A file of which parts can be read."""

    name: str
    """What errors call it."""
    size: int
    """Bytes."""

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; raises `Unreadable` where the file ends before."""
        ...

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill memory with the bytes from `offset` on; raises as `read` does."""
        ...


class LocalBytes:
    """A file on this machine. It is open only while it is read: ten thousand shards need no ten thousand handles."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        try:
            found = path.stat()
        except OSError as error:
            raise Unreadable(f"{path}: cannot be read ({error.strerror})") from error
        self.size = found.st_size
        self._identity = (found.st_ino, found.st_size, found.st_mtime_ns)

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on.

        Raises
        ------
        Unreadable
            If the file is gone, ends before, or is another one than the one that was opened: offsets of the old one
            say nothing of it.
        """
        into = bytearray(count)
        self.read_into(offset, memoryview(into))
        return bytes(into)

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill memory with the bytes from `offset` on; raises as `read` does."""
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise Unreadable(f"{self.name}: cannot be read ({error.strerror})") from error
        try:
            found = os.fstat(handle)
            if (found.st_ino, found.st_size, found.st_mtime_ns) != self._identity:
                raise Unreadable(f"{self.name}: was replaced while it was in use")
            count = os.preadv(handle, [into], offset)
        finally:
            os.close(handle)
        if count != len(into):
            raise Unreadable(f"{self.name}: ends {len(into) - count} bytes too early")


class RemoteBytes:
    """An object behind an fsspec address such as ``s3://bucket/key``; a read is one request."""

    def __init__(self, url: str, **options: object) -> None:
        # Here, because fsspec's file systems take a second to import and most shards lie on this machine.
        import fsspec  # noqa: PLC0415

        self.name = url
        self._files, self._path = fsspec.core.url_to_fs(url, **options)
        try:
            self.size = int(self._files.size(self._path))
        except (OSError, TypeError) as error:
            raise Unreadable(f"{url}: cannot be read ({error})") from error

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on; raises `Unreadable` where that fails."""
        try:
            data = bytes(self._files.cat_file(self._path, start=offset, end=offset + count))
        except OSError as error:
            raise Unreadable(f"{self.name}: cannot be read ({error})") from error
        if len(data) != count:
            raise Unreadable(f"{self.name}: ends {count - len(data)} bytes too early")
        return data

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fill memory with the bytes from `offset` on; raises as `read` does."""
        into[:] = self.read(offset, len(into))
