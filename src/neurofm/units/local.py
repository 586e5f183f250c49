"""Run units in processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Generic, Self

from neurofm.recording import UnitStatus
from neurofm.units.attempt import KILLED, attempt, end_with_parent, pin_threads, receipt_of
from neurofm.units.memory import Room
from neurofm.units.receipt import Receipt
from neurofm.units.slurm_queue import stop_leftovers
from neurofm.units.unit import Outcome, Payload, Unit


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
    leftovers
        Folder of submissions to a cluster: what is still at work on these units is stopped first.
    """

    def __init__(
        self,
        work: Callable[[Payload], Outcome],
        *,
        workers: int,
        memory_mb: float | None = None,
        leftovers: Path | None = None,
    ) -> None:
        pin_threads()  # The workers inherit it: two OpenMP threads under load ran six times slower.
        self.at_once = workers
        self._work = work
        self._leftovers = leftovers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="unit")
        self._room = Room(workers, memory_mb=memory_mb)
        self._idle: list[ProcessPoolExecutor] = []

    def submit(self, unit: Unit[Payload]) -> Future[Receipt]:
        """Run one unit when a process is free."""
        return self._threads.submit(self._run, unit)

    def __enter__(self) -> Self:
        if self._leftovers is not None:
            stop_leftovers(self._leftovers)
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
        return receipt or receipt_of(unit, UnitStatus.INCOMPLETE, KILLED)

    def _in_process(self, unit: Unit[Payload]) -> Receipt | None:
        """Return how the unit ended, or None if its process died."""
        try:
            pool = self._idle.pop()
        except IndexError:
            # Fresh processes: a forked child would inherit the locks of whatever threads are running here.
            pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
        try:
            receipt = pool.submit(attempt, unit, self._work).result()
        except BrokenProcessPool:
            pool.shutdown()
            return None
        except BaseException:
            pool.shutdown()
            raise
        self._idle.append(pool)
        return receipt
