"""What a crate carries, and what it only names by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.operations.crates.record import RunRecord
from neurofm.operations.provenance.pipeline import Artefact, State

INPUTS = ("dvc.yaml", "dvc.lock", "params.yaml", "requirements.lock")
"""What every crate carries beside the stages' scripts and the catalogue entries of the datasets."""

_ALWAYS = ("metrics/", "reports/", "data/splits.json")
"""Results that every crate carries: numbers, pages, and who was learned from."""
_ON_REQUEST = ("models/", "data/shards/", "data/manifests/")
"""Results that a crate carries if asked to: large, or only of use together with the data."""
_OF_DATASETS = ("data/shards/", "data/manifests/")
"""Of these, what belongs to one dataset, whose terms decide."""
_NEVER = ("metrics/dvclive", "reports/reconstructions.npz", "reports/findings.npz")
"""Curves as drawn during training (metrics/pretrain.json has the same numbers), stretches of recordings, and numbers
of single subjects."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One output of a stage."""

    artefact: Artefact
    packed: tuple[str, ...]
    """Files that the crate carries, relative to the project's root; empty for a result that it only names."""
    reason: str
    """Why it is not carried; empty if it is."""


def results_of(run: RunRecord, *, with_data: bool) -> list[Result]:
    """Say of every output of the run whether the crate carries it.

    Raw files and receipts (which name hosts) are never carried, nor anything that is not here whole. With the data go
    shards and manifests of datasets whose files may be passed on.
    """
    return [_result(out, stage.dataset, run, with_data=with_data) for stage in run.stages for out in stage.outs]


def inputs_of(run: RunRecord, *, root: Path) -> list[str]:
    """Return the files that a run starts from and git keeps: the workflow, its settings, scripts and catalogue."""
    scripts = {dep.path for stage in run.stages for dep in stage.deps if dep.path.startswith("stages/")}
    entries = [f"data/catalog/{dataset.id}.yaml" for dataset in run.datasets]
    return [path for path in (*INPUTS, *sorted(scripts), *entries) if (root / path).is_file()]


def _result(out: Artefact, dataset: str, run: RunRecord, *, with_data: bool) -> Result:
    reason = _reason(out, dataset, run, with_data=with_data)
    if reason:
        return Result(artefact=out, packed=(), reason=reason)
    names: Sequence[str] = [out.path]
    if out.files is not None:
        names = [f"{out.path}/{name}" for name in sorted(run.listings[out.path])]
    return Result(artefact=out, packed=tuple(names), reason="")


def _reason(out: Artefact, dataset: str, run: RunRecord, *, with_data: bool) -> str:
    """Say why an output is not carried; nothing if it is."""
    if run.states[out.path] is not State.AS_LOCKED or (out.files is not None and out.path not in run.listings):
        return "not here whole when the crate was made"
    if out.path.startswith(_ALWAYS) and not out.path.startswith(_NEVER):
        return ""
    if not out.path.startswith(_ON_REQUEST):
        return "never carried"
    if out.path.startswith(_OF_DATASETS) and not _may_be_passed_on(dataset, run):
        return "its terms forbid passing it on"
    return "" if with_data else "not asked for (--with-data)"


def _may_be_passed_on(dataset: str, run: RunRecord) -> bool:
    """Whether a dataset's terms allow it; a folder of one's own is nobody else's to hand out unasked."""
    return any(one.id == dataset and one.redistribute and one.archive != "local" for one in run.datasets)
