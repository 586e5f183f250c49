"""A unit of work: the smallest thing that is run, verified and repeated on its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Self, TypeVar

from neurofm.recording import UnitStatus
from neurofm.units.index import read_index
from neurofm.units.receipt import Receipt

Payload = TypeVar("Payload")


@dataclass(frozen=True, kw_only=True)
class Unit(Generic[Payload]):
    """One recording to be worked on.

    `payload` is handed to the working function and must survive pickling to another process of ours.
    """

    id: str
    key: str
    """Digest of everything the result depends on (`unit_key`)."""
    outputs: tuple[Path, ...]
    """What a successful run leaves behind."""
    payload: Payload
    inputs: Mapping[str, str] = field(default_factory=dict)
    """``<kind>:<value>`` per input path, for the receipt."""
    missing: str = ""
    """Why the unit cannot run (an input was not downloaded); empty if it can."""
    indexed_in: Path | None = None
    """Folder that the files are in which the outputs, indexes (`Index`), name; None where outputs are the results."""
    container: str = ""
    """Digest of the image in which the work is done, where that is another one than its process's."""

    def is_whole(self, receipt: Receipt) -> bool:
        """Whether a receipt stands for a success with this key, and every file that came of it still has its digest."""
        if not receipt.whole(self.outputs, key=self.key):
            return False
        if self.indexed_in is None:
            return True
        indexes = [read_index(path) for path in self.outputs]
        return all(index is not None and not any(index.wrong(self.indexed_in)) for index in indexes)

    def remove_outputs(self) -> None:
        """Leave nothing of a unit that did not succeed that could be taken for a result."""
        for path in self.outputs:
            if self.indexed_in is not None and (index := read_index(path)) is not None:
                for file in index.files:
                    (self.indexed_in / file.path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a working function reports of a unit that succeeded: facts for people, not for later stages."""

    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


class Superseded(Exception):
    """Raised by a working function that is no longer what the key of its unit stands for."""


@dataclass(frozen=True, kw_only=True)
class UnitSummary:
    """How all units of a stage ended."""

    statuses: Mapping[str, UnitStatus]
    reasons: Mapping[str, str]
    ran: int
    """How many were run now; the rest were whole already."""

    @classmethod
    def of(cls, receipts: Iterable[Receipt], *, ran: int) -> Self:
        """Sum up receipts."""
        by_unit = {receipt.unit: receipt for receipt in receipts}
        return cls(
            statuses={unit: receipt.status for unit, receipt in by_unit.items()},
            reasons={unit: receipt.reason for unit, receipt in by_unit.items() if receipt.reason},
            ran=ran,
        )

    @property
    def whole(self) -> int:
        """How many were whole already; who was not run for want of an input is not."""
        unavailable = sum(status is UnitStatus.UNAVAILABLE for status in self.statuses.values())
        return len(self.statuses) - self.ran - unavailable

    @property
    def failed(self) -> tuple[str, ...]:
        """Units that did not succeed, sorted."""
        return tuple(sorted(unit for unit, status in self.statuses.items() if status is not UnitStatus.SUCCEEDED))
