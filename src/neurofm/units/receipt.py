"""Receipts: how each unit ended, and what it left behind."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import Field, ValidationError

from neurofm.files import sha256_of, sync_folder, write_atomic
from neurofm.recording import UnitStatus
from neurofm.settings import Settings

_PATIENCE = 20
"""How often it is looked, in one second, who holds the units."""


class Cost(Settings):
    """What a unit cost: differs between hosts and never reaches a digest that later stages see."""

    seconds: float
    cpu_s: float
    peak_mb: float
    """Peak resident memory of the worker process so far."""
    host: str
    container: str = ""
    """Digest of the image in which it ran; empty where that was none."""
    processor: str = ""
    """Kind of processor (`processor_id`): another one may round last bits otherwise."""


class Receipt(Settings):
    """One line of ``data/receipts/<dataset>.jsonl``."""

    unit: str
    key: str
    """Empty where the inputs were never seen."""
    status: UnitStatus
    reason: str = ""
    inputs: dict[str, str] = Field(default_factory=dict)
    """``<kind>:<value>`` per input path: what the manifest pins, or what was taken when the file first came."""
    outputs: dict[str, str] = Field(default_factory=dict)
    """SHA-256 per output file name."""
    facts: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    cost: Cost | None = None
    """None if its process did not live to say."""
    log: str = ""
    """File into which its process wrote; empty where that was the stage's own output. Like `cost`, of its host."""

    @classmethod
    def unavailable(cls, unit: str, reason: str, *, key: str = "") -> Self:
        """Make the receipt of a unit whose inputs could not be had."""
        return cls(unit=unit, key=key, status=UnitStatus.UNAVAILABLE, reason=" ".join(reason.split()))

    @property
    def killed(self) -> bool:
        """Whether its process was killed: for want of memory, or by somebody."""
        return self.status is UnitStatus.INCOMPLETE and self.cost is None

    @property
    def id(self) -> str:
        """Names the receipt in the fetch ledger: the unit and the beginning of its key."""
        return f"{self.unit}@{self.key[:16]}"

    def whole(self, outputs: Iterable[Path], *, key: str) -> bool:
        """Whether this receipt stands for a success with `key` and every output still has its digest."""
        return (
            self.status is UnitStatus.SUCCEEDED
            and self.key == key
            and all(path.is_file() and self.outputs.get(path.name) == sha256_of(path) for path in outputs)
        )


class Run(Settings):
    """A run that is at work on a dataset's units."""

    process: int
    host: str
    began: float
    """Seconds since 1970, by its host's clock."""
    units: int
    """How many it has to run; 0 before it knows."""
    ended: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def seconds_left(self) -> float | None:
        """How long it still takes at its pace so far; None before a unit ended."""
        if not self.ended or not self.units:
            return None
        return max(0.0, time.time() - self.began) / self.ended * max(0, self.units - self.ended)


class ReceiptBook:
    """The receipts of one dataset: gathered in one file, and in a journal while its stage runs.

    Parameters
    ----------
    path
        ``data/receipts/<dataset>.jsonl``.
    running
        Folder under ``.neurofm/`` for journals: receipts of units that ended since they were gathered, one line each.
        A journal is only ever appended to, so that whoever is killed leaves one broken line at most. Jobs of a cluster
        keep theirs below it (`submission`), and these count too: whoever submitted the jobs may have been killed.
    """

    def __init__(self, path: Path, *, running: Path) -> None:
        self._path = path
        self._running = running
        self._lock = running.with_name(f"{running.name}.lock")
        self._journal: BinaryIO | None = None
        self._holding = False
        self.known: dict[str, Receipt] = {}
        """The latest receipt of every unit."""
        self.read()

    def read(self) -> None:
        """Read what is known anew: another run may have ended since."""
        self.known = read_receipts(self._path)
        for journal in (*journals_of_jobs(self._running), *self._journals()):
            self.known |= read_receipts(journal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs of this dataset's units waiting; one that waits says for whom. Once is enough."""
        if self._holding:
            yield
            return
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self.at_work() or "another process"
                sys.stderr.write(f"{self._running.name}: its units are run by {holder}; waiting for it to end\n")
                fcntl.flock(file, fcntl.LOCK_EX)
            self.announce(0)
            self.read()
            self._holding = True
            try:
                yield
            finally:
                self._holding = False
                self._lock.write_text("")

    def announce(self, units: int) -> None:
        """Tell others who runs how many units, beginning now."""
        run = Run(process=os.getpid(), host=socket.gethostname(), began=time.time(), units=units)
        self._lock.write_text(run.model_dump_json())
        if units:
            self._open()  # The last journal is this run's, then: what lies in it has ended now.

    def at_work(self) -> Run | None:
        """Return the run that holds the units now, or None."""
        try:
            with self._lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            run = self._holder()
            if run is None:
                return None
        ended = sum(journal.read_bytes().count(b"\n") for journal in self._journals()[-1:])
        return run.model_copy(update={"ended": ended})

    def _holder(self) -> Run | None:
        """Return who holds the units; None if that is not to be read. It is written a moment after they are held."""
        for _ in range(_PATIENCE):
            try:
                return Run.model_validate_json(self._lock.read_bytes())
            except ValidationError:
                time.sleep(0.05)
        return None

    def record(self, receipt: Receipt, *, durable: bool = True) -> None:
        """Write a receipt down: a `kill -9` does not undo it, and if `durable` a power cut does not either."""
        journal = self._open()
        journal.write(receipt.model_dump_json().encode() + b"\n")
        journal.flush()
        if durable:
            self.sync()
        self.known[receipt.unit] = receipt

    def sync(self) -> None:
        """Make what was recorded durable."""
        if self._journal is not None:
            os.fsync(self._journal.fileno())

    def take_up(self) -> None:
        """Read what earlier runs have left, and gather it, so that what comes now stands above it.

        Only within one run is it known that what its jobs wrote is older than what it wrote itself.
        """
        self.read()
        if self._journals() or journals_of_jobs(self._running):
            self.gather(self.known.values())

    def gather(self, receipts: Iterable[Receipt]) -> None:
        """Let the dataset's file hold these receipts and no others."""
        self.known = {receipt.unit: receipt for receipt in receipts}
        write_receipts(self._path, self.known.values())
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        # A task that is still at work, though whoever submitted it was killed, goes on writing into its journal.
        ended = [path for path in journals_of_jobs(self._running) if (path.parent.parent / "closed").exists()]
        for journal in (*ended, *self._journals()):
            journal.unlink()

    def _open(self) -> BinaryIO:
        """Return this run's journal; made if it is not there."""
        if self._journal is None:
            self._running.mkdir(parents=True, exist_ok=True)
            last = max((int(journal.stem) for journal in self._journals()), default=0)
            self._journal = (self._running / f"{last + 1:06d}.jsonl").open("ab")
            # Its name is to be durable too, not only what will be in it.
            sync_folder(self._running)
            sync_folder(self._running.parent)
        return self._journal

    def _journals(self) -> list[Path]:
        """Return the journals, oldest first; numbered, since clocks of several hosts differ."""
        return sorted(path for path in self._running.glob("*.jsonl") if path.stem.isdigit())


def journals_of_jobs(running: Path) -> list[Path]:
    """Return the journals that jobs of a cluster keep, oldest first."""
    return sorted(running.glob("slurm/*/receipts/*.jsonl"))


def read_receipts(path: Path) -> dict[str, Receipt]:
    """Read a JSON-lines file; a missing file is empty, and a line that is no receipt counts as not there."""
    receipts: dict[str, Receipt] = {}
    if not path.is_file():
        return receipts
    for line in path.read_bytes().splitlines():
        try:
            receipt = Receipt.model_validate_json(line)
        except ValidationError:
            continue  # Half-written or from another version: its unit is simply run again.
        receipts[receipt.unit] = receipt
    return receipts


def write_receipts(path: Path, receipts: Iterable[Receipt]) -> None:
    """Write atomically, one JSON line per unit, sorted by unit."""
    lines = [receipt.model_dump_json() for receipt in sorted(receipts, key=lambda receipt: receipt.unit)]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
