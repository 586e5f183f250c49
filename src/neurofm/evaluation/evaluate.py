"""Evaluate: every model on every fold's held-out data, fold by fold and channel set by channel set."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.attributes import read_attributes
from neurofm.evaluation.audit import audit_fold
from neurofm.evaluation.baselines import baselines_for
from neurofm.evaluation.classification import classify
from neurofm.evaluation.decoding import decode
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.examples import Example, take_example
from neurofm.evaluation.masked import TASK, Floats, reconstruct, score
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.patches import fill_set
from neurofm.evaluation.references import embeddings_for, references_for
from neurofm.evaluation.row import OURS, Row
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.scoreboard import Scoreboard, best_baseline, make_rows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.traits import TraitTask
from neurofm.progress import Progressing
from neurofm.splits import Splits
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, WindowsSettings, load_views


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is gathered on the way."""

    scores: list[TileScores] = field(default_factory=list)
    examples: dict[str, Example] = field(default_factory=dict)
    """The first per dataset, with the reconstructions of all models."""
    seconds: defaultdict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))
    """CPU seconds by dataset, task and model."""


def evaluate(
    splits: Splits, *, shards: Path, models: Path, settings: EvaluateSettings, windows: WindowsSettings
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

    Raises
    ------
    UserError
        If anything scored was learned from (`audit_fold`), or a model is missing or damaged.
    """
    predictors = [Predictor.load(models / f"fold-{number}", strict=False) for number in range(len(splits.folds))]
    for number, (fold, predictor) in enumerate(zip(splits.folds, predictors, strict=True)):
        audit_fold(fold, number=number, windows=windows, trained_on=predictor.trained_on)
    found, traits = _Found(), TraitTask(settings=settings)
    scored = sum(bool(entry.test) for fold in splits.folds for entry in fold.recordings)
    # On matrices this small more threads only wait for each other, and reorder sums.
    with Progressing("evaluate", total=scored, unit="recordings") as progress, threadpool_limits(1):
        for number, predictor in enumerate(predictors):
            loaded = load_views(splits, fold=number, shards=shards)
            large = {view.dataset for view in loaded if len(view.channel_ids) > settings.glm_most_units}
            for views in channel_sets(loaded):
                # Some recordings of a dataset without it would make its score one of the others only.
                glm = views[0].dataset not in large
                _evaluate_set(views, predictor, fold=number, settings=settings, windows=windows, found=found, glm=glm)
                if settings.traits:
                    attributes = read_attributes(views, shards=shards)
                    window = windows.of(views[0].modality).window_samples
                    found.seconds.update(traits.add(views, attributes, encode=predictor.encode, window_samples=window))
                progress.advance(sum(bool(view.roles.test) for view in views), note=views[0].name)
    rows = make_rows(found.scores, folds=len(splits.folds), settings=settings)
    rows = (*rows, *traits.rows(folds=len(splits.folds)))
    return Scoreboard(rows=rows, timings=_nested(found.seconds), examples=_chosen(found.examples, rows=rows))


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
    glm: bool,
) -> None:
    """Run all tasks on the recordings of one channel set."""
    window = windows.of(views[0].modality)
    estimators: list[Estimator] = [
        *baselines_for(
            views[0].modality,
            recordings=len(views),
            settings=settings,
            window_samples=window.window_samples,
            glm=glm,
        ),
        *references_for(views[0].modality, settings=settings, window_samples=window.window_samples),
        Neurofm(predictor),
        Neurofm(predictor, core_only=True),
    ]
    _reconstruct_set(views, estimators, fold=fold, settings=settings, window_samples=window.window_samples, found=found)
    filled, cost = fill_set(views, predictor, settings=settings, window_samples=window.window_samples)
    found.scores.extend(filled)
    for key, share in cost.items():
        found.seconds[key] += share
    for view in views:
        if view.roles.kind != "time" or not view.roles.test:
            continue
        for target in settings.decode:
            if target in view.targets:
                scores, seconds = decode(
                    view,
                    target,
                    encode=predictor.encode,
                    settings=settings,
                    window_samples=window.window_samples,
                    patch_samples=window.patch_samples,
                    embeddings=embeddings_for(settings, patch_samples=window.patch_samples),
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
    _, tuning = learning_windows(views, window_samples=window_samples)
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
    """Keep our reconstruction and that of the best baseline."""
    return tuple(
        example.only([OURS, best_baseline(rows, dataset=dataset, task=TASK, metric="R2").model])
        for dataset, example in sorted(examples.items())
    )


def _nested(seconds: dict[tuple[str, str, str], float]) -> dict[str, dict[str, dict[str, float]]]:
    nested: dict[str, dict[str, dict[str, float]]] = {}
    for (dataset, task, model), spent in sorted(seconds.items()):
        nested.setdefault(dataset, {}).setdefault(task, {})[model] = round(spent, 3)
    return nested
