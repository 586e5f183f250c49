"""Digests in the kinds that archives publish, computed while bytes go by."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Protocol

from neurofm.recording.manifest import FIRST_USE, groups_of

_MIB = 1 << 20
_CHUNK = 1 << 20


class Hasher(Protocol):
    """What takes a file's bytes in order."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes."""

    def hexdigest(self) -> str:
        """Return the value in the kind's own spelling, without its name."""


class _Parts:
    """MD5 of the MD5s of parts: the ETag of an S3 multipart upload, ``<md5>-<parts>``."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._left = part_bytes
        self._done: list[bytes] = []

    def update(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            if self._left == 0:
                self._close()
            taken = view[: self._left]
            self._part.update(taken)
            self._left -= len(taken)
            view = view[len(taken) :]

    def _close(self) -> None:
        self._done.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._left = self._part_bytes

    def hexdigest(self) -> str:
        parts = [*self._done, self._part.digest()]
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def dandi_part_bytes(size: int) -> int:
    """Return the part size of a dandi-etag: 64 MiB, more where that would make over 10 000 parts.

    As `dandischema.digests.dandietag.PartGenerator` defines it.
    """
    default, most = 64 * _MIB, 10_000
    if size <= default * most:
        return default
    return math.ceil(math.ceil(size / most) / _MIB) * _MIB


def s3_part_bytes(size: int, parts: int) -> tuple[int, ...]:
    """Return the part sizes that an upload in `parts` parts may have used, likeliest first.

    S3 does not tell; clients use whole MiB (8, 16, 64 ... 1024), so few candidates remain.
    """
    if parts == 1:
        return (max(size, 1),)
    least = math.ceil(size / parts)
    most = math.ceil(size / (parts - 1)) - 1
    usual = [mib * _MIB for mib in (5, 8, 10, 15, 16, 25, 32, 50, 64, 100, 128, 256, 512, 1024)]
    found = [part for part in usual if least <= part <= most]
    return tuple(found) or (least,)


def hasher(digest: str, *, size: int) -> list[tuple[str, Hasher]]:
    """Return what to feed a file's bytes to in order to compare it with `digest`.

    Parameters
    ----------
    digest
        ``<kind>:<value>`` as in a manifest.
    size
        Bytes of the file, on which a git blob's digest and the part sizes depend.

    Returns
    -------
    list of (kind, hasher)
        Any of them may match: an ETag in parts has several candidates. `FIRST_USE` gives a SHA-256.
    """
    kind, _, value = digest.partition(":")
    if kind == "git-sha1":
        blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        return [(kind, blob)]
    if kind == "dandi-etag":
        return [(kind, _Parts(dandi_part_bytes(size)))]
    if kind == "s3-etag" and "-" in value:
        return [(kind, _Parts(part)) for part in s3_part_bytes(size, int(value.rpartition("-")[2]))]
    plain = {"sha256": "sha256", "md5": "md5", "blake2b": "blake2b", "s3-etag": "md5", FIRST_USE: "sha256"}[kind]
    return [(kind, hashlib.new(plain, usedforsecurity=False))]


def matches(path: Path, digest: str, *, size: int) -> bool:
    """Tell whether `path` is a plain file of that size with that digest.

    `FIRST_USE`, and the digest of a file of which some groups are wanted, ask for the size only.
    """
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    if digest == FIRST_USE or groups_of(digest):
        return True
    return digest in digests_of(path, digest, size=size)


def digests_of(path: Path, digest: str, *, size: int) -> frozenset[str]:
    """Return the digests of a file's bytes that are of the kind of `digest`."""
    hashers = hasher(digest, size=size)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for _, one in hashers:
                one.update(chunk)
    return frozenset(f"{kind}:{one.hexdigest()}" for kind, one in hashers)
