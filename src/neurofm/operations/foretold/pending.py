"""Which stages the next `dvc repro` will run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from neurofm.operations.dvc import DvcException, Repo, is_aside
from neurofm.operations.stage import script_name

_INCREMENTAL = ("data/manifests", "data/raw")
"""Dependencies of preprocessing: a change in them concerns only the recordings whose files changed."""


class Run(StrEnum):
    """How much of a stage there is to do."""

    NOTHING = "nothing"
    MISSING = "missing"
    """What is not there yet."""
    ALL = "all"
    """Its code or its settings changed."""


def pending(root: Path) -> dict[str, Run] | None:
    """Ask DVC what changed, and follow it through the pipeline; takes two seconds, and changes nothing.

    Returns
    -------
    dict or None
        By stage, as `StageCost` names it; None where DVC does not say (another one is at work, or it is not set up).
    """
    try:
        repo = Repo(str(root))
    except DvcException:
        return None
    try:
        status: Mapping[str, Any] = repo.status()
        graph = repo.index.graph
    except DvcException:
        return None
    finally:
        repo.close()
    runs: dict[str, Run] = {}
    for stage in _upstream_first(graph):
        if is_aside(stage, root=root):
            continue
        above = any(runs[_name(one)] is not Run.NOTHING for one in graph.successors(stage))
        runs[_name(stage)] = max(
            _run_of(status.get(stage.addressing)), Run.MISSING if above else Run.NOTHING, key=list(Run).index
        )
    return runs


def _upstream_first(graph: Any) -> list[Any]:
    """Order stages so that each comes after those that it depends on (edges point upstream)."""
    ordered: list[Any] = []
    left = {stage: set(graph.successors(stage)) for stage in graph.nodes}
    while left:
        ready = [stage for stage, above in left.items() if not above & left.keys()]
        ordered += ready
        for stage in ready:
            del left[stage]
    return ordered


def _run_of(changes: Any) -> Run:
    """Read what DVC's status says of one stage."""
    if not changes:
        return Run.NOTHING
    for change in changes:
        if not isinstance(change, dict):
            return Run.ALL  # "changed command"
        for path in change.get("changed deps", {}):
            if not str(path).startswith(_INCREMENTAL):
                return Run.ALL
    return Run.MISSING


def _name(stage: Any) -> str:
    # Not its address, which is relative to where this process is; a `.dvc` file has no other.
    return script_name(str(getattr(stage, "name", stage.addressing)))
