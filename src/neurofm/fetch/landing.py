"""Where files come down on disk: `.part` beside the target, then verified, durable, renamed; wrong bytes set aside."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Container, Iterable
from pathlib import Path

from neurofm.fetch.appending import BLOCK_BYTES, Appender
from neurofm.fetch.digests import Hasher, hasher
from neurofm.files import sync_folder
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE, safe_relative_path

_CHUNK_BYTES = 1 << 20
_LONGEST_NAME = 255
_HASHED = re.compile(r"[0-9a-f]{64}")
SMALL_BYTES = 1 << 18
"""Files up to here are held in memory until many of them are written at once."""
_HEAD_BYTES = 4096


class Unsafe(ValueError):
    """A file's place cannot be used: a link or a file stands in its way."""


class Landing:
    """A folder that receives files. Nothing is written or read through a link below it.

    Parameters
    ----------
    folder
        ``data/raw/<dataset>``. It may itself be reached by links: whoever set it up chose the disk.
    aside
        ``.neurofm/quarantine/<dataset>``.
    """

    def __init__(self, folder: Path, *, aside: Path) -> None:
        self.folder = folder
        self.aside = aside
        self._plain: set[str] = set()

    def target(self, path: str) -> Path:
        """Return where the file of that (manifest) path belongs.

        Parameters
        ----------
        path
            Already known to be relative and without ``..`` (`safe_relative_path`).

        Raises
        ------
        Unsafe
            If a link, or something that is no folder, stands where a folder has to be, a folder where the file has to
            be, or the name is reserved.
        """
        target = self.folder / _plain_path(path)
        parent = path.rpartition("/")[0]
        if parent not in self._plain and _check(self.folder, parent):
            self._plain.add(parent)
        return target

    def set_aside(self, part: Path, path: str) -> Path:
        """Move wrong bytes to the quarantine and return where they are.

        Raises
        ------
        Unsafe
            If a link leads out of the quarantine.
        """
        place = self.aside / _plain_path(path)
        _check(self.aside, path.rpartition("/")[0])
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
        return place


def _plain_path(path: str) -> str:
    """Check a path once more, whoever vouched for it: it is about to be written to."""
    try:
        safe_relative_path(path)
    except ValueError as error:
        raise Unsafe(str(error)) from None
    if path == "." or _is_part(path.rpartition("/")[2]):
        raise Unsafe(f"{path!r} is not for a file (names like .*.part are for unfinished ones)")
    return path


def _check(root: Path, parent: str) -> bool:
    """Refuse a way that leads through links; tells whether it is there at all."""
    here = root
    for name in parent.split("/") if parent else ():
        here /= name
        try:
            mode = here.lstat().st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(mode):
            raise Unsafe(f"{here} is {'a link' if stat.S_ISLNK(mode) else 'not a folder'}, and not followed")
    return True


def part_of(target: Path) -> Path:
    """Return the name of a file while it is not whole: beside its target, so that the last step is a rename."""
    name = f".{target.name}.part"
    if len(name.encode()) > _LONGEST_NAME:
        name = f".{hashlib.sha256(target.name.encode()).hexdigest()}.part"
    return target.with_name(name)


def is_part_of(path: str, known: Container[str]) -> bool:
    """Tell whether `path` is one of the known files, or one of them while it is not whole."""
    if path in known:
        return True
    folder, slash, name = path.rpartition("/")
    if not _is_part(name):
        return False
    inner = name.removeprefix(".").removesuffix(".part")
    return f"{folder}{slash}{inner}" in known or _HASHED.fullmatch(inner) is not None


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")


def size_of(path: Path) -> int:
    """Return the bytes of a plain file; -1 if there is none."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


class Part:
    """An unfinished file: bytes are appended and hashed as they come. Its methods block; call them in a thread.

    A small file is held in memory until `spill`, so that what touches the disk is done for many of them at once.

    Parameters
    ----------
    target
        Where the file belongs once it is whole.
    file
        What it has to be.
    digest
        What it is held to: the manifest's, or, for `FIRST_USE`, the SHA-256 that was taken when it first came.
    there
        Bytes that an earlier run left.
    validator
        What that run knew of them.
    """

    def __init__(self, target: Path, file: ManifestFile, *, digest: str, there: int = 0, validator: str = "") -> None:
        self.target = target
        self.path = part_of(target)
        self.file = file
        self.digest = digest
        self.size = there
        """Bytes that are here, on disk or held."""
        self.prefix_is_old = there > 0
        """The first bytes stem from an earlier answer, so that a wrong digest may be their fault."""
        self.validator = validator
        """ETag or Last-Modified of the answer that the bytes stem from, where known."""
        self.head = b""
        """The first bytes of the last fresh answer, to tell a page from data."""
        self.found: frozenset[str] = frozenset()
        """Digests that `is_right` found."""
        self.is_small = file.size <= SMALL_BYTES and not there
        """Its methods do not touch the disk: no thread is needed for them."""
        self._held: list[bytes] = []
        self._out: Appender | None = None
        self._hashers: list[tuple[str, Hasher]] | None = None

    def take(self, chunks: Collection[bytes]) -> None:
        """Append bytes. The first call hashes what is there already."""
        self.hash(chunks)
        self.write(chunks)

    def hash(self, chunks: Iterable[bytes]) -> None:
        """Do one half of `take`; the other, `write`, may run in another thread."""
        hashers = self._begin()
        for chunk in chunks:
            for _, one in hashers:
                one.update(chunk)

    def write(self, chunks: Collection[bytes]) -> None:
        """Do the other half of `take`."""
        for chunk in chunks:
            if len(self.head) >= _HEAD_BYTES or self.prefix_is_old:
                break
            self.head += chunk[:_HEAD_BYTES]
        taken = sum(len(chunk) for chunk in chunks)
        if self.is_small:
            self._held += chunks
        else:
            out = self._open()
            out.append(chunks)
            if taken < BLOCK_BYTES:
                # They come slowly: a crash is not to lose what took long.
                out.flush()
        self.size += taken

    def begin(self) -> None:
        """Hash what an earlier run left, before a request is sent: no connection is to wait. `size` is exact then."""
        self._begin()

    def is_right(self) -> bool:
        """Tell whether what is there is the file; `found` has its digests then."""
        self.found = frozenset(f"{kind}:{one.hexdigest()}" for kind, one in self._begin())
        return self.size == self.file.size and (self.digest == FIRST_USE or self.digest in self.found)

    def restart(self) -> None:
        """Forget what is there: the next bytes are the file's first."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._held = []
        self._hashers = None
        self.size = 0
        self.prefix_is_old = False
        self.validator = ""
        self.head = b""

    def spill(self) -> None:
        """Write what is held to disk."""
        held, self._held = self._held, []
        self.is_small = False
        out = self._open()
        out.flush()
        for chunk in held:
            out.write(chunk)

    def sync(self) -> None:
        """Make what is there durable, and let go of the file."""
        self.spill()
        os.fsync(self._open().fileno())
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._out is not None:
            self._out.close()
        self._out = None

    def _begin(self) -> list[tuple[str, Hasher]]:
        """Return what bytes are hashed by; what an earlier run left is hashed first."""
        if self._hashers is None:
            self._hashers = hasher(self.digest, size=self.file.size)
            if self.prefix_is_old:
                self._hash_prefix(self._hashers)
        return self._hashers

    def _hash_prefix(self, hashers: list[tuple[str, Hasher]]) -> None:
        out = self._open()
        self.size = 0
        while chunk := os.pread(out.fileno(), _CHUNK_BYTES, self.size):
            for _, one in hashers:
                one.update(chunk)
            self.size += len(chunk)

    def _open(self) -> Appender:
        self._out = self._out or Appender(self.path)
        return self._out


def settle(parts: Collection[Part]) -> None:
    """Give verified parts their names, durably: data first, then names, then the folders that hold them.

    Many at once: all are written before the first `fsync`, which then does most of the others' work.
    """
    for part in parts:
        part.spill()
    for part in parts:
        part.sync()
    for part in parts:
        part.path.replace(part.target)
    for parent in {part.target.parent for part in parts}:
        sync_folder(parent)
