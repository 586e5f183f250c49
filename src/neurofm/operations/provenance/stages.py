"""How one artefact's stage was run: command, settings, code, what it read and what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurofm.operations.provenance.commits import Commit, History
from neurofm.operations.provenance.pipeline import Artefact, LockedStage, Pipeline, State
from neurofm.operations.stage import StageCost, script_name


@dataclass(frozen=True, kw_only=True)
class ArtefactFacts:
    """A file or folder of a stage, and whether it is still what it was."""

    path: str
    digest: str
    size: int | None
    files: int | None
    state: State
    mend: str
    """What brings it here, where it is not."""


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """One stage as dvc.lock and git have it."""

    name: str
    command: str
    params: Mapping[str, Any]
    changed_params: tuple[str, ...]
    """Of these, what params.yaml has otherwise by now."""
    code: tuple[ArtefactFacts, ...]
    inputs: tuple[ArtefactFacts, ...]
    outputs: tuple[ArtefactFacts, ...]
    commit: Commit | None
    """The last one that changed the code; None without git."""
    uncommitted: tuple[str, ...]
    """Files of the code that are not as committed."""
    container: str
    """Digest of the image that its last run on this machine was in; empty where that was none, or it never ran here."""


def stage_facts(
    stage: LockedStage, *, pipeline: Pipeline, history: History, costs: Mapping[str, StageCost]
) -> StageFacts:
    """Compare a stage's files with the disk, and ask git for its code.

    Parameters
    ----------
    stage
        Which.
    pipeline, history
        Of the project.
    costs
        What each stage cost when it last ran here.
    """
    ran = costs.get(script_name(stage.name))
    code = [dep for dep in stage.deps if dep.is_code]
    paths = [dep.path for dep in code]
    return StageFacts(
        name=stage.name,
        command=stage.command,
        params=stage.params,
        changed_params=pipeline.changed_settings(stage),
        code=tuple(artefact_facts(dep, pipeline=pipeline) for dep in code),
        inputs=tuple(artefact_facts(dep, pipeline=pipeline) for dep in stage.deps if not dep.is_code),
        outputs=tuple(artefact_facts(out, pipeline=pipeline) for out in stage.outs),
        commit=history.last_change(*paths) if paths else None,
        uncommitted=history.uncommitted(*paths) if paths else (),
        container=ran.container if ran else "",
    )


def artefact_facts(artefact: Artefact, *, pipeline: Pipeline) -> ArtefactFacts:
    """Compare a file or folder with the disk."""
    state = pipeline.state(artefact)
    return ArtefactFacts(
        path=artefact.path,
        digest=artefact.digest,
        size=artefact.size,
        files=artefact.files,
        state=state,
        mend=pipeline.mend(artefact.path) if state is State.MISSING else "",
    )
