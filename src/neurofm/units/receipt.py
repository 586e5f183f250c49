"""Receipts: how each unit ended, and what it left behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from neurofm.files import sha256_of, write_atomic
from neurofm.recording import UnitStatus
from neurofm.settings import Settings


class Cost(Settings):
    """What a unit cost: differs between hosts and never reaches a digest that later stages see."""

    seconds: float
    cpu_s: float
    peak_mb: float
    """Peak resident memory of the worker process so far."""
    host: str


class Receipt(Settings):
    """One line of ``data/receipts/<dataset>.jsonl``."""

    unit: str
    key: str
    """Empty where the inputs were never seen."""
    status: UnitStatus
    reason: str = ""
    inputs: dict[str, str] = Field(default_factory=dict)
    """``<kind>:<value>`` per input path: what the manifest pins, or what was taken when the file first came."""
    outputs: dict[str, str] = Field(default_factory=dict)
    """SHA-256 per output file name."""
    facts: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    cost: Cost | None = None

    @classmethod
    def unavailable(cls, unit: str, reason: str, *, key: str = "") -> Self:
        """Make the receipt of a unit whose inputs could not be had."""
        return cls(unit=unit, key=key, status=UnitStatus.UNAVAILABLE, reason=" ".join(reason.split()))

    @property
    def id(self) -> str:
        """Names the receipt in the fetch ledger: the unit and the beginning of its key."""
        return f"{self.unit}@{self.key[:16]}"

    def whole(self, outputs: Iterable[Path], *, key: str) -> bool:
        """Whether this receipt stands for a success with `key` and every output still has its digest."""
        return (
            self.status is UnitStatus.SUCCEEDED
            and self.key == key
            and all(path.is_file() and self.outputs.get(path.name) == sha256_of(path) for path in outputs)
        )


class ReceiptBook:
    """The receipts of one dataset: gathered in one file, and one by one while its stage runs.

    Parameters
    ----------
    path
        ``data/receipts/<dataset>.jsonl``.
    running
        Folder under ``.neurofm/`` for receipts of units that ended since they were gathered.
    """

    def __init__(self, path: Path, *, running: Path) -> None:
        self._path = path
        self._running = running
        self.known = read_receipts(path)
        """The latest receipt of every unit."""
        for single in sorted(running.glob("*.json")):
            self.known |= read_receipts(single)

    def record(self, receipt: Receipt) -> None:
        """Make a receipt durable."""
        write_atomic(self._running / f"{receipt.unit}.json", receipt.model_dump_json().encode())
        self.known[receipt.unit] = receipt

    def gather(self, receipts: Iterable[Receipt]) -> None:
        """Let the dataset's file hold these receipts and no others."""
        self.known = {receipt.unit: receipt for receipt in receipts}
        write_receipts(self._path, self.known.values())
        for single in self._running.glob("*.json"):
            single.unlink()


def read_receipts(path: Path) -> dict[str, Receipt]:
    """Read a JSON-lines file; a missing file is empty, and a line that is no receipt counts as not there."""
    receipts: dict[str, Receipt] = {}
    if not path.is_file():
        return receipts
    for line in path.read_bytes().splitlines():
        try:
            receipt = Receipt.model_validate_json(line)
        except ValidationError:
            continue  # Half-written or from another version: its unit is simply run again.
        receipts[receipt.unit] = receipt
    return receipts


def write_receipts(path: Path, receipts: Iterable[Receipt]) -> None:
    """Write atomically, one JSON line per unit, sorted by unit."""
    lines = [receipt.model_dump_json() for receipt in sorted(receipts, key=lambda receipt: receipt.unit)]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
