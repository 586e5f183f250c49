"""``neurofm explain``: from any artefact back to what it was made of, by whom and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.derivatives.dataset import DERIVATIVES
from neurofm.operations.provenance.commits import Commit, History
from neurofm.operations.provenance.dataset import DatasetFacts, dataset_facts, read_files, read_splits
from neurofm.operations.provenance.pipeline import Pipeline, State
from neurofm.operations.provenance.recording import RawFacts, RecordingFacts, raw_facts, recording_facts
from neurofm.operations.provenance.scope import scope_of
from neurofm.operations.provenance.scores import Score
from neurofm.operations.provenance.stages import StageFacts, stage_facts
from neurofm.operations.provenance.standing import Standing, standing_of
from neurofm.operations.provenance.subject import Kind, subject_of
from neurofm.operations.stage import read_costs
from neurofm.params import Params
from neurofm.progress import Progressing

RAW = Path("data/raw")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where an artefact comes from."""

    path: str
    row: str
    kind: Kind
    standing: Standing
    scores: tuple[Score, ...]
    """The rows that are asked about."""
    recording: RecordingFacts | None
    """The recording that is asked about."""
    raw: RawFacts | None
    """The raw file that is asked about."""
    fold: int | None
    """The fold that is asked about."""
    made_by: tuple[StageFacts, ...]
    before: tuple[StageFacts, ...]
    """Stages that those rest on, the last that ran first; those of datasets in `others` are left out."""
    read_by: tuple[str, ...]
    """Stages that read it."""
    datasets: tuple[DatasetFacts, ...]
    """Those that it is about."""
    others: tuple[DatasetFacts, ...]
    """Those that had a part in it too."""
    head: Commit | None
    """The commit that is checked out; None without git."""
    lock: Commit | None
    """The commit that changed dvc.lock last."""
    lock_is_committed: bool
    missing: Mapping[str, str]
    """What of all this is not here, and the command that brings it."""


def explain(address: str, *, root: Path, params: Params) -> Explanation:
    """Explain ``PATH[#row]``. Nothing is written, and nobody is asked: what is not here is named.

    Parameters
    ----------
    address
        A path of the project, and what is meant of it.
    root
        The project's root.
    params
        Which datasets take part.

    Raises
    ------
    UserError
        For what is not there, with the nearest names.
    """
    subject = subject_of(address, root=root, params=params)
    pipeline, history = Pipeline.read(root), History(root)
    scope = scope_of(subject, root=root, pipeline=pipeline, params=params)
    makers = [stage for stage, _ in scope.makers]
    upstream = pipeline.upstream(*makers)
    told = [stage for stage in upstream if stage.dataset in ("", *scope.focus, *_feeding(scope.focus, params))]
    costs = read_costs(root)
    with Progressing("compare with dvc.lock", total=len(makers) + len(told), unit="stages") as progress:
        facts = {}
        for stage in (*makers, *told):
            facts[stage.name] = stage_facts(stage, pipeline=pipeline, history=history, costs=costs)
            progress.advance(note=stage.name)
    involved = {stage.dataset for stage in (*makers, *upstream)} & params.all_datasets.keys()
    focus = [name for name in scope.focus if name in params.all_datasets]
    others = [] if subject.dataset else sorted(involved - {*focus})
    files = {name: read_files(name, root=root) for name in (*focus, *others)}
    splits = read_splits(root)
    datasets = {
        name: dataset_facts(
            load_entry(name, root=root), files[name], splits, max_subjects=params.all_datasets[name].max_subjects
        )
        for name in files
    }
    one = scope.recording and subject.dataset in files
    return Explanation(
        path=subject.path,
        row=subject.row,
        kind=subject.kind if len(makers) < 2 else Kind.FOLDER,
        standing=standing_of(
            subject,
            scope,
            files,
            root=root,
            pipeline=pipeline,
            history=history,
            streamed=subject.kind is Kind.RAW and subject.dataset in params.streamed,
        ),
        scores=scope.scores,
        recording=recording_facts(scope.recording, files[subject.dataset], splits, dataset=subject.dataset, root=root)
        if one
        else None,
        raw=raw_facts(subject.file, files[subject.dataset]) if subject.file and subject.dataset in files else None,
        fold=scope.fold,
        made_by=tuple(facts[stage.name] for stage in makers),
        before=tuple(facts[stage.name] for stage in told),
        read_by=tuple(pipeline.readers(subject.path)),
        datasets=tuple(datasets[name] for name in focus),
        others=tuple(datasets[name] for name in others),
        head=history.head,
        lock=history.last_change("dvc.lock"),
        lock_is_committed=not history.uncommitted("dvc.lock"),
        missing={
            item.path: item.mend
            for stage in facts.values()
            for item in (*stage.inputs, *stage.outputs, *stage.code)
            if item.state is State.MISSING
        },
    )


def _feeding(datasets: Sequence[str], params: Params) -> set[str]:
    """Return the derivatives that these datasets are read from, and the raw BIDS that those are made of."""
    derived = {
        name
        for name in params.derivatives
        for dataset in datasets
        if dataset in params.local and Path(params.local[dataset].path) == DERIVATIVES / name
    }
    raw = {name for name in params.bids if any(Path(params.derivatives[one].bids) == RAW / name for one in derived)}
    return derived | raw
