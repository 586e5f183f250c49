"""The child pipeline of GitLab CI: a job for every dataset and stage that is out of date, then one for the rest."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from neurofm.files import write_atomic
from neurofm.operations.ci.plan import Planned

JOBS = "ci/jobs.yml"
"""Has the hidden jobs that those of the child pipeline extend."""
WITH_UNITS = frozenset({"derivatives", "preprocess", "preprocess_local", "stream"})
"""Stages whose recordings may run on a cluster."""
LOCAL = frozenset({"derivatives", "manifest_local", "preprocess_local"})
"""Stages that read a folder of the lab's, or need its container engine, which only some machines have."""
_HEAD = "# Written by `neurofm ci plan`: the stages that are out of date in this commit.\n"


@dataclass(frozen=True, kw_only=True)
class Runners:
    """Tags of the runners that some stages need; an empty one leaves the choice to GitLab."""

    slurm: str = ""
    """On the login node of a cluster: its jobs send recordings to Slurm."""
    local: str = ""
    """Where the folders of datasets under ``local`` lie."""


def child_pipeline(stages: Sequence[Planned], *, report: bool, runners: Runners) -> dict[str, Any]:
    """Return the child pipeline.

    Parameters
    ----------
    stages
        Out of date, inputs first.
    report
        Whether numbers may differ from those of the branch that is compared with.
    runners
        Tags for stages that need them.
    """
    of_datasets: list[Planned] = []
    others: set[str] = set()
    for stage in stages:  # What follows a stage that covers all datasets is done with that one.
        if stage.dataset and not others.intersection(stage.after):
            of_datasets.append(stage)
        else:
            others.add(stage.name)
    jobs: dict[str, Any] = {stage.name: _job(stage, of_datasets, runners=runners) for stage in of_datasets}
    steps = _steps(of_datasets)
    for name, wanted in (("gather", bool(stages)), ("numbers", report or bool(stages)), ("commit", bool(stages))):
        if wanted:
            steps.append(name)
            jobs[name] = {"extends": f".{name}", "stage": name}
    if not jobs:
        # GitLab refuses a pipeline without jobs.
        steps, jobs = ["done"], {"nothing-to-do": {"extends": ".nothing-to-do", "stage": "done"}}
    # Without a rule of its own a child pipeline is one of a branch, and in a merge request none of its jobs is made.
    return {
        "include": [{"local": JOBS}],
        "workflow": {"rules": [{"when": "always"}]},
        "stages": steps,
        **jobs,
    }


def write_child(path: Path, pipeline: dict[str, Any]) -> None:
    """Write a child pipeline as YAML, atomically."""
    yaml = YAML()
    yaml.width = 4096
    stream = io.BytesIO(_HEAD.encode())
    stream.seek(0, io.SEEK_END)
    yaml.dump(pipeline, stream)
    write_atomic(path, stream.getvalue())


def _job(stage: Planned, others: Sequence[Planned], *, runners: Runners) -> dict[str, Any]:
    names = {other.name for other in others}
    job: dict[str, Any] = {
        "extends": ".reproduce",
        "stage": stage.group,
        "needs": [name for name in stage.after if name in names],
        "variables": {"STAGE": stage.name},
    }
    if runners.slurm and stage.group in WITH_UNITS:
        job["extends"] = [".reproduce", ".slurm"]
        job["tags"] = [runners.slurm]
    elif runners.local and stage.group in LOCAL:
        job["tags"] = [runners.local]
    return job


def _steps(stages: Sequence[Planned]) -> list[str]:
    """Return the groups of stages in an order in which each comes after those that it reads from."""
    depth: dict[str, int] = {}
    by_name = {stage.name: stage for stage in stages}
    for stage in stages:
        before = [depth[by_name[name].group] for name in stage.after if name in by_name]
        depth[stage.group] = max(depth.get(stage.group, 0), 1 + max(before, default=-1))
    return sorted(depth, key=lambda group: (depth[group], group))
