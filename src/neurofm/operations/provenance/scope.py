"""What an explanation is about: the stages, datasets, recordings, fold and scores that a subject leads to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.operations.provenance.dataset import read_files, read_splits
from neurofm.operations.provenance.pipeline import Artefact, LockedStage, Pipeline
from neurofm.operations.provenance.scores import Score, select_scores
from neurofm.operations.provenance.subject import Kind, Subject, nearest, printable
from neurofm.params import Params

_OF_RECORDINGS = {Kind.MANIFEST, Kind.SHARD, Kind.RECEIPTS, Kind.QUALITY}
"""Kinds whose rows are recordings."""
_OF_ALL = {Kind.SPLIT, Kind.MODEL, Kind.TRAINING, Kind.CONNECTIVITY, Kind.REPORT}
"""Kinds whose rows are datasets, or folds."""
_SHOWN_NAMES = 100_000
"""Most names among which the nearest is looked for."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is to be explained."""

    makers: tuple[tuple[LockedStage, Artefact], ...]
    """Stages that made it, with the output that it is or lies in; several for a folder of outputs."""
    focus: tuple[str, ...]
    """Datasets to be told of in full; none where it is about all of them alike."""
    recording: str
    fold: int | None
    scores: tuple[Score, ...]


def scope_of(subject: Subject, *, root: Path, pipeline: Pipeline, params: Params) -> Scope:
    """Find what a subject leads to.

    Raises
    ------
    UserError
        If there is nothing of this name, or it has no such row; the nearest names are advised.
    """
    found = pipeline.maker(subject.path)
    makers = (found,) if found else tuple(pipeline.made_within(subject.path))
    _require_known(subject, found[1] if found else None, root=root, pipeline=pipeline)
    focus: tuple[str, ...] = (subject.dataset,) if subject.dataset else ()
    recording, fold = subject.recording, subject.fold
    scores: Sequence[Score] = ()
    if subject.kind is Kind.SCORES:
        scores = _scores(subject, root=root, pipeline=pipeline)
        focus = tuple(dict.fromkeys(score.dataset for score in scores)) if subject.row else ()
    elif subject.row and subject.kind in _OF_RECORDINGS and not recording:
        recording = _chosen(subject, _recordings(subject.dataset, root=root))
    elif subject.row and subject.kind in _OF_ALL:
        splits = read_splits(root)
        folds = len(splits.folds) if splits else params.split.folds
        row = _chosen(subject, [*params.all_datasets, *(f"fold-{number}" for number in range(folds))])
        fold = int(row.removeprefix("fold-")) if re.fullmatch(r"fold-\d+", row) else fold
        focus = (row,) if row in params.all_datasets else ()
    elif subject.row:
        raise UserError(f"{printable(subject.path)}: it has no rows.", mend="leave out what stands behind `#`")
    return Scope(makers=makers, focus=focus, recording=recording, fold=fold, scores=tuple(scores))


def _require_known(subject: Subject, out: Artefact | None, *, root: Path, pipeline: Pipeline) -> None:
    """Refuse a path that no stage makes, git does not keep and no manifest names."""
    inside = out is not None and subject.path != out.path
    if (root / subject.path).exists() or (out is not None and not inside) or pipeline.made_within(subject.path):
        return
    if subject.path in pipeline.never_run:
        stage = pipeline.never_run[subject.path]
        raise UserError(
            f"{printable(subject.path)}: its stage `{stage}` was not run yet (dvc.lock does not have it).",
            mend=f"dvc repro {stage}",
        )
    names = _known_names(subject, out, root=root, pipeline=pipeline)
    if subject.path in names or (inside and not names):
        return  # Known, or in a folder of which nothing but its digest is here.
    others = [*names, *(made.path for stage in pipeline.stages.values() for made in stage.outs)]
    raise UserError(
        f"{printable(subject.path)}: no such file in this project.",
        mend=nearest(subject.path, others[:_SHOWN_NAMES]) or "name one of data/, models/, metrics/ or reports/",
    )


def _known_names(subject: Subject, out: Artefact | None, *, root: Path, pipeline: Pipeline) -> set[str]:
    """Return the names that are known in the folder that a path lies in, wherever they are known from."""
    names = {path.relative_to(root).as_posix() for path in (root / subject.path).parent.glob("*")}
    if out is not None and out.files is not None:
        names |= {f"{out.path}/{name}" for name in pipeline.listing(out) or ()}
    if subject.dataset and subject.kind is Kind.SHARD:
        names |= {f"data/shards/{subject.dataset}/{name}.zarr.zip" for name in _recordings(subject.dataset, root=root)}
    if subject.dataset and subject.kind is Kind.RAW:
        manifest = read_files(subject.dataset, root=root).manifest
        base = subject.path.removesuffix(f"/{subject.file}") if subject.file else subject.path
        names |= {f"{base}/{file.path}" for file in (manifest.files if manifest else ())}
        names |= set() if subject.file else {base}  # What is streamed has no folder, and is known all the same.
    return names


def _recordings(dataset: str, *, root: Path) -> list[str]:
    files = read_files(dataset, root=root)
    of_manifest = [recording.id for recording in files.manifest.recordings] if files.manifest else []
    of_quality = files.quality.recordings if files.quality else {}
    return list(dict.fromkeys([*of_manifest, *(files.receipts or ()), *of_quality]))


def _scores(subject: Subject, *, root: Path, pipeline: Pipeline) -> Sequence[Score]:
    path = root / subject.path
    if not path.is_file() and not subject.row:
        return ()
    if not path.is_file():
        raise UserError(f"{subject.path} is not here, so its rows are not known.", mend=pipeline.mend(subject.path))
    return select_scores(path, subject.row) if subject.row else ()


def _chosen(subject: Subject, names: Sequence[str]) -> str:
    row = subject.row
    if row not in names:
        raise UserError(
            f"{printable(subject.path)}: there is no row {printable(row)!r}.",
            mend=nearest(row, names[:_SHOWN_NAMES])
            or (f"choose one of {len(names)}, such as {printable(names[0])}" if names else "get its data first"),
        )
    return row
