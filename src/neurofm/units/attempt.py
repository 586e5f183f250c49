"""One attempt at one unit, in whatever process it is made."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import socket
import threading
import time
from collections.abc import Callable

from neurofm.containers import image_inside
from neurofm.files import sha256_of
from neurofm.recording import UnitStatus, Unreadable
from neurofm.units.processor import processor_id
from neurofm.units.receipt import Cost, Receipt
from neurofm.units.unit import Outcome, Payload, Superseded, Unit

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""How numerical libraries are told how many threads to start."""
KILLED = "its process was killed (out of memory?)"
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def pin_threads() -> None:
    """Let processes started from here use one thread each, unless told otherwise: units run side by side."""
    for name in THREADS:
        os.environ.setdefault(name, "1")


def end_with_parent() -> None:
    """Let this worker process end when the one that started it is killed: nobody would collect what it makes."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def attempt(unit: Unit[Payload], work: Callable[[Payload], Outcome], *, log: str = "") -> Receipt:
    """Run a unit here; however it ends, there is a receipt of it.

    Parameters
    ----------
    unit
        What to run.
    work
        Called as ``work(unit.payload)``. `Unreadable` and any other exception end the unit as failed; what this machine
        lacked (memory, disk) ends it as incomplete.
    log
        File into which this process writes, for the receipt.
    """
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
        container=unit.container or image_inside(),
        processor=processor_id(),
    )
    return receipt_of(unit, status, reason, outcome, cost=cost, log=log)


def receipt_of(
    unit: Unit[Payload],
    status: UnitStatus,
    reason: str,
    outcome: Outcome | None = None,
    *,
    cost: Cost | None = None,
    log: str = "",
) -> Receipt:
    """Make the receipt of a unit that has ended; one that did not succeed leaves no outputs.

    Without a `cost`, the receipt stands for a process that did not live to say what it had cost.
    """
    if status is not UnitStatus.SUCCEEDED:
        unit.remove_outputs()
    return Receipt(
        unit=unit.id,
        key=unit.key,
        status=status,
        reason=" ".join(reason.split()),
        inputs=dict(unit.inputs),
        outputs={path.name: sha256_of(path) for path in unit.outputs if path.is_file()},
        facts=dict(outcome.facts) if outcome else {},
        cost=cost,
        log=log,
    )


def _status_of(error: Exception) -> UnitStatus:
    """Tell what another run may have, such as the memory lacking here, from what is wrong with the recording."""
    lacking = isinstance(error, MemoryError | Superseded) or (isinstance(error, OSError) and error.errno in _DISK_FULL)
    return UnitStatus.INCOMPLETE if lacking else UnitStatus.FAILED
