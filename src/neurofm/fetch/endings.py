"""How files end: under their names and durable, or with a reason why not; the ledger is told after the disk."""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fetch.landing import Landing, Part, Unsafe, settle
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger
from neurofm.fetch.survey import in_words, sha256_in
from neurofm.recording import ManifestFile

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(kw_only=True)
class Endings:
    """What becomes of the files of one fetch. Threads may use it together."""

    who: DatasetKey
    landing: Landing
    ledger: Ledger
    fetched: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def verify(self, parts: Collection[Part]) -> None:
        """Make right files durable, give them their names, and only then call them verified.

        Raises
        ------
        UserError
            If the disk does not take them; they stay unfinished files, and are judged again by the next run.
        """
        if not parts:
            return
        try:
            settle(parts)
        except OSError as error:
            for part in parts:
                part.close()
                self.ledger.record(self.who, part.file, FileState.PARTIAL, validator=part.validator)
            raise self._disk(error) from None
        for part in parts:
            sha256 = sha256_in(part.found)
            self.ledger.record(self.who, part.file, FileState.VERIFIED, bytes=part.size, sha256=sha256)
        with self._lock:
            self.fetched += len(parts)

    def take_groups(self, file: ManifestFile, *, bytes: int, sha256: str, validator: str) -> None:  # noqa: A002
        """Write down a file of which the wanted groups came and are durable: how many bytes, and of which state of it.

        Called verified, since it is held to the SHA-256 from now on; the archive's digest was not checked.
        """
        self.ledger.record(self.who, file, FileState.VERIFIED, bytes=bytes, sha256=sha256, validator=validator)
        self.fetched += 1

    def refuse(self, part: Part, reason: str, *, wrong: bool) -> None:
        """Quarantine a file; with `wrong`, the bytes that came are kept to look at."""
        if wrong:
            part.spill()
            part.close()
            try:
                reason = f"{reason}, set aside at {self.landing.set_aside(part.path, part.file.path)}"
            except (Unsafe, OSError) as error:
                part.path.unlink(missing_ok=True)
                reason = f"{reason}, not kept ({in_words(error)})"
        part.close()
        self.quarantine(part.file, reason)

    def quarantine(self, file: ManifestFile, reason: str) -> None:
        """Write down that a file is not to be had as it is pinned."""
        self.quarantined[file.path] = reason
        self.ledger.record(self.who, file, FileState.QUARANTINED, reason=reason)

    def fail(self, file: ManifestFile, reason: str) -> None:
        """Write down that a file did not come for now."""
        self.failed[file.path] = reason
        self.ledger.record(self.who, file, FileState.FAILED, reason=reason)

    def leave(self, part: Part, state: FileState, reason: str = "") -> None:
        """Leave an unfinished file so that a later run can go on with it."""
        if part.size:
            part.spill()
        part.close()
        if state == FileState.FAILED:
            self.failed[part.file.path] = reason
        self.ledger.record(
            self.who, part.file, state, bytes=part.size, reason=reason, validator=part.validator if part.size else ""
        )

    def give_up(self, part: Part, error: OSError) -> None:
        """Write down that the disk did not take a file.

        Raises
        ------
        UserError
            If the disk is full: no other file would fare better.
        """
        part.close()
        self.failed[part.file.path] = in_words(error)
        self.ledger.record(
            self.who, part.file, FileState.FAILED, bytes=part.size, reason=in_words(error), validator=part.validator
        )
        if error.errno in _FULL:
            raise self._disk(error) from None

    def begin(self, part: Part) -> None:
        """Write down at once what a later run needs to go on with a file."""
        self.ledger.record(self.who, part.file, FileState.PARTIAL, validator=part.validator)
        self.ledger.flush()

    def _disk(self, error: OSError) -> UserError:
        folder: Path | str = self.landing.folder
        if error.errno in _FULL:
            return UserError(
                f"{folder}: the disk is full ({error.strerror}).",
                mend="free some disk and run again: it goes on where it stopped",
            )
        return UserError(f"{error.filename or folder}: {error.strerror}.", mend="check the disk and run again")
