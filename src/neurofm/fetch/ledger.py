"""The ledger: what is known of every file that was ever wanted here (`.neurofm/ledger.sqlite`).

It only remembers. What lies on disk is believed by its digest, never by the ledger; so a ledger that is lost or damaged
is made anew (from manifests, files and receipts), and nothing is fetched again for that. The exception are files of
which chosen groups came: only the ledger has the SHA-256 that tells whole from damaged, so without it they come again.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from neurofm.errors import UserError
from neurofm.fetch.waiting import alone
from neurofm.recording import ManifestFile


class FileState(StrEnum):
    """Where a file is on its way."""

    PLANNED = "planned"
    PARTIAL = "partial"
    VERIFIED = "verified"
    CONSUMED = "consumed"
    """Its shard and receipt are durable, and the raw file was removed: not fetched again unless its unit's key
    changes."""
    FAILED = "failed"
    """Did not come for now (network, server); the next run tries again."""
    QUARANTINED = "quarantined"
    """Refused or not what is pinned; tried again only when asked to, or when the pin changes."""


@dataclass(frozen=True, kw_only=True)
class DatasetKey:
    """Which dataset, at which version."""

    dataset: str
    archive: str
    version: str


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """What is known of one file."""

    path: str
    digest: str
    """The manifest's; with chosen groups it names them, and the archive's digest in it was not checked."""
    version_id: str
    size: int
    """Bytes that it must have."""
    state: FileState
    bytes: int
    """Bytes that are here (of a partial file: when it was last written down; of chosen groups: that came for them)."""
    reason: str
    """Why it failed or is quarantined, in one line."""
    receipt: str
    """What vouches for it once it is consumed."""
    sha256: str
    """Of what came, where it was taken: always for `FIRST_USE`, and demanded from then on; always for chosen groups,
    whose local file is whole only with it."""
    validator: str
    """ETag or Last-Modified of a partial file's first answer, for `If-Range`; of chosen groups: of all answers."""


_SCHEMA = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS files (
    dataset TEXT NOT NULL, archive TEXT NOT NULL, version TEXT NOT NULL,
    path TEXT NOT NULL, digest TEXT NOT NULL, version_id TEXT NOT NULL,
    size INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'planned', bytes INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', receipt TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '',
    validator TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (dataset, archive, version, path, digest, version_id)
) WITHOUT ROWID
"""
_WANTED = """
CREATE TEMP TABLE wanted (
    path TEXT NOT NULL, digest TEXT NOT NULL, version_id TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (path, digest, version_id)
) WITHOUT ROWID
"""
_KEY = "dataset, archive, version, path, digest, version_id"
_FACTS = "path, digest, version_id, size, state, bytes, reason, receipt, sha256, validator"
_PLAN = """
INSERT OR IGNORE INTO files (dataset, archive, version, path, digest, version_id, size)
SELECT :dataset, :archive, :version, path, digest, version_id, size FROM wanted
"""
_LEAVE = """
DELETE FROM files WHERE dataset = :dataset AND (
    archive <> :archive OR version <> :version OR NOT EXISTS (
        SELECT 1 FROM wanted
        WHERE wanted.path = files.path AND wanted.digest = files.digest AND wanted.version_id = files.version_id))
"""
_RECORD = f"""
INSERT INTO files ({_KEY}, size, state, bytes, reason, receipt, sha256, validator)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET state = excluded.state, bytes = excluded.bytes, reason = excluded.reason,
    receipt = excluded.receipt, validator = excluded.validator,
    sha256 = CASE WHEN excluded.sha256 = '' THEN files.sha256 ELSE excluded.sha256 END
"""  # noqa: S608  # names of columns only
_ONE = f"SELECT {_FACTS} FROM files WHERE " + " AND ".join(f"{name} = ?" for name in _KEY.split(", "))  # noqa: S608
_PAGE = 1000
_BUSY_S = 60.0
_PENDING_ROWS, _PENDING_S = 500, 1.0
"""What is held back before it is written: 2 000 small files must not cost 2 000 transactions. A crash loses these lines
at most, and they are found again on disk."""


class Ledger:
    """The open ledger. Several threads and several processes may use it at once.

    Make it with `Ledger.open`, and use it as a context manager.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._pending: list[tuple[str | int, ...]] = []
        self._pending_since = 0.0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger at `path`; made if it is not there.

        One that is damaged, or of another schema, is set aside with one line on stderr, and a new one is made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")):
            if (reason := _unusable(path)) and path.exists():
                _set_aside(path, reason)
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            # WAL lets others read while one writes. NORMAL may lose the last lines in a power cut, which is no harm:
            # files are believed by their digests.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        return cls(path, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending and close."""
        try:
            self.flush()
        finally:
            self._connection.close()

    def plan(self, who: DatasetKey, files: Iterable[ManifestFile], *, whole: bool = True) -> None:
        """Enter files: new ones are planned, known ones keep their state.

        Parameters
        ----------
        who
            The dataset.
        files
            Taken one by one, so that memory does not grow with their number.
        whole
            These are all files of the dataset: others leave the ledger, those of another version too.
        """
        names = {"dataset": who.dataset, "archive": who.archive, "version": who.version}
        with self._working() as connection:
            self._flush()
            connection.execute("DROP TABLE IF EXISTS temp.wanted")
            connection.execute(_WANTED)
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, ?)",
                ((file.path, file.digest, file.version_id, file.size) for file in files),
            )
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            if whole:
                connection.execute(_LEAVE, names)
            connection.execute(_PLAN, names)
            connection.execute("COMMIT")
            connection.execute("DROP TABLE temp.wanted")

    def rows(self, dataset: str) -> Iterator[LedgerRow]:
        """Yield what is known of every file of a dataset, by path; memory does not grow with their number."""
        after: tuple[str, ...] = ("", "", "", "", "")
        while True:
            with self._working() as connection:
                self._flush()
                page = connection.execute(
                    f"SELECT {_FACTS}, archive, version FROM files WHERE dataset = ? AND "  # noqa: S608
                    "(archive, version, path, digest, version_id) > (?, ?, ?, ?, ?) "
                    f"ORDER BY archive, version, path, digest, version_id LIMIT {_PAGE}",
                    (dataset, *after),
                ).fetchall()
            yield from (_row(line[:-2]) for line in page)
            if len(page) < _PAGE:
                return
            last = page[-1]
            after = (last[-2], last[-1], last[0], last[1], last[2])

    def row(self, who: DatasetKey, file: ManifestFile) -> LedgerRow | None:
        """Return what is known of one file; None if it was never entered."""
        return self.rows_of(who, [file])[0]

    def rows_of(self, who: DatasetKey, files: Iterable[ManifestFile]) -> list[LedgerRow | None]:
        """Return what is known of each of some files; None for one that was never entered."""
        with self._working() as connection:
            self._flush()
            lines = [connection.execute(_ONE, _key(who, file)).fetchone() for file in files]
        return [None if line is None else _row(line) for line in lines]

    def record(
        self,
        who: DatasetKey,
        file: ManifestFile,
        state: FileState,
        *,
        bytes: int = 0,  # noqa: A002  # the column's name
        reason: str = "",
        receipt: str = "",
        sha256: str = "",
        validator: str = "",
    ) -> None:
        """Write down a file's state, soon: `flush` writes at once. An empty `sha256` keeps the one that is known.

        Call it only after what it says is durable on disk.
        """
        with self._lock:
            if not self._pending:
                self._pending_since = time.monotonic()
            facts = (file.size, str(state), bytes, reason, receipt, sha256, validator)
            self._pending.append((*_key(who, file), *facts))
            due = len(self._pending) >= _PENDING_ROWS or time.monotonic() - self._pending_since > _PENDING_S
            if due:
                self.flush()

    def adopt_consumed(self, who: DatasetKey, files: Iterable[ManifestFile], receipt: str) -> None:
        """Believe a receipt: its files are consumed. For a ledger that was lost; known states of theirs give way."""
        for file in files:
            self.record(who, file, FileState.CONSUMED, receipt=receipt)
        self.flush()

    def retry(self, dataset: str) -> int:
        """Let failed and quarantined files of a dataset be tried again; returns how many."""
        with self._working() as connection:
            self._flush()
            changed = connection.execute(
                "UPDATE files SET state = 'planned', bytes = 0, reason = '', validator = '' "
                "WHERE dataset = ? AND state IN ('failed', 'quarantined')",
                (dataset,),
            )
            return changed.rowcount

    def counts(self, dataset: str) -> Mapping[FileState, tuple[int, int]]:
        """Return per state the number of files and of bytes that they have when whole."""
        with self._working() as connection:
            self._flush()
            lines = connection.execute(
                "SELECT state, count(*), sum(size) FROM files WHERE dataset = ? GROUP BY state", (dataset,)
            ).fetchall()
        found = {FileState(state): (files, size) for state, files, size in lines}
        return {state: found.get(state, (0, 0)) for state in FileState}

    def in_groups(self, dataset: str) -> int:
        """Return of how many files, here or consumed, only chosen groups came."""
        with self._working() as connection:
            self._flush()
            (count,) = connection.execute(
                "SELECT count(*) FROM files WHERE dataset = ? AND digest LIKE 'groups:%' "
                "AND state IN ('verified', 'consumed')",
                (dataset,),
            ).fetchone()
            return int(count)

    def datasets(self) -> tuple[str, ...]:
        """Return the datasets that have files here."""
        with self._working() as connection:
            self._flush()
            return tuple(name for (name,) in connection.execute("SELECT DISTINCT dataset FROM files ORDER BY dataset"))

    def flush(self) -> None:
        """Write what is pending."""
        with self._working():
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_RECORD, self._pending)
        self._connection.execute("COMMIT")
        self._pending.clear()

    @contextmanager
    def _working(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection; a transaction that breaks is taken back."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise UserError(
                    f"{self.path}: {error}.",
                    mend="if the disk is not full, remove it and run again: it is made anew, and nothing that is here "
                    "is fetched again",
                ) from None
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _key(who: DatasetKey, file: ManifestFile) -> tuple[str, ...]:
    return (who.dataset, who.archive, who.version, file.path, file.digest, file.version_id)


def _row(line: tuple[Any, ...]) -> LedgerRow:
    path, digest, version_id, size, state, count, reason, receipt, sha256, validator = line
    return LedgerRow(
        path=path,
        digest=digest,
        version_id=version_id,
        size=size,
        state=FileState(state),
        bytes=count,
        reason=reason,
        receipt=receipt,
        sha256=sha256,
        validator=validator,
    )


def _unusable(path: Path) -> str:
    """Say why a ledger cannot be used; empty if it can."""
    if not path.is_file():
        return "not a file"
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_S)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found == "ok" and schema == _SCHEMA:
                connection.execute(f"SELECT {_FACTS} FROM files LIMIT 1")  # noqa: S608
    except sqlite3.Error as error:
        return "" if "locked" in str(error) else str(error)
    if schema not in {0, _SCHEMA}:
        return f"written by another version of neurofm (schema {schema})"
    return "" if found == "ok" else " ".join(str(found).split())


def _set_aside(path: Path, reason: str) -> None:
    place = next(
        name for number in range(10_000) if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    path.replace(place)
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    sys.stderr.write(f"{path}: {reason}; set aside as {place.name}, a new one is made\n")
