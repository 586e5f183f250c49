"""How far the units of each dataset have come, why some failed, and which command runs only what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from neurofm.derivatives.dataset import chosen_participants
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.errors import UserError
from neurofm.operations.tables import count_text, name_cell, table
from neurofm.params import Params
from neurofm.recording import UnitStatus
from neurofm.sources import read_manifest
from neurofm.units import Receipt, ReceiptBook
from neurofm.units.slurm_queue import close_ended, tasks_at_work

_SHOWN_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why some units did not succeed."""

    text: str
    units: int
    log: str
    """What the process of one of them wrote; empty where that was the stage's own output."""


@dataclass(frozen=True, kw_only=True)
class UnitsStatus:
    """What manifest and receipts say of one dataset's units. Nothing is hashed: its stage does that."""

    dataset: str
    stage: str
    """`preprocess`, `stream` or `derivatives`."""
    units: int | None
    """Recordings of the manifest, None before there is one; of derivatives, the participants that take part, None where
    their folder is not here."""
    counts: dict[UnitStatus, int]
    reasons: tuple[Reason, ...]
    """Why units did not succeed, the commonest first."""
    containers: dict[str, int]
    """How many units ran in which image, by its digest; under an empty name, those that ran in none."""
    running: str
    """Who runs them now; empty if nobody."""
    seconds_left: float | None
    """Of a run that is at work; None before its first unit ended."""

    @property
    def left(self) -> int:
        """Units of the manifest that have no success."""
        return max(0, (self.units or 0) - self.counts[UnitStatus.SUCCEEDED])

    @property
    def runnable(self) -> int:
        """Units that are left and whose files are not known to be lacking: those wait for what mends the files."""
        return max(0, self.left - self.counts[UnitStatus.UNAVAILABLE])

    @property
    def mend(self) -> str:
        """The command that runs only what is left and can be run; empty if there is none, or somebody runs it."""
        if self.running or not self.runnable:
            return ""
        if not any(self.counts.values()):
            return f"neurofm run {self.stage} --dataset {self.dataset}"
        return f"neurofm retry {self.dataset} && dvc repro"


def units_status(params: Params, *, root: Path, dataset: str | None = None) -> list[UnitsStatus]:
    """Return how the units of the datasets of params.yaml (or of one) stand, in their order."""
    groups = ((params.datasets, "preprocess"), (params.streamed, "stream"), (params.local, "preprocess"))
    return [
        _status(name, stage, wanted=_recordings(name, root=root), root=root)
        for group, stage in groups
        for name in group
        if dataset is None or name == dataset
    ] + [
        _status(name, "derivatives", wanted=_participants(chosen, root=root), root=root)
        for name, chosen in params.derivatives.items()
        if dataset is None or name == dataset
    ]


def retry_units(dataset: str, *, root: Path, unit: str = "") -> tuple[str, ...]:
    """Forget how units ended that did not succeed (or how `unit` did), so that the next run runs them again.

    DVC sees that the receipts changed; without this it would take a stage for done that succeeded within
    `max_failed_fraction`.

    Returns
    -------
    tuple of str
        The units, sorted.

    Raises
    ------
    UserError
        If there is no receipt of `unit`, or none of the dataset; or if tasks of an interrupted run are still at work on
        its units in Slurm, or may be.
    """
    path = root / "data" / "receipts" / f"{dataset}.jsonl"
    book = _book(dataset, root=root)
    if not book.known:
        raise UserError(f"{dataset}: no unit of it was run here.", mend="choose one of `neurofm status`, or run it")
    if unit and unit not in book.known:
        raise UserError(f"{dataset}: there is no receipt of a unit {unit!r}.", mend=f"read the names in {path}")
    with book.held():
        close_ended(root / ".neurofm" / "receipts" / dataset / "slurm")
        again = {
            name
            for name, receipt in book.known.items()
            if name == unit or (not unit and receipt.status is not UnitStatus.SUCCEEDED)
        }
        if again:
            book.gather([receipt for name, receipt in book.known.items() if name not in again])
    return tuple(sorted(again))


def units_table(statuses: Sequence[UnitsStatus], *, width: int) -> Table:
    """Render units per status."""
    made = table(
        "dataset",
        "stage",
        ("recordings", "right"),
        *((status.value, "right") for status in UnitStatus),
        ("left", "right"),
        "running",
        width=width,
    )
    for item in statuses:
        cells = [
            Text(count_text(count), style="" if count and good else "red" if count else "dim", justify="right")
            for status in UnitStatus
            for count, good in [(item.counts[status], status is UnitStatus.SUCCEEDED)]
        ]
        left = "" if item.units is None else count_text(item.left)
        made.add_row(
            name_cell(item.dataset, width=width), item.stage, count_text(item.units), *cells, left, _running(item)
        )
    return made


def units_lines(item: UnitsStatus) -> list[str]:
    """Say why a dataset's units did not succeed, and the command that runs what is left."""
    lines = []
    for reason in item.reasons:
        lines.append(f"{item.dataset}: {reason.units} x {reason.text}")
        if reason.log:
            lines.append(f"{item.dataset}:   log of one: {reason.log}")
    if waiting := item.counts[UnitStatus.UNAVAILABLE]:
        what = (
            "stand with their reasons"
            if item.stage == "derivatives"
            else "wait for their files; what mends these stands"
        )
        lines.append(f"{item.dataset}: {count_text(waiting)} {what} above")
    if item.mend:
        lines.append(f"{item.dataset}: {count_text(item.runnable)} to run: {item.mend}")
    return lines


def units_facts(item: UnitsStatus) -> dict[str, Any]:
    """Return a status as plain data, for machines."""
    return {
        "stage": item.stage,
        "units": item.units,
        "counts": {status.value: item.counts[status] for status in UnitStatus},
        "left": item.left,
        "containers": item.containers,
        "running": item.running,
        "seconds_left": item.seconds_left,
        "reasons": [{"reason": reason.text, "units": reason.units, "log": reason.log} for reason in item.reasons],
        "mend": item.mend,
    }


def _running(item: UnitsStatus) -> str:
    if not item.running or item.seconds_left is None:
        return item.running
    return f"{item.running}, {item.seconds_left:.0f} s left"


def _book(dataset: str, *, root: Path) -> ReceiptBook:
    return ReceiptBook(
        root / "data" / "receipts" / f"{dataset}.jsonl", running=root / ".neurofm" / "receipts" / dataset
    )


def _recordings(dataset: str, *, root: Path) -> set[str] | None:
    path = root / "data" / "manifests" / f"{dataset}.json"
    return {recording.id for recording in read_manifest(path).recordings} if path.is_file() else None


def _participants(chosen: DerivativesSettings, *, root: Path) -> set[str] | None:
    """Return who takes part; None where the folder is not here, or is not what it should be, which its stage says."""
    try:
        return {f"sub-{participant.label}" for participant in chosen_participants(chosen, root=root)}
    except UserError:
        return None


def _status(dataset: str, stage: str, *, wanted: set[str] | None, root: Path) -> UnitsStatus:
    book = _book(dataset, root=root)
    known = [receipt for unit, receipt in book.known.items() if wanted is None or unit in wanted]
    counts = Counter(receipt.status for receipt in known)
    containers = Counter(receipt.cost.container for receipt in known if receipt.cost is not None)
    run = book.at_work()
    cluster = tasks_at_work(root / ".neurofm" / "receipts" / dataset / "slurm")
    return UnitsStatus(
        dataset=dataset,
        stage=stage,
        units=None if wanted is None else len(wanted),
        counts={status: counts[status] for status in UnitStatus},
        reasons=_reasons(known),
        containers=dict(sorted(containers.items())),
        running="; ".join(text for text in (str(run) if run else "", cluster) if text),
        seconds_left=run.seconds_left if run else None,
    )


def _reasons(receipts: Sequence[Receipt]) -> tuple[Reason, ...]:
    """Count why units did not succeed; the unit's own name does not make a reason another one."""
    counts: Counter[str] = Counter()
    logs: dict[str, str] = {}
    for receipt in receipts:
        if receipt.reason:
            text = f"{receipt.status}: {receipt.reason.replace(receipt.unit, '..')}"
            counts[text] += 1
            if receipt.log:
                logs[text] = receipt.log
    return tuple(
        Reason(text=text, units=count, log=logs.get(text, "")) for text, count in counts.most_common(_SHOWN_REASONS)
    )
