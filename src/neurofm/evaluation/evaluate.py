"""Evaluate: every model on every fold's held-out data, fold by fold and channel set by channel set."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.attributes import read_attributes
from neurofm.evaluation.calibration import mean_elsewhere
from neurofm.evaluation.channel_set import channel_sets, evaluate_set
from neurofm.evaluation.classification import not_classified_said
from neurofm.evaluation.comparisons import compare
from neurofm.evaluation.confusions import confusions_of
from neurofm.evaluation.decoding import not_decoded, not_decoded_said
from neurofm.evaluation.embeddings import chosen_views, embed
from neurofm.evaluation.examples import Example
from neurofm.evaluation.findings import Embedding, Findings
from neurofm.evaluation.folds import left_out_of
from neurofm.evaluation.found import Found
from neurofm.evaluation.gate import Gate
from neurofm.evaluation.masked import TASK
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.references import check_references
from neurofm.evaluation.retrieval import retrieve
from neurofm.evaluation.row import OURS, Row
from neurofm.evaluation.scoreboard import Scoreboard, best_baseline, make_rows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trial_task import check_columns, trial_scores
from neurofm.progress import Progressing
from neurofm.splits import DATASET, Splits
from neurofm.training.predict import Predictor
from neurofm.units import side_by_side
from neurofm.windows import RecordingView, WindowsSettings, load_views
from neurofm.windows.pairs import Pair, pairs_of

_LIBRARIES_MB = 700.0
_BYTES_PER_VALUE = 144
"""From `resource.getrusage(resource.RUSAGE_SELF).ru_maxrss` after `_score_part` of one part, in a process of its own:
A2929 (15 units, 20 min) took 664 MiB and five times as long of it 1149 MiB, which is 141 bytes a value. 1070 units of
Steinmetz', 8 million values, had taken 1209 MiB (87) when stopped midway; sets of many people were not measured."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The recordings of one channel set in one fold: what is scored together, in any process."""

    fold: int
    names: tuple[str, ...]
    """``<dataset>/<recording>``"""
    scored: int
    """Recordings of them with something to score."""
    values: int
    """Samples times channels."""
    elsewhere: float | None = None
    """`mean_elsewhere` of the modality, where all that is scored is of datasets that the fold leaves out whole."""

    @property
    def most_mb(self) -> float:
        """MiB that scoring it may take: the libraries, and signals with their copies in several precisions."""
        return _LIBRARIES_MB + _BYTES_PER_VALUE * self.values / 2**20


def evaluate(
    splits: Splits,
    *,
    shards: Path,
    models: Path,
    settings: EvaluateSettings,
    windows: WindowsSettings,
    workers: int = 1,
) -> Scoreboard:
    """Score our model and every baseline on what each fold holds out.

    Parameters
    ----------
    splits
        Folds and roles.
    shards
        ``data/shards``.
    models
        Folder with ``fold-<n>`` per fold.
    settings, windows
        Of params.yaml.
    workers
        Processes that score parts side by side; what they find does not depend on how many.

    Raises
    ------
    UserError
        If anything scored was learned from (`Gate`), a model is missing or damaged, or no recording has a column that
        `evaluate.trial_classes` names.
    """
    check_references(settings)
    check_columns(splits, shards=shards, settings=settings)
    gate = Gate(splits=splits, shards=shards, windows=windows, allow_overlap=settings.allow_overlap)
    for number in range(len(splits.folds)):
        gate.check_fold(number, Predictor.load(models / f"fold-{number}", strict=False))
    parts: list[_Part] = []
    pairs: list[Sequence[Pair]] = []
    untaken: set[tuple[str, str, str]] = set()
    for fold in range(len(splits.folds)):
        loaded = load_views(splits, fold=fold, shards=shards, decoded=False)
        parts += _parts(loaded, fold, whole={name for name, by in splits.left_out_by.items() if by == DATASET})
        pairs.append(pairs_of(loaded))
        untaken |= not_decoded(loaded, settings.decode)
    sys.stderr.write(not_decoded_said(untaken))
    one = partial(_score_part, splits=splits, shards=shards, models=models, settings=settings, windows=windows)
    found = Found.empty(settings)
    with Progressing("evaluate", total=sum(part.scored for part in parts), unit="recordings") as progress:
        each_mb = max((part.most_mb for part in parts), default=0.0)
        for part, own in zip(parts, side_by_side(one, parts, workers=workers, each_mb=each_mb), strict=True):
            found.join(own)
            progress.advance(part.scored, note=part.names[0])
    sys.stderr.write(not_classified_said(found.unclassified))
    _retrieve(pairs, models=models, settings=settings, windows=windows, found=found)
    for number, held_out in enumerate(splits.folds):
        with threadpool_limits(1):
            scores, seconds = trial_scores(held_out, shards=shards, number=number, settings=settings)
        found.scores.extend(scores)
        for key, spent in seconds.items():
            found.seconds[key] += spent
    gate.leaks.extend(found.leaks)
    folds, left_out = len(splits.folds), left_out_of(splits)
    rows = make_rows(found.scores, folds=folds, settings=settings, left_out=left_out)
    rows = gate.labelled((*rows, *found.traits.rows(folds=folds, left_out=left_out)))
    predictions = found.traits.predictions()
    differences = compare(rows, scores=found.scores, traits=predictions, settings=settings)
    return Scoreboard(
        rows=rows,
        timings=_nested(found.seconds),
        examples=_chosen(found.examples, rows=rows),
        differences=differences,
        findings=Findings(
            confusions=confusions_of(differences, scores=found.scores, traits=predictions),
            embeddings=_embeddings(splits, shards=shards, models=models, settings=settings, windows=windows),
            tunings=found.tunings.finish(),
            connectomes=found.connectomes.finish(),
        ),
        few_shot=gate.labelled(found.few_shot.rows()),
        calibration=gate.labelled(found.calibration.rows()),
    )


def _embeddings(
    splits: Splits, *, shards: Path, models: Path, settings: EvaluateSettings, windows: WindowsSettings
) -> tuple[Embedding, ...]:
    """Embed windows of the first fold: models of two folds do not share their axes."""
    chosen = chosen_views(load_views(splits, fold=0, shards=shards, decoded=False))
    predictor = Predictor.load(models / "fold-0", strict=False)
    known = read_attributes(chosen, shards=shards)
    with threadpool_limits(1):
        return embed(chosen, predictor, known, fold=0, settings=settings, windows=windows)


def _retrieve(
    pairs: Sequence[Sequence[Pair]],
    *,
    models: Path,
    settings: EvaluateSettings,
    windows: WindowsSettings,
    found: Found,
) -> None:
    """Task `retrieval` of every fold, where recordings were made at once."""
    for fold, own in enumerate(pairs):
        if own:
            predictor = Predictor.load(models / f"fold-{fold}", strict=False)
            with threadpool_limits(1):
                scores, seconds = retrieve(own, encode=predictor.encode, settings=settings, windows=windows)
            found.scores.extend(scores)
            for key, spent in seconds.items():
                found.seconds[key] += spent


def _parts(loaded: Sequence[RecordingView], fold: int, *, whole: Collection[str]) -> list[_Part]:
    """Group the recordings of a fold by channel set; `whole` are datasets that some fold leaves out whole."""
    expected = {
        modality: mean_elsewhere(loaded, modality)
        for modality in {view.modality for view in loaded if view.roles.test and view.dataset in whole}
    }
    return [
        _Part(
            fold=fold,
            names=tuple(view.name for view in views),
            scored=sum(bool(view.roles.test) for view in views),
            values=sum(len(view.valid) * len(view.channel_ids) for view in views),
            elsewhere=expected.get(views[0].modality),
        )
        for views in channel_sets(loaded)
    ]


def _score_part(
    part: _Part, *, splits: Splits, shards: Path, models: Path, settings: EvaluateSettings, windows: WindowsSettings
) -> Found:
    """Run all tasks on one part."""
    views = load_views(splits, fold=part.fold, shards=shards, names=frozenset(part.names))
    gate = Gate(splits=splits, shards=shards, windows=windows, allow_overlap=settings.allow_overlap)
    gate.check_views(part.fold, views)
    predictor = Predictor.load(models / f"fold-{part.fold}", strict=False)
    found = Found.empty(settings)
    found.leaks.extend(gate.leaks)
    attributes = read_attributes(views, shards=shards) if settings.traits else {}
    window = windows.of(views[0].modality)
    # On matrices this small more threads only wait for each other, and reorder sums.
    with threadpool_limits(1):
        evaluate_set(views, predictor, fold=part.fold, settings=settings, windows=windows, found=found)
        seconds = found.traits.add(views, attributes, encode=predictor.encode, window_samples=window.window_samples)
        found.seconds.update(seconds)
        if settings.few_shot:
            learned = found.few_shot.add(views, predictor, attributes=attributes, window=window, fold=part.fold)
            found.seconds.update(learned)
        ours = [Neurofm(predictor, core_only=True), Neurofm(predictor)]
        found.calibration.add(views, ours=ours, window_samples=window.window_samples, elsewhere=part.elsewhere)
    return found


def _chosen(examples: dict[str, Example], *, rows: Sequence[Row]) -> tuple[Example, ...]:
    """Keep our reconstruction and that of the best baseline of those that the recording has."""
    chosen = []
    for dataset, example in sorted(examples.items()):
        there = [row for row in rows if row.model in example.reconstructions]
        chosen.append(example.only([OURS, best_baseline(there, dataset=dataset, task=TASK, metric="R2").model]))
    return tuple(chosen)


def _nested(seconds: dict[tuple[str, str, str], float]) -> dict[str, dict[str, dict[str, float]]]:
    nested: dict[str, dict[str, dict[str, float]]] = {}
    for (dataset, task, model), spent in sorted(seconds.items()):
        nested.setdefault(dataset, {}).setdefault(task, {})[model] = round(spent, 3)
    return nested
