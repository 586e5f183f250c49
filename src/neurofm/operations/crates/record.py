"""What one run was: commit, stages, datasets, results. A crate tells of nothing else."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.errors import UserError
from neurofm.operations.provenance.commits import Commit, History
from neurofm.operations.provenance.dataset import DatasetFacts, dataset_facts, read_files, read_splits
from neurofm.operations.provenance.pipeline import LockedStage, Pipeline, State
from neurofm.operations.provenance.subject import printable
from neurofm.params import Params
from neurofm.progress import Progressing

_SHOWN = 3
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as dvc.lock and git have it."""

    name: str
    """Of the project."""
    licence: str
    """SPDX id of the project's code; empty if it has none."""
    commit: Commit
    uncommitted: tuple[str, ...]
    """Files of the project that are not as committed."""
    address: str
    """Where the code is cloned from; empty if unknown."""
    remote: str
    """Where DVC's files lie; empty where nobody else can reach them."""
    stages: tuple[LockedStage, ...]
    """In the order of dvc.lock."""
    datasets: tuple[DatasetFacts, ...]
    packages: tuple[tuple[str, str], ...]
    """Name and version of what requirements.lock pins."""
    states: Mapping[str, State]
    """How every output lies here."""
    listings: Mapping[str, Mapping[str, str]]
    """Digests of the files in each folder of outputs whose list is here, by its path."""


def read_run(root: Path, params: Params) -> RunRecord:
    """Put together what the current commit and dvc.lock say of a run.

    Raises
    ------
    UserError
        If there is no commit, a stage was never run, or something that lies here is not what dvc.lock has: a crate must
        not tell of a run that did not happen.
    """
    pipeline, history = Pipeline.read(root), History(root)
    if history.head is None:
        raise UserError("There is no commit here that a crate could name.", mend="commit the project's files to git")
    if pipeline.never_run:
        names = sorted(set(pipeline.never_run.values()))
        raise UserError(f"dvc.lock does not have {_some(names)}: this run is not finished.", mend="dvc repro")
    states = _states(pipeline)
    outs = [out for stage in pipeline.stages.values() for out in stage.outs]
    splits = read_splits(root)
    project = _project(root)
    return RunRecord(
        name=str(project.get("name", "neurofm")),
        licence=str(project.get("license", "")),
        commit=history.head,
        uncommitted=history.uncommitted(),
        address=history.address,
        remote=pipeline.remote,
        stages=tuple(pipeline.stages.values()),
        datasets=tuple(
            dataset_facts(
                load_entry(name, root=root), read_files(name, root=root), splits, max_subjects=chosen.max_subjects
            )
            for name, chosen in sorted(params.all_datasets.items())
        ),
        packages=_packages(root),
        states={out.path: states[out.path] for out in outs},
        listings={out.path: found for out in outs if out.files is not None and (found := pipeline.listing(out))},
    )


def _states(pipeline: Pipeline) -> dict[str, State]:
    """Compare everything that the stages read and wrote with dvc.lock."""
    states: dict[str, State] = {}
    changed = []
    with Progressing("compare with dvc.lock", total=len(pipeline.stages), unit="stages") as progress:
        for stage in pipeline.stages.values():
            for one in (*stage.deps, *stage.outs):
                states[one.path] = pipeline.state(one)
                if states[one.path] is State.CHANGED:
                    changed.append(one.path)
            changed += [f"params.yaml: {name}" for name in pipeline.changed_settings(stage)]
            progress.advance(note=stage.name)
    if changed:
        raise UserError(
            f"Not what dvc.lock has: {_some(list(dict.fromkeys(changed)))}.",
            mend="`dvc repro` runs what is out of date, `dvc checkout` and `git checkout` bring the files back",
        )
    return states


def _project(root: Path) -> Mapping[str, object]:
    path = root / "pyproject.toml"
    found: Mapping[str, object] = tomllib.loads(path.read_text("utf-8"))["project"] if path.is_file() else {}
    return found


def _packages(root: Path) -> tuple[tuple[str, str], ...]:
    """Read what requirements.lock pins; a package that is pinned per Python version stands there once for each."""
    path = root / "requirements.lock"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return tuple(sorted({(match[1], match[2]) for line in lines if (match := _PINNED.match(line))}))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(printable(name) for name in names[:_SHOWN])}{more}"
