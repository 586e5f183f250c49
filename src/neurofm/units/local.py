"""Run units in processes of this machine."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Generic, Self

from neurofm.files import sha256_of
from neurofm.recording import UnitStatus, Unreadable
from neurofm.units.receipt import Cost, Receipt
from neurofm.units.unit import Outcome, Payload, Unit

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
        Number of processes. They start with the first units.
    """

    def __init__(self, work: Callable[[Payload], Outcome], *, workers: int) -> None:
        self.at_once = workers
        self._work = work
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="unit")
        self._slots = threading.Semaphore(workers)
        self._taking_all = threading.Lock()
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
        with self._slots:
            receipt = self._in_process(unit)
        if receipt is None:
            # Perhaps its neighbours took the memory that it needed.
            with self._nothing_else():
                receipt = self._in_process(unit)
        return receipt or _receipt(unit, UnitStatus.INCOMPLETE, "its process was killed (out of memory?)", Outcome())

    def _in_process(self, unit: Unit[Payload]) -> Receipt | None:
        """Return how the unit ended, or None if its process died."""
        try:
            pool = self._idle.pop()
        except IndexError:
            # Fresh processes: a forked child would inherit the locks of whatever threads are running here.
            pool = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_the_parent
            )
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

    @contextmanager
    def _nothing_else(self) -> Iterator[None]:
        with self._taking_all:  # Two that took slots in turn would wait for each other.
            for _ in range(self.at_once):
                self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release(self.at_once)


def _end_with_the_parent() -> None:
    """End this worker when the stage's process is killed: nobody would collect what it makes."""
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
