"""Run units in local processes: each once, and only those whose receipt does not hold."""

from __future__ import annotations

import multiprocessing
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from neurofm.files import sha256_of, write_atomic
from neurofm.progress import Progressing
from neurofm.recording import UnitStatus, Unreadable
from neurofm.units.receipt import Cost, Receipt, read_receipts, write_receipts
from neurofm.units.unit import Outcome, Payload, Unit, UnitSummary


def run_units(
    units: Sequence[Unit[Payload]],
    work: Callable[[Payload], Outcome],
    *,
    title: str,
    receipts: Path,
    running: Path,
    workers: int,
) -> UnitSummary:
    """Run every unit whose result is not already there, and gather all receipts.

    A unit is skipped if its receipt says that it succeeded with the same key and its outputs still have the
    digests written down, so a shard that was deleted or changed by one byte is built again and a failed unit
    is tried again. Each receipt is durable before the next unit counts, so an interrupted stage goes on
    where it stopped.

    Parameters
    ----------
    units
        All units of the stage, done or not.
    work
        Called as ``work(unit.payload)`` in a worker process; must be importable. `Unreadable` (and any other
        exception) ends that unit as failed, the others go on.
    title
        For the progress display.
    receipts
        ``data/receipts/<dataset>.jsonl``: read first, rewritten at the end.
    running
        Folder under ``.neurofm/`` for receipts of units that ended since.
    workers
        Number of processes.
    """
    known = read_receipts(receipts) | _read_running(running)
    done: dict[str, Receipt] = {}
    todo: list[Unit[Payload]] = []
    for unit in units:
        receipt = known.get(unit.id)
        if receipt is not None and receipt.whole(unit.outputs, key=unit.key):
            done[unit.id] = receipt
        elif unit.missing:
            done[unit.id] = Receipt(unit=unit.id, key=unit.key, status=UnitStatus.UNAVAILABLE, reason=unit.missing)
            _remove(unit.outputs)
        else:
            todo.append(unit)
    with Progressing(title, total=len(todo), unit="recordings") as progress:
        for receipt in _run(todo, work, workers=workers):
            write_atomic(running / f"{receipt.unit}.json", receipt.model_dump_json().encode())
            done[receipt.unit] = receipt
            progress.advance(note=receipt.unit)
    write_receipts(receipts, done.values())
    for path in running.glob("*.json"):
        path.unlink()
    return UnitSummary(
        statuses={unit: receipt.status for unit, receipt in done.items()},
        reasons={unit: receipt.reason for unit, receipt in done.items() if receipt.reason},
        ran=len(todo),
    )


def _run(units: Sequence[Unit[Payload]], work: Callable[[Payload], Outcome], *, workers: int) -> Iterator[Receipt]:
    """Yield a receipt as each unit ends. A worker that dies (out of memory, a signal) costs only its own unit."""
    # Fresh processes: a forked child would inherit the locks of whatever threads are running here.
    context = multiprocessing.get_context("spawn")
    left = {unit.id: unit for unit in units}
    at_once = workers
    while left:
        with ProcessPoolExecutor(min(at_once, len(left)), mp_context=context) as pool:
            futures = {pool.submit(_attempt, unit, work): unit for unit in left.values()}
            try:
                # One at a time they end in order, and the first that broke is the one that died.
                for future in as_completed(futures) if at_once > 1 else futures:
                    receipt = future.result()
                    del left[receipt.unit]
                    yield receipt
            except BrokenProcessPool:
                # Nobody can say which of the units at work killed it: run what is left one at a time, and
                # then the one that dies alone is the one.
                if at_once == 1:
                    unit = next(iter(left.values()))
                    del left[unit.id]
                    yield _receipt(unit, UnitStatus.INCOMPLETE, "its process was killed (out of memory?)", Outcome())
                at_once = 1


def _attempt(unit: Unit[Payload], work: Callable[[Payload], Outcome]) -> Receipt:
    """Run one unit in a worker process."""
    started, cpu = time.monotonic(), time.process_time()
    try:
        outcome = work(unit.payload)
        status, reason = UnitStatus.SUCCEEDED, ""
    except Unreadable as error:
        outcome, status, reason = Outcome(), UnitStatus.FAILED, str(error)
    except Exception as error:  # noqa: BLE001  # whatever one recording raises must not end the others
        outcome, status, reason = Outcome(), UnitStatus.FAILED, f"{type(error).__name__}: {error}"
    cost = Cost(
        seconds=round(time.monotonic() - started, 3),
        cpu_s=round(time.process_time() - cpu, 3),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        host=socket.gethostname(),
    )
    return _receipt(unit, status, reason, outcome, cost=cost)


def _receipt(
    unit: Unit[Payload], status: UnitStatus, reason: str, outcome: Outcome, *, cost: Cost | None = None
) -> Receipt:
    if status is not UnitStatus.SUCCEEDED:
        _remove(unit.outputs)
    return Receipt(
        unit=unit.id,
        key=unit.key,
        status=status,
        reason=" ".join(reason.split()),
        outputs={path.name: sha256_of(path) for path in unit.outputs if path.is_file()},
        facts=dict(outcome.facts),
        cost=cost,
    )


def _read_running(running: Path) -> dict[str, Receipt]:
    found: dict[str, Receipt] = {}
    for path in sorted(running.glob("*.json")):
        found |= read_receipts(path)
    return found


def _remove(outputs: Sequence[Path]) -> None:
    """Leave nothing of a unit that did not succeed that could be taken for a result."""
    for path in outputs:
        path.unlink(missing_ok=True)
