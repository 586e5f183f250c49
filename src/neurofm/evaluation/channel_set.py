"""Channel set: recordings of the same channels, which are fitted on and scored together in a fold."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from neurofm.evaluation.baselines import baselines_for
from neurofm.evaluation.classification import classify, not_classified
from neurofm.evaluation.decoding import decode, is_decoded
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.examples import take_example
from neurofm.evaluation.forward import foretell_set
from neurofm.evaluation.found import Found
from neurofm.evaluation.masked import TASK, Floats, reconstruct, score
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.patches import fill_set
from neurofm.evaluation.references import References
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, WindowsSettings


def channel_sets(views: Sequence[RecordingView]) -> list[list[RecordingView]]:
    """Group the views by channel set; sets of which nothing is scored are left out."""
    sets: defaultdict[str, list[RecordingView]] = defaultdict(list)
    for view in views:
        sets[view.channel_set].append(view)
    return [sets[name] for name in sorted(sets) if any(view.roles.test for view in sets[name])]


def evaluate_set(
    views: Sequence[RecordingView],
    predictor: Predictor,
    *,
    fold: int,
    settings: EvaluateSettings,
    windows: WindowsSettings,
    found: Found,
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
        found.unclassified.update(not_classified(views, target, scores))
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
    found: Found,
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
    found: Found,
) -> None:
    for test in tests:
        if test.view.dataset not in found.examples:
            found.examples[test.view.dataset] = take_example(
                test, predicted[test.view.name], fold=fold, settings=settings
            )
