"""Which executor a stage runs its units with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neurofm.recording import Modality
from neurofm.units.executor import Executor
from neurofm.units.local import LocalExecutor
from neurofm.units.resources import ExecutorName, UnitsSite
from neurofm.units.slurm import SlurmExecutor
from neurofm.units.unit import Outcome, Payload


def open_executor(
    work: Callable[[Payload], Outcome], *, site: UnitsSite, modality: Modality, running: Path
) -> Executor[Payload]:
    """Return the executor that site.yaml asks for, not yet entered.

    Parameters
    ----------
    work
        Called as ``work(unit.payload)``; must be importable.
    site
        Where units run, and how.
    modality
        Of the units: says what each is given on a cluster.
    running
        ``.neurofm/receipts/<dataset>``.
    """
    folder = running / "slurm"
    if site.executor is ExecutorName.SLURM:
        return SlurmExecutor(work, folder=folder, site=site.slurm, resources=site.slurm.of(modality))
    return LocalExecutor(work, workers=site.workers, leftovers=folder)
