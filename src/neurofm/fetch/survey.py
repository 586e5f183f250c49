"""What of a list of files is there already: everything is hashed, and nothing is believed but its digest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from neurofm.fetch.digests import digests_of
from neurofm.fetch.landing import Landing, Part, Unsafe, part_of, size_of
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger
from neurofm.progress import Progressing
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE, groups_of

_GROUP_FILES = 32
_WINDOW_GROUPS = 8 * (os.cpu_count() or 1)
"""How many groups are under way at once, so that neither files nor results pile up."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A file that is not there, and what is known of it."""

    file: ManifestFile
    target: Path
    """Where it belongs."""
    digest: str
    """What it is held to: the manifest's digest, or the SHA-256 that was taken at first use. What comes anew of a file
    of which some groups are wanted is held to neither."""
    there: int
    """Bytes in its `.part`."""
    validator: str
    """What is known of the answer that these stem from."""

    def part(self) -> Part:
        """Return what it comes down as."""
        return Part(self.target, self.file, digest=self.digest, there=self.there, validator=self.validator)


@dataclass(kw_only=True)
class Survey:
    """What was found."""

    kept: int = 0
    missing: list[Missing] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Path to reason: its place on disk cannot be used."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """Path to reason: quarantined earlier, and not there."""


def survey(
    files: Collection[ManifestFile], *, who: DatasetKey, landing: Landing, ledger: Ledger, pool: Executor, title: str
) -> Survey:
    """Look at every file, in threads (hashing lets go of the interpreter), and tell the ledger what is verified.

    Parameters
    ----------
    files
        What is wanted.
    who, ledger
        Where it is written down.
    landing
        Where files are.
    pool
        Threads.
    title
        For the progress.
    """
    whole = Survey()
    running: deque[Future[Survey]] = deque()
    work = groups(files, _GROUP_FILES)
    with Progressing(f"verify {title}", total=len(files), unit="files") as progress:
        while True:
            for group in islice(work, _WINDOW_GROUPS - len(running)):
                running.append(pool.submit(_look_at, group, who=who, landing=landing, ledger=ledger))
            if not running:
                return whole
            found = running.popleft().result()
            whole.kept += found.kept
            whole.missing += found.missing
            whole.failed |= found.failed
            whole.quarantined |= found.quarantined
            progress.advance(min(_GROUP_FILES, progress.total - progress.done))


def _look_at(files: list[ManifestFile], *, who: DatasetKey, landing: Landing, ledger: Ledger) -> Survey:
    found = Survey()
    for file, row in zip(files, ledger.rows_of(who, files), strict=True):
        state = row.state if row else FileState.PLANNED
        ours = file.digest == FIRST_USE or groups_of(file.digest)
        digest = f"sha256:{row.sha256}" if row and row.sha256 and ours else file.digest
        try:
            target = landing.target(file.path)
            # With groups wanted, and no SHA-256 taken of what they are in, what lies there may be of other groups.
            if size_of(target) == file.size and not groups_of(digest):
                digests = digests_of(target, digest, size=file.size)
                if digest == FIRST_USE or digest in digests:
                    found.kept += 1
                    if state != FileState.VERIFIED:
                        ledger.record(who, file, FileState.VERIFIED, bytes=file.size, sha256=sha256_in(digests))
                    continue
            there = max(size_of(part_of(target)), 0)
        except (Unsafe, OSError) as error:
            found.failed[file.path] = in_words(error)
            ledger.record(who, file, FileState.FAILED, reason=in_words(error))
            continue
        if row and state == FileState.QUARANTINED:
            found.quarantined[file.path] = row.reason
        else:
            validator = row.validator if row else ""
            found.missing.append(Missing(file=file, target=target, digest=digest, there=there, validator=validator))
    return found


def sha256_in(digests: frozenset[str]) -> str:
    """Return the SHA-256 among digests, if it was taken; the one at first use counts."""
    taken = (digest for digest in digests if digest.startswith(("sha256:", f"{FIRST_USE}:")))
    return next(taken, "").rpartition(":")[2]


def in_words(error: Exception) -> str:
    """Say what is wrong with a place on disk."""
    if isinstance(error, OSError):
        return f"{error.filename or 'the file'}: {error.strerror}"
    return str(error)


Item = TypeVar("Item")


def groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of at most `size` items."""
    left = iter(items)
    while group := list(islice(left, size)):
        yield group
