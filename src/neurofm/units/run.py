"""Run the units of a stage whose inputs are all there: each once, and only those whose receipt does not hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import as_completed

from neurofm.progress import Progressing
from neurofm.units.executor import Executor
from neurofm.units.receipt import Receipt, ReceiptBook
from neurofm.units.unit import Payload, Unit, UnitSummary

_DURABLE_S = 0.5
"""How often receipts are made durable: ten thousand short units must not wait for the disk ten thousand times."""


def run_units(
    units: Sequence[Unit[Payload]],
    *,
    executor: Executor[Payload],
    book: ReceiptBook,
    title: str,
    counted: str = "recordings",
) -> UnitSummary:
    """Run every unit whose result is not already there, and gather all receipts.

    A unit is skipped if its receipt says that it succeeded with the same key and its outputs still have the
    digests written down, so a shard that was deleted or changed by one byte is built again and a failed unit
    is tried again. Each receipt is written down as its unit ends, so an interrupted stage goes on where it
    stopped. A second run on the same units waits, and then finds them done.

    Parameters
    ----------
    units
        All units of the stage, done or not.
    executor
        Where they run.
    book
        Receipts of earlier runs; those of `units` are gathered in it at the end, and no others.
    title, counted
        For the progress display: what is done, and what the units are.
    """
    with book.held():
        with executor:
            book.take_up()  # After entering, which may have stopped what an earlier run had left at work.
            done, ran = _run(units, executor=executor, book=book, title=title, counted=counted)
        book.gather(done)
    return UnitSummary.of(done, ran=ran)


def _run(
    units: Sequence[Unit[Payload]], *, executor: Executor[Payload], book: ReceiptBook, title: str, counted: str
) -> tuple[list[Receipt], int]:
    """Return the receipts of all units, and how many were run now."""
    done: list[Receipt] = []
    todo: list[Unit[Payload]] = []
    for unit in units:
        receipt = book.known.get(unit.id)
        if receipt is not None and unit.is_whole(receipt):
            done.append(receipt)
        elif unit.missing:
            done.append(Receipt.unavailable(unit.id, unit.missing, key=unit.key))
            unit.remove_outputs()
        else:
            todo.append(unit)
    book.announce(len(todo))
    synced = time.monotonic()
    with Progressing(title, total=len(todo), unit=counted) as progress:
        for future in as_completed([executor.submit(unit) for unit in todo]):
            receipt = future.result()
            now = time.monotonic()
            due = now - synced >= _DURABLE_S
            synced = now if due else synced
            book.record(receipt, durable=due)
            done.append(receipt)
            progress.advance(note=receipt.unit)
    return done, len(todo)
