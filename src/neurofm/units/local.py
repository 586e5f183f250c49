"""Run units in processes of this machine."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, Self

from neurofm.files import sha256_of
from neurofm.recording import UnitStatus, Unreadable
from neurofm.units.memory import Room
from neurofm.units.receipt import Cost, Receipt
from neurofm.units.unit import Outcome, Payload, Unit

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""How numerical libraries are told how many threads to start."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalExecutor(Generic[Payload]):
    """An `Executor` of worker processes, each fed by a thread of its own, so that a death is its own unit's.

    Parameters
    ----------
    work
        Called as ``work(unit.payload)`` in a worker process; must be importable. `Unreadable` (and any other
        exception) ends that unit as failed. A process that dies (out of memory, a signal) is replaced, and its unit is
        tried once more with nothing else at work.
    workers
        Most processes at once. They start with the first units; fewer work where the memory does not hold as many of
        the largest unit so far.
    memory_mb
        What all units may take together, MiB; by default most of what is free.
    """

    def __init__(self, work: Callable[[Payload], Outcome], *, workers: int, memory_mb: float | None = None) -> None:
        for name in THREADS:
            # The workers inherit it: units run side by side, and two OpenMP threads under load ran six times slower.
            os.environ.setdefault(name, "1")
        self.at_once = workers
        self._work = work
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="unit")
        self._room = Room(workers, memory_mb=memory_mb)
        self._idle: list[ProcessPoolExecutor] = []

    def submit(self, unit: Unit[Payload]) -> Future[Receipt]:
        """Run one unit when a process is free."""
        return self._threads.submit(self._run, unit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for pool in self._idle:
            pool.shutdown()

    def _run(self, unit: Unit[Payload]) -> Receipt:
        with self._room.entered():
            receipt = self._in_process(unit)
        if receipt is None:
            # Perhaps its neighbours took the memory that it needed.
            with self._room.alone():
                receipt = self._in_process(unit)
        if receipt is not None and receipt.cost is not None:
            self._room.learn(receipt.cost.peak_mb)
        return receipt or _receipt(unit, UnitStatus.INCOMPLETE, "its process was killed (out of memory?)", Outcome())

    def _in_process(self, unit: Unit[Payload]) -> Receipt | None:
        """Return how the unit ended, or None if its process died."""
        try:
            pool = self._idle.pop()
        except IndexError:
            # Fresh processes: a forked child would inherit the locks of whatever threads are running here.
            pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
        try:
            receipt = pool.submit(_attempt, unit, self._work).result()
        except BrokenProcessPool:
            pool.shutdown()
            return None
        except BaseException:
            pool.shutdown()
            raise
        self._idle.append(pool)
        return receipt


def _begin() -> None:
    """Let this worker end when the stage's process is killed: nobody would collect what it makes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt(unit: Unit[Payload], work: Callable[[Payload], Outcome]) -> Receipt:
    """Run one unit in a worker process."""
    started, cpu = time.monotonic(), time.process_time()
    try:
        outcome = work(unit.payload)
        status, reason = UnitStatus.SUCCEEDED, ""
    except Unreadable as error:
        outcome, status, reason = Outcome(), UnitStatus.FAILED, str(error)
    except Exception as error:  # noqa: BLE001  # whatever one recording raises must not end the others
        outcome, status, reason = Outcome(), _status_of(error), f"{type(error).__name__}: {error}"
    cost = Cost(
        seconds=round(time.monotonic() - started, 3),
        cpu_s=round(time.process_time() - cpu, 3),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        host=socket.gethostname(),
    )
    return _receipt(unit, status, reason, outcome, cost=cost)


def _status_of(error: Exception) -> UnitStatus:
    """Tell what this machine lacked, which another run may have, from what is wrong with the recording."""
    lacking = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _DISK_FULL)
    return UnitStatus.INCOMPLETE if lacking else UnitStatus.FAILED


def _receipt(
    unit: Unit[Payload], status: UnitStatus, reason: str, outcome: Outcome, *, cost: Cost | None = None
) -> Receipt:
    if status is not UnitStatus.SUCCEEDED:
        unit.remove_outputs()
    return Receipt(
        unit=unit.id,
        key=unit.key,
        status=status,
        reason=" ".join(reason.split()),
        inputs=dict(unit.inputs),
        outputs={path.name: sha256_of(path) for path in unit.outputs if path.is_file()},
        facts=dict(outcome.facts),
        cost=cost,
    )
