"""One array of jobs on the shared disk: which units each task was given, and what has become of them.

::

    .neurofm/receipts/<dataset>/slurm/<number>-<token>/
        plan.json               the units of every task and their keys, and the digest of its list
        units/<task>.pkl        the units of one task; written once, never changed
        receipts/<task>-<n>.jsonl   how they ended, one line each; n counts how often Slurm has started the task
        revoked/<task>          there: the task begins no further unit
        log/                    submitit's own files, and what the tasks wrote
        closed                  there: nothing is to be expected of it any more
"""

from __future__ import annotations

import os
import pickle
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from neurofm.files import sync_folder, write_atomic
from neurofm.settings import Settings
from neurofm.units.receipt import Receipt, read_receipts
from neurofm.units.unit import Unit


class TaskPlan(Settings):
    """What one task of an array was given."""

    units: dict[str, str]
    """Key by unit, in the order in which they are run."""
    digest: str
    """SHA-256 of its list of units."""


class Plan(Settings):
    """``plan.json``."""

    memory_gb: float
    """What each task may take, 2^30 bytes."""
    tasks: tuple[TaskPlan, ...]


@dataclass(frozen=True)
class Submission:
    """One array of jobs."""

    folder: Path

    @classmethod
    def write(cls, root: Path, tasks: Sequence[Sequence[Unit[Any]]], *, memory_gb: float) -> Self:
        """Write down what is about to be submitted.

        Parameters
        ----------
        root
            Folder of a dataset's submissions.
        tasks
            The units of each task.
        memory_gb
            What each task may take.
        """
        root.mkdir(parents=True, exist_ok=True)
        number = max((int(folder.name.partition("-")[0]) for folder in _folders(root)), default=0) + 1
        made = cls(root / f"{number:06d}-{secrets.token_hex(3)}")
        for name in ("units", "receipts", "revoked", "log"):
            (made.folder / name).mkdir(parents=True)
        plans = []
        for index, units in enumerate(tasks):
            content = pickle.dumps(list(units), protocol=pickle.HIGHEST_PROTOCOL)
            made._units(index).write_bytes(content)
            made._units(index).chmod(0o444)
            plans.append(TaskPlan(units={unit.id: unit.key for unit in units}, digest=sha256(content).hexdigest()))
        # Last: a submission without a plan was never submitted.
        write_atomic(
            made.folder / "plan.json", Plan(memory_gb=memory_gb, tasks=tuple(plans)).model_dump_json().encode()
        )
        sync_folder(root)
        return made

    @classmethod
    def all_open(cls, root: Path) -> list[Self]:
        """Return the submissions of which something may still be expected, oldest first."""
        found = [cls(folder) for folder in _folders(root) if not (folder / "closed").exists()]
        return [submission for submission in found if submission.plan.tasks]

    @property
    def name(self) -> str:
        """Name of its jobs: no other submission, of whatever project, has it."""
        dataset = self.folder.parent.parent.name
        return f"neurofm-{dataset}-{self.folder.name}"

    @cached_property
    def plan(self) -> Plan:
        """What every task was given; empty if that was not written to its end, since then nothing was submitted."""
        try:
            return Plan.model_validate_json((self.folder / "plan.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return Plan(memory_gb=0.0, tasks=())

    @property
    def log(self) -> Path:
        """Folder of submitit's files and of the tasks' logs."""
        return self.folder / "log"

    def log_of(self, index: int) -> str:
        """Return the log of a task, the latest if there are several; empty if it has not begun."""
        logs = sorted(self.log.glob(f"*_{index}_0_log.out"), key=lambda path: int(path.name.split("_")[0]))
        if not logs and index == 0:
            logs = [path for path in self.log.glob("*_0_log.out") if path.name.count("_") == 2]
        return str(logs[-1]) if logs else ""

    def units(self, index: int, *, digest: str) -> list[Unit[Any]]:
        """Return the units of one task.

        Raises
        ------
        ValueError
            If they are not the ones that were submitted. Nothing is unpickled then.
        """
        content = self._units(index).read_bytes()
        if sha256(content).hexdigest() != digest:
            raise ValueError(f"{self._units(index)} is not the list that was submitted")
        units: list[Unit[Any]] = pickle.loads(content)  # noqa: S301  # our own bytes, as the digest shows
        return units

    def journal(self, index: int, start: int) -> Path:
        """Return where a task's receipts are; a task that Slurm starts again writes another."""
        return self.folder / "receipts" / f"{index:04d}-{start:03d}.jsonl"

    def journals(self, *, anew: bool = False) -> list[tuple[int, Path, int]]:
        """Return task, path and size of every journal, each task's in their order.

        With `anew`, a network disk is made to list the folder again rather than to tell what it remembers.
        """
        if anew:
            mark = self.folder / "receipts" / ".anew"
            mark.touch()
            mark.unlink(missing_ok=True)
        try:
            with os.scandir(self.folder / "receipts") as entries:
                found = sorted(
                    (entry.name, entry.path, entry.stat().st_size) for entry in entries if entry.name.endswith(".jsonl")
                )
        except FileNotFoundError:
            return []
        return [(int(name.partition("-")[0]), Path(path), size) for name, path, size in found]

    def receipts(self, index: int) -> dict[str, Receipt]:
        """Return the receipts that a task has written."""
        receipts: dict[str, Receipt] = {}
        for task, path, _ in self.journals():
            if task == index:
                receipts |= read_receipts(path)
        return receipts

    def revoke(self, indices: Iterable[int]) -> None:
        """Let tasks begin no further unit, wherever they are, also if Slurm has forgotten them."""
        for index in indices:
            (self.folder / "revoked" / f"{index:04d}").touch()

    def is_revoked(self, index: int) -> bool:
        """Whether a task is to begin no further unit. So is one whose submission was removed."""
        return (self.folder / "revoked" / f"{index:04d}").exists() or not (self.folder / "revoked").exists()

    def close(self) -> None:
        """Expect nothing of it any more; its logs and receipts stay."""
        self.revoke(range(len(self.plan.tasks)))
        (self.folder / "closed").touch()
        shutil.rmtree(self.folder / "units", ignore_errors=True)

    def _units(self, index: int) -> Path:
        return self.folder / "units" / f"{index:04d}.pkl"


def remove_closed(root: Path) -> None:
    """Remove closed submissions whose receipts were gathered; their logs go too."""
    for folder in _folders(root):
        if (folder / "closed").exists() and not list((folder / "receipts").glob("*.jsonl")):
            shutil.rmtree(folder, ignore_errors=True)


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("[0-9]*-*") if folder.is_dir())
