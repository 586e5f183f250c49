"""What a task of a Slurm array does: its units, one after the other, each written down as it ends.

The process that Slurm starts only watches. A child of it works: when a unit takes more memory than there is, crashes
or hangs, the child is what ends, and another goes on with the next unit.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_long
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic

from neurofm.recording import UnitStatus
from neurofm.units.attempt import KILLED, attempt, end_with_parent, receipt_of
from neurofm.units.receipt import Cost, Receipt, read_receipts
from neurofm.units.submission import Submission
from neurofm.units.unit import Outcome, Payload, Unit

_LOOK_EVERY_S = 0.2
_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGCONT)
"""What Slurm sends to every process of a task: a walltime or a preemption is near."""
_DURABLE_S = 0.5
"""How often receipts are made durable, which is also when other hosts of a network disk see them."""


class SlurmTask(Generic[Payload]):
    """One task; submitit calls it on its node, and once more each time that Slurm has requeued it.

    Parameters
    ----------
    work
        Called as ``work(unit.payload)``; must be importable.
    submission
        Which array.
    index, digest
        Which task of it, and the digest of its list of units.
    minutes
        Longest that one unit may take.
    """

    def __init__(
        self, work: Callable[[Payload], Outcome], *, submission: Submission, index: int, digest: str, minutes: float
    ) -> None:
        self._work = work
        self._submission = submission
        self._index = index
        self._digest = digest
        self._minutes = minutes

    def __call__(self) -> None:
        """Run the units that have no receipt from an earlier start of this task."""
        units = self._submission.units(self._index, digest=self._digest)
        done = self._submission.receipts(self._index)
        left: Sequence[Unit[Payload]] = [unit for unit in units if unit.id not in done]
        start = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        journal = self._submission.journal(self._index, start)
        journal.touch()
        log = self._submission.log_of(self._index)
        _say(f"{len(left)} of {len(units)} units to run on {socket.gethostname()}")
        while left:
            left = self._with_child(left, journal, log)

    def checkpoint(self) -> object:
        """Return what Slurm is to start again, before it stops this: the receipts are all that needs keeping."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  # only inside a job

        for child in multiprocessing.active_children():
            child.kill()
        return DelayedSubmission(self)

    def _with_child(self, units: Sequence[Unit[Payload]], journal: Path, log: str) -> Sequence[Unit[Payload]]:
        """Let one child work until it ends; returns the units that are left."""
        context = multiprocessing.get_context("fork")
        at = context.Value("l", 0, lock=False)
        child = context.Process(target=self._work_through, args=(units, journal, log, at))
        with _signals_held_back():  # The child is not to take them with submitit's handlers, and requeue the task too.
            child.start()
        try:
            ran_out_s = self._watch(child, at)
        finally:
            child.kill()
            child.join()
        if child.exitcode == 0:
            return []
        if at.value < len(units) and units[at.value].id not in read_receipts(journal):
            self._write_off(units[at.value], child, journal, log, ran_out_s=ran_out_s)
        return units[at.value + 1 :]

    def _watch(self, child: BaseProcess, at: c_long) -> float | None:
        """Wait for the child to end; returns the seconds that its unit had taken if it ran out of its time."""
        seen, took = at.value, 0.0
        looked = time.monotonic()
        while child.is_alive():
            child.join(_LOOK_EVERY_S)
            now = time.monotonic()
            # A longer gap is none of the unit's: Slurm had suspended the task.
            took = 0.0 if at.value != seen else took + min(now - looked, 10 * _LOOK_EVERY_S)
            seen, looked = at.value, now
            if took > self._minutes * 60 and child.is_alive():
                return took
        return None

    def _work_through(self, units: Sequence[Unit[Payload]], journal: Path, log: str, at: c_long) -> None:
        """Work, in the child; `at` tells which unit is at work."""
        # To heed them is the watching process's part; Slurm's SIGKILL follows, and without its parent this ends too.
        for unheeded in _SIGNALS:
            signal.signal(unheeded, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        end_with_parent()
        synced = time.monotonic()
        with journal.open("ab") as file:
            for number, unit in enumerate(units):
                if self._submission.is_revoked(self._index):
                    _say("revoked: its units are run elsewhere, or no longer wanted")
                    break
                at.value = number
                file.write(_line(attempt(unit, self._work, log=log)))
                file.flush()
                if time.monotonic() - synced >= _DURABLE_S:
                    os.fsync(file.fileno())
                    synced = time.monotonic()
            os.fsync(file.fileno())

    def _write_off(
        self, unit: Unit[Payload], child: BaseProcess, journal: Path, log: str, *, ran_out_s: float | None
    ) -> None:
        """Write down a unit whose process was killed, by us after `ran_out_s` or by others."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cost = Cost(
            seconds=round(ran_out_s or 0.0, 3),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            peak_mb=round(usage.ru_maxrss / 1024, 1),
            host=socket.gethostname(),
        )
        if ran_out_s is not None:
            reason = f"it took longer than the {self._minutes:g} minutes that site.yaml gives it"
            receipt = receipt_of(unit, UnitStatus.INCOMPLETE, reason, cost=cost, log=log)
        elif child.exitcode == -signal.SIGKILL:
            receipt = receipt_of(unit, UnitStatus.INCOMPLETE, KILLED, log=log)
        else:
            receipt = receipt_of(
                unit, UnitStatus.INCOMPLETE, f"its process died ({child.exitcode})", cost=cost, log=log
            )
        _say(f"{unit.id}: {receipt.reason}")
        with journal.open("ab") as file:
            file.write(b"\n" + _line(receipt))  # The child may have left half a line.
            file.flush()
            os.fsync(file.fileno())


def _say(text: str) -> None:
    """Write into the task's log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(receipt: Receipt) -> bytes:
    return receipt.model_dump_json().encode() + b"\n"


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let signals of Slurm's wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
