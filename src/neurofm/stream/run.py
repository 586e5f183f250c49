"""One run over the recordings of a streamed dataset: what is fetched, what is at work, what has ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from neurofm.errors import UserError
from neurofm.fetch import FetchSummary
from neurofm.ingest.plan import UnitPlan, inputs_of
from neurofm.ingest.recording import IngestTask
from neurofm.progress import Progressing
from neurofm.recording import ManifestFile, UnitStatus
from neurofm.stream.raw_files import Item, RawFiles, amount
from neurofm.units import Executor, Receipt, ReceiptBook, Unit, UnitSummary

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StreamSummary:
    """What one run did."""

    units: UnitSummary
    fetched_files: int
    fetched_bytes: int
    """Bytes that came over the network."""
    not_come: Mapping[str, str]
    """Reason per file that did not come for now, though the next run may get it."""


class StreamRun:
    """One run over the recordings of a dataset."""

    def __init__(
        self,
        plan: UnitPlan,
        *,
        book: ReceiptBook,
        files: RawFiles,
        fetch: Callable[[list[ManifestFile]], FetchSummary],
        retry: bool,
    ) -> None:
        self._plan = plan
        self._book = book
        self._files = files
        self._fetch = fetch
        self._retry = retry
        self._done: dict[str, Receipt] = {}
        self._not_come: dict[str, str] = {}
        self._fetched_files = 0
        self._fetched_bytes = 0
        self._ran = 0

    def run(self, executor: Executor[IngestTask]) -> None:
        """Do all that is to be done."""
        left = self._start()
        self._ran = len(left)
        self._book.announce(self._ran)
        title = f"stream {self._plan.entry.id}"
        self._progress = Progressing(title, total=len(left), unit="recordings", lines=True)
        with self._progress:
            error = self._go_through(left, executor)
        if error is not None:
            raise error

    def gather(self) -> None:
        """Gather the receipts of all recordings, once nothing is at work any more."""
        self._book.gather(self._done.values())

    def summary(self) -> StreamSummary:
        """Return what the run did."""
        return StreamSummary(
            units=UnitSummary.of(self._done.values(), ran=self._ran),
            fetched_files=self._fetched_files,
            fetched_bytes=self._fetched_bytes,
            not_come=self._not_come,
        )

    def _start(self) -> deque[Item]:
        """Return the recordings that are to be done; those of which files are here come first."""
        todo: list[Item] = []
        ended: list[tuple[Item, Receipt]] = []
        for recording in self._plan.manifest.recordings:
            item = Item(recording=recording, paths=tuple(inputs_of(recording)))
            unit = self._unit(item)
            receipt = self._book.known.get(unit.id)
            if receipt is not None and (
                receipt.whole(unit.outputs, key=unit.key)
                # Run again from the same bytes with the same settings, it would fail again.
                or (receipt.status is UnitStatus.FAILED and receipt.key == unit.key and not self._retry)
            ):
                self._done[unit.id] = receipt
                ended.append((item, receipt))
            elif reason := self._files.quarantined(item.paths) or self._files.too_large(item.paths):
                self._done[unit.id] = Receipt.unavailable(unit.id, reason)
                unit.remove_outputs()
            else:
                todo.append(item)
        self._files.start(todo=todo, ended=ended)
        return deque(sorted(todo, key=lambda item: not self._files.here(item.paths)))

    def _go_through(self, left: deque[Item], executor: Executor[IngestTask]) -> UserError | None:
        """Do what is left; returns the error that ended it before its time, once nothing is at work any more."""
        error: UserError | None = None
        upcoming: tuple[Item, Future[FetchSummary]] | None = None
        working: dict[Future[Receipt], Item] = {}
        while left or upcoming or working:
            try:
                if upcoming is None and (item := self._next(left, busy=bool(working))):
                    upcoming = item, _in_background(partial(self._fetch, self._files.reserve(item.paths)))
                if upcoming is not None and upcoming[1].done() and len(working) < executor.at_once:
                    (item, fetching), upcoming = upcoming, None
                    if self._came(item, fetching.result()):
                        working[executor.submit(self._unit(item))] = item
                    continue
            except UserError as found:
                error = found
                left.clear()
            at_work: list[Future[Any]] = [*working]
            if upcoming is not None and not upcoming[1].done():
                at_work.append(upcoming[1])
            wait(at_work, return_when=FIRST_COMPLETED)
            for future in [future for future in working if future.done()]:
                self._end(working.pop(future), future.result())
        return error

    def _next(self, left: deque[Item], *, busy: bool) -> Item | None:
        """Take the next recording whose files may be fetched now; None if there is none, or no room for now.

        Raises
        ------
        UserError
            If the disk itself is full, and nothing at work would change that.
        """
        while left and (reason := self._files.quarantined(left[0].paths)):  # shared with one that found out
            item = left.popleft()
            self._end(item, Receipt.unavailable(item.recording.id, reason))
        if not left:
            return None
        item = left[0]
        if not busy:
            self._files.make_room(item.paths)
        elif not self._files.fits(item.paths):
            return None
        lacking = self._files.free_bytes_lacking(item.paths, shards=self._plan.shards)
        if lacking and busy:
            return None
        if lacking:
            raise UserError(
                f"stream {self._plan.entry.id}: the disk lacks {amount(lacking)} for {item.recording.id}.",
                mend="free some disk, then `dvc repro` again (the other recordings are done and kept)",
            )
        return left.popleft()

    def _came(self, item: Item, fetched: FetchSummary) -> bool:
        """Tell whether a recording's files are all here; if not, it ends here."""
        self._fetched_files += fetched.fetched_files
        self._fetched_bytes += fetched.fetched_bytes
        reasons = {**fetched.failed, **fetched.quarantined}
        if not reasons:
            self._files.take_digests(item.paths)
            return True
        reason = "; ".join(f"{path}: {why}" for path, why in sorted(reasons.items()))
        self._not_come |= fetched.failed
        # What came, whole or in part, waits here for the next run; unless that would not ask for the rest.
        self._end(item, Receipt.unavailable(item.recording.id, reason), keep=not fetched.quarantined)
        return False

    def _end(self, item: Item, receipt: Receipt, *, keep: bool = False) -> None:
        self._book.record(receipt)
        self._done[receipt.unit] = receipt
        if receipt.status is UnitStatus.UNAVAILABLE:
            self._unit(item).remove_outputs()
        if not keep and receipt.status is not UnitStatus.INCOMPLETE:
            self._files.used(item.paths, receipt)
        self._progress.advance(note=receipt.unit)

    def _unit(self, item: Item) -> Unit[IngestTask]:
        return self._plan.unit(item.recording, taken=self._files.taken)


def _in_background(call: Callable[[], T]) -> Future[T]:
    """Call in a thread that does not keep the process alive: who stops the stage does not wait for a transfer."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="fetch").start()
    return future
