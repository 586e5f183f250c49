"""How one path stands: is it here, is it what dvc.lock or git has, and if not, what brings it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.files import sha256_of
from neurofm.operations.provenance.commits import Commit, History
from neurofm.operations.provenance.dataset import DatasetFiles
from neurofm.operations.provenance.pipeline import Artefact, Pipeline, State
from neurofm.operations.provenance.scope import Scope
from neurofm.operations.provenance.subject import Kind, Subject


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a path stands."""

    state: State | None
    """None where nothing that is here says what it should be."""
    digest: str
    """What it should be; empty where that is not known."""
    size: int | None
    """Bytes; None where that is not known."""
    mend: str
    """What brings it here, where it is missing."""
    note: str
    """What is to be said of all this; empty if it is plain."""
    change: Commit | None
    """Of a file that git keeps: the commit that changed it last."""
    uncommitted: tuple[str, ...]
    """Of a file that git keeps: what of it is not as committed."""


def standing_of(
    subject: Subject,
    scope: Scope,
    files: Mapping[str, DatasetFiles],
    *,
    root: Path,
    pipeline: Pipeline,
    history: History,
    streamed: bool,
) -> Standing:
    """Say how a subject stands.

    Parameters
    ----------
    subject, scope
        What is asked about, and where it leads.
    files
        What the stages left of the subject's dataset.
    root, pipeline, history
        The project, as DVC and git have it.
    streamed
        Whether raw files of its dataset are not kept.
    """
    path = root / subject.path
    size = path.stat().st_size if path.is_file() else None
    expected, note = _expected(subject, scope, files, root=root, pipeline=pipeline)
    state = pipeline.state(expected) if expected else None
    if expected is None and not path.exists():
        state = State.MISSING
    kept = not scope.makers and history.tracked(subject.path)
    if not scope.makers and subject.kind is Kind.RAW:
        note = "its raw files are not kept: streamed" if streamed else "read where it lies"
    elif not (scope.makers or kept):
        note = "neither did a stage make it nor does git keep it: nothing is recorded of it"
    return Standing(
        state=state,
        digest=expected.digest if expected else "",
        size=expected.size if expected and expected.size is not None else size,
        mend=pipeline.mend(subject.path) if state is State.MISSING and not streamed else "",
        note=note,
        change=history.last_change(subject.path) if kept else None,
        uncommitted=history.uncommitted(subject.path) if kept else (),
    )


def _expected(
    subject: Subject, scope: Scope, files: Mapping[str, DatasetFiles], *, root: Path, pipeline: Pipeline
) -> tuple[Artefact | None, str]:
    """Return what a path should be, and a word about it."""
    if not scope.makers:
        deps = [dep for stage in pipeline.stages.values() for dep in stage.deps if dep.path == subject.path]
        return (deps[0] if deps else None), ""
    (_, out), *more = scope.makers
    if more or not subject.path.startswith(out.path):
        return None, "each is told of below"
    if subject.path == out.path:
        return out, ""
    listed = (pipeline.listing(out) or {}).get(subject.path.removeprefix(f"{out.path}/"))
    if listed:
        return Artefact(path=subject.path, digest=listed, size=None, files=None), ""
    return None, _by_receipt(subject, files.get(subject.dataset), path=root / subject.path)


def _by_receipt(subject: Subject, files: DatasetFiles | None, *, path: Path) -> str:
    """Compare a shard with its receipt, where DVC's own list of the folder is not here."""
    receipt = (files.receipts or {}).get(subject.recording) if files else None
    wanted = receipt.outputs.get(path.name) if receipt else None
    if wanted is None or not path.is_file():
        return "DVC's list of the folder's files is not here, so this one's own digest is not known"
    agrees = sha256_of(path) == wanted
    return f"DVC's list of the folder's files is not here; {'as' if agrees else 'not what'} its receipt says"
