"""Where units run: one interface for this machine's processes and for whatever else runs them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol, Self

from neurofm.units.receipt import Receipt
from neurofm.units.unit import Payload, Unit


class Executor(Protocol[Payload]):
    """Runs units side by side. Used in a `with` block, which ends when nothing is at work any more."""

    at_once: int
    """How many units run side by side."""

    def submit(self, unit: Unit[Payload]) -> Future[Receipt]:
        """Run one unit, now or when its turn comes.

        However the unit ends, also if its process is killed, the future gives a receipt. A successful unit's
        outputs are durable by then; one that did not succeed has none.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
