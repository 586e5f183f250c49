"""Side by side: a function over several things in worker processes, where nothing is kept if one fails."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from neurofm.errors import UserError
from neurofm.units.attempt import KILLED, end_with_parent, pin_threads
from neurofm.units.memory import free_memory_mb

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def side_by_side(
    work: Callable[[Thing], Found], things: Sequence[Thing], *, workers: int, each_mb: float = 0.0
) -> Iterator[Found]:
    """Call ``work(thing)`` for each thing, at most `workers` at a time.

    Parameters
    ----------
    work
        Must be importable by a worker process; with one worker it is called in this process.
    things
        What to call it with.
    workers
        Most processes; fewer work where the memory that is free now does not hold as many.
    each_mb
        What one thing may take at most, MiB; 0 where nobody knows, and memory is not looked at.

    Yields
    ------
    What it returned, in the order of `things`.

    Raises
    ------
    UserError
        If a process was killed.
    Exception
        Whatever `work` raises, of the first thing that it raised for; what has not begun by then does not begin.
    """
    at_once = min(workers, len(things))
    if each_mb > 0:
        at_once = int(min(at_once, free_memory_mb() / each_mb))
    if at_once <= 1:
        yield from map(work, things)
        return
    pin_threads()
    pool = ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
    try:
        yield from pool.map(work, things)
    except BrokenProcessPool:
        raise UserError(
            f"{len(things)} parts side by side: one could not end, {KILLED}.",
            mend="set `workers` in site.yaml to fewer",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
