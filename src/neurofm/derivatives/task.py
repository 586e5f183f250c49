"""One participant: preprocessed by an engine, then put into their place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.containers import EngineName
from neurofm.derivatives.placing import Staged
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.fmriprep import Participant


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an engine finds on this machine, and is no part of any result."""

    root: Path
    """The project's, absolute."""
    engine: EngineName
    """Who runs containers (`engine` in site.yaml)."""
    fmriprep_docker: bool
    """Whether fMRIPrep is run through its authors' wrapper (`fmriprep_docker` in site.yaml)."""
    environment: Mapping[str, str]
    """Variables of the stage's own environment that name files which every node sees."""

    @property
    def variables(self) -> dict[str, str]:
        """Return this process's environment, with those variables."""
        return {**os.environ, **self.environment}


@dataclass(frozen=True, kw_only=True)
class ParticipantTask:
    """All that preprocessing one participant needs, in a form that a worker process can be sent."""

    dataset: str
    """Id of the derivatives."""
    participant: Participant
    settings: DerivativesSettings
    bids: Path
    """Absolute."""
    derivatives: Path
    """``data/derivatives/<id>``, absolute."""
    staged: Staged
    surroundings: Surroundings
