"""Which executor a stage runs its units with."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from neurofm.units.executor import Executor
from neurofm.units.local import LocalExecutor
from neurofm.units.resources import Resources, SlurmSite
from neurofm.units.slurm import SlurmExecutor
from neurofm.units.unit import Outcome, Payload


class ExecutorName(StrEnum):
    """Where units run."""

    LOCAL = "local"
    SLURM = "slurm"


def open_executor(
    work: Callable[[Payload], Outcome],
    *,
    name: ExecutorName,
    workers: int,
    slurm: SlurmSite,
    resources: Resources,
    running: Path,
) -> Executor[Payload]:
    """Return the executor of that name, not yet entered.

    Parameters
    ----------
    work
        Called as ``work(unit.payload)``.
    name
        Where.
    workers
        Processes side by side, on this machine.
    slurm, resources
        How the cluster is used, and what one unit is given there.
    running
        ``.neurofm/receipts/<dataset>``.
    """
    folder = running / "slurm"
    if name is ExecutorName.SLURM:
        return SlurmExecutor(work, folder=folder, site=slurm, resources=resources)
    return LocalExecutor(work, workers=workers, leftovers=folder)
