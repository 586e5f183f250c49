"""Evaluate: every model on every fold's held-out data, fold by fold and channel set by channel set."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.attributes import read_attributes
from neurofm.evaluation.audit import Leak
from neurofm.evaluation.baselines import baselines_for
from neurofm.evaluation.calibration import CalibrationTask, mean_elsewhere
from neurofm.evaluation.classification import classify
from neurofm.evaluation.comparisons import compare
from neurofm.evaluation.confusions import confusions_of
from neurofm.evaluation.connectomes import Connectomes
from neurofm.evaluation.decoding import decode, is_decoded, not_decoded, not_decoded_said
from neurofm.evaluation.embeddings import chosen_views, embed
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.examples import Example, take_example
from neurofm.evaluation.few_shot_task import FewShotTask
from neurofm.evaluation.findings import Embedding, Findings
from neurofm.evaluation.folds import left_out_of
from neurofm.evaluation.forward import foretell_set
from neurofm.evaluation.gate import Gate
from neurofm.evaluation.masked import TASK, Floats, reconstruct, score
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.patches import fill_set
from neurofm.evaluation.references import References, check_references
from neurofm.evaluation.retrieval import retrieve
from neurofm.evaluation.row import OURS, Row
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.scoreboard import Scoreboard, best_baseline, make_rows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.traits import TraitTask
from neurofm.evaluation.trial_task import check_columns, trial_scores
from neurofm.evaluation.tunings import Tunings
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
class _Found:
    """What is gathered on the way."""

    connectomes: Connectomes
    traits: TraitTask
    few_shot: FewShotTask
    calibration: CalibrationTask
    tunings: Tunings = field(default_factory=Tunings)
    scores: list[TileScores] = field(default_factory=list)
    examples: dict[str, Example] = field(default_factory=dict)
    """The first per dataset, with the reconstructions of all models."""
    seconds: defaultdict[tuple[str, str, str], float] = field(default_factory=partial(defaultdict, float))
    """CPU seconds by dataset, task and model."""
    leaks: list[Leak] = field(default_factory=list)
    """What is normalised from other samples than it may be, where that is allowed."""

    @classmethod
    def empty(cls, settings: EvaluateSettings) -> _Found:
        """Return where nothing is found yet."""
        return cls(
            connectomes=Connectomes(settings=settings),
            traits=TraitTask(settings=settings),
            few_shot=FewShotTask(settings=settings),
            calibration=CalibrationTask(settings=settings),
        )

    def join(self, other: _Found) -> None:
        """Add what another part found; of examples the first of a dataset stays."""
        self.connectomes.join(other.connectomes)
        self.tunings.join(other.tunings)
        self.traits.join(other.traits)
        self.few_shot.join(other.few_shot)
        self.calibration.join(other.calibration)
        self.scores.extend(other.scores)
        self.leaks.extend(other.leaks)
        for dataset, example in other.examples.items():
            self.examples.setdefault(dataset, example)
        for key, spent in other.seconds.items():
            self.seconds[key] += spent


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
    found = _Found.empty(settings)
    with Progressing("evaluate", total=sum(part.scored for part in parts), unit="recordings") as progress:
        each_mb = max((part.most_mb for part in parts), default=0.0)
        for part, own in zip(parts, side_by_side(one, parts, workers=workers, each_mb=each_mb), strict=True):
            found.join(own)
            progress.advance(part.scored, note=part.names[0])
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
    found: _Found,
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
) -> _Found:
    """Run all tasks on one part."""
    views = load_views(splits, fold=part.fold, shards=shards, names=frozenset(part.names))
    gate = Gate(splits=splits, shards=shards, windows=windows, allow_overlap=settings.allow_overlap)
    gate.check_views(part.fold, views)
    predictor = Predictor.load(models / f"fold-{part.fold}", strict=False)
    found = _Found.empty(settings)
    found.leaks.extend(gate.leaks)
    attributes = read_attributes(views, shards=shards) if settings.traits else {}
    window = windows.of(views[0].modality)
    # On matrices this small more threads only wait for each other, and reorder sums.
    with threadpool_limits(1):
        _evaluate_set(views, predictor, fold=part.fold, settings=settings, windows=windows, found=found)
        seconds = found.traits.add(views, attributes, encode=predictor.encode, window_samples=window.window_samples)
        found.seconds.update(seconds)
        if settings.few_shot:
            learned = found.few_shot.add(views, predictor, attributes=attributes, window=window, fold=part.fold)
            found.seconds.update(learned)
        ours = [Neurofm(predictor, core_only=True), Neurofm(predictor)]
        found.calibration.add(views, ours=ours, window_samples=window.window_samples, elsewhere=part.elsewhere)
    return found


def channel_sets(views: Sequence[RecordingView]) -> list[list[RecordingView]]:
    """Group the views by channel set; sets of which nothing is scored are left out."""
    sets: defaultdict[str, list[RecordingView]] = defaultdict(list)
    for view in views:
        sets[view.channel_set].append(view)
    return [sets[name] for name in sorted(sets) if any(view.roles.test for view in sets[name])]


def _evaluate_set(
    views: Sequence[RecordingView],
    predictor: Predictor,
    *,
    fold: int,
    settings: EvaluateSettings,
    windows: WindowsSettings,
    found: _Found,
) -> None:
    """Run all tasks on the recordings of one channel set."""
    window = windows.of(views[0].modality)
    references = References.of(views, settings=settings, window=window)
    estimators: list[Estimator] = [
        *baselines_for(
            views[0].modality, recordings=len(views), settings=settings, window_samples=window.window_samples
        ),
        *references.estimators,
        Neurofm(predictor, settings=settings),
        Neurofm(predictor, core_only=True, settings=settings),
    ]
    _reconstruct_set(views, estimators, fold=fold, settings=settings, window_samples=window.window_samples, found=found)
    # What it cost to train them is with whole channels.
    filled, cost = fill_set(
        views, predictor, settings=settings, window_samples=window.window_samples, trained=references.fillers
    )
    foretold, spent_on_it = foretell_set(views, predictor, settings=settings, window=window)
    found.scores.extend((*filled, *foretold))
    for key, share in (*cost.items(), *spent_on_it.items()):
        found.seconds[key] += share
    for view in views:
        for target in settings.decode:
            if is_decoded(view, target):
                scores, seconds = decode(
                    view,
                    target,
                    encode=predictor.encode,
                    settings=settings,
                    window_samples=window.window_samples,
                    patch_samples=window.patch_samples,
                    keep=found.tunings.add,
                    embeddings=references.embeddings,
                    decoders=references.decoders,
                )
                found.scores.extend(scores)
                for model, spent in seconds.items():
                    found.seconds[view.dataset, f"decoding:{target}", model] += spent
    for target in settings.classify:
        scores, seconds = classify(
            views, target, encode=predictor.encode, settings=settings, window_samples=window.window_samples
        )
        found.scores.extend(scores)
        datasets = sorted({score.roles.dataset for score in scores})
        for dataset, (model, spent) in product(datasets, seconds.items()):
            found.seconds[dataset, f"classification:{target}", model] += spent / len(datasets)


def _reconstruct_set(
    views: Sequence[RecordingView],
    estimators: Sequence[Estimator],
    *,
    fold: int,
    settings: EvaluateSettings,
    window_samples: int,
    found: _Found,
) -> None:
    """Task `masked_reconstruction` on the recordings of one channel set."""
    tests = [cut(view, view.roles.test, window_samples=window_samples) for view in views]
    tests = [test for test in tests if test.counted.any()]
    datasets = sorted({test.view.dataset for test in tests})
    fit, tuning = learning_windows(views, window_samples=window_samples)
    found.connectomes.add_training(tests, fit)
    predicted: dict[str, dict[str, Floats]] = defaultdict(dict)
    for estimator in estimators:
        started = time.process_time()
        estimator.fit(views)
        fitted = time.process_time() - started
        for test in tests:
            started = time.process_time()
            z = reconstruct(estimator, test, settings=settings)
            own = [part for part in tuning if part.view.name == test.view.name]
            found.scores.extend(score(estimator, test, z, tuning=own, settings=settings))
            predicted[test.view.name][estimator.name] = z[:1]
            found.connectomes.add(test, z, model=estimator.name)
            found.seconds[test.view.dataset, TASK, estimator.name] += time.process_time() - started
        for dataset in datasets:
            # A channel set may span datasets: its fit is shared between them.
            found.seconds[dataset, TASK, estimator.name] += fitted / len(datasets)
    _keep_examples(tests, predicted, fold=fold, settings=settings, found=found)


def _keep_examples(
    tests: Sequence[Windows],
    predicted: dict[str, dict[str, Floats]],
    *,
    fold: int,
    settings: EvaluateSettings,
    found: _Found,
) -> None:
    for test in tests:
        if test.view.dataset not in found.examples:
            found.examples[test.view.dataset] = take_example(
                test, predicted[test.view.name], fold=fold, settings=settings
            )


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
