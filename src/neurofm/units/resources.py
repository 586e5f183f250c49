"""What units are given where they run: cores, memory, time. Nothing here changes a byte of any result."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from neurofm.recording import Modality
from neurofm.settings import Settings

START_MINUTES = 3
"""Walltime of a task for starting Python, and for being warned of its end, on top of what its recordings get."""


class Resources(Settings):
    """What one recording is given on a cluster."""

    minutes: float = Field(default=60.0, gt=0)
    """Longest that it may take; it is stopped then, and the next one of its task begins."""
    memory_gb: float = Field(default=4.0, gt=0)
    """What it gets at first; twice as much each time that it was not enough. 2^30 bytes, as Slurm counts."""
    cpus: int = Field(default=1, ge=1)


class SlurmSite(Settings):
    """`slurm` in site.yaml: how the cluster is to be used."""

    at_once: int = Field(default=64, ge=1)
    """Most tasks of an array that run side by side."""
    longest_hours: float = Field(default=24.0, gt=0)
    """Longest walltime of one task, which runs several recordings one after the other."""
    most_memory_gb: float = Field(default=64.0, gt=0)
    """Where doubling the memory of a recording ends."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    options: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch, by their long names: ``{constraint: avx512}``."""
    setup: tuple[str, ...] = ()
    """Lines of shell before each task: ``module load ...``."""
    resources: dict[Modality, Resources] = Field(default_factory=dict)
    """Per modality; one that is not named gets the defaults."""
    derivatives: Resources = Field(default_factory=lambda: Resources(minutes=1200.0))
    """What one participant of `derivatives` is given; memory and cores at least what its options name."""

    @model_validator(mode="after")
    def _recordings_fit(self) -> Self:
        for modality in Modality:
            minutes = self.of(modality).minutes
            if minutes + START_MINUTES > 60 * self.longest_hours:
                raise ValueError(
                    f"longest_hours ({self.longest_hours:g}) does not hold the {minutes:g} minutes of one recording of "
                    f"{modality} and {START_MINUTES} for starting"
                )
        return self

    @model_validator(mode="after")
    def _participants_fit(self) -> Self:
        # The default gives way to a cluster with short walltimes; what somebody wrote does not.
        if (
            "derivatives" in self.model_fields_set
            and self.derivatives.minutes + START_MINUTES > 60 * self.longest_hours
        ):
            raise ValueError(
                f"longest_hours ({self.longest_hours:g}) does not hold the {self.derivatives.minutes:g} minutes of one "
                f"participant (`derivatives`) and {START_MINUTES} for starting"
            )
        return self

    def of(self, modality: Modality) -> Resources:
        """Return what a recording of this modality is given."""
        return self.resources.get(modality, Resources())


class ExecutorName(StrEnum):
    """Where units run."""

    LOCAL = "local"
    SLURM = "slurm"


class UnitsSite(Settings):
    """What site.yaml says of units of work."""

    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes that run side by side."""
    executor: ExecutorName = ExecutorName.LOCAL
    """Where recordings are worked on; `neurofm run --executor` says otherwise for once."""
    slurm: SlurmSite = Field(default_factory=SlurmSite)
    """How the cluster is used, where the executor is `slurm`."""
