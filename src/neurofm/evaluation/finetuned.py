"""Finetuned models on what their folds hold out, beside the models that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.evaluation.baselines import Null, ridge
from neurofm.evaluation.channel_set import channel_sets
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.folds import left_out_of
from neurofm.evaluation.gate import Gate
from neurofm.evaluation.masked import reconstruct, score
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.row import OURS
from neurofm.evaluation.samples import cut, learning_windows
from neurofm.evaluation.scoreboard import make_rows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.splits import Splits
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, WindowsSettings, load_views

FINETUNED = "neurofm-finetuned"


def score_finetuned(
    splits: Splits,
    *,
    folds: Sequence[int],
    datasets: Sequence[str],
    shards: Path,
    before: Path,
    after: Path,
    settings: EvaluateSettings,
    windows: WindowsSettings,
) -> dict[str, Any]:
    """Score masked reconstruction of held-out data by the models of some folds, before and after they learned on.

    Parameters
    ----------
    splits
        Folds and roles.
    folds, datasets
        Which were learned on, and from what.
    shards
        ``data/shards``.
    before, after
        Folders with ``fold-<n>`` per fold.
    settings, windows
        Of params.yaml.

    Returns
    -------
    Plain data: by dataset and metric, ``split`` and ``n``, and per model (``null``, ``ridge``,
    ``neurofm``, ``neurofm-finetuned``) its ``value`` and 95 % interval, `make_rows`. Nothing of datasets without test
    segments.

    Raises
    ------
    UserError
        If anything scored was learned from (`Gate`), or a model is missing or damaged.
    """
    found: list[TileScores] = []
    gate = Gate(splits=splits, shards=shards, windows=windows, allow_overlap=settings.allow_overlap)
    with threadpool_limits(1):
        for fold in folds:
            models = {
                name: Predictor.load(folder / f"fold-{fold}", strict=False)
                for name, folder in ((OURS, before), (FINETUNED, after))
            }
            gate.check_fold(fold, models[FINETUNED])
            loaded = load_views(splits, fold=fold, shards=shards, datasets=datasets)
            gate.check_views(fold, loaded)
            for views in channel_sets(loaded):
                found += _scored(views, models, settings=settings, windows=windows)
    told: dict[str, Any] = {}
    left_out = left_out_of(splits, folds=folds)
    for row in gate.labelled(make_rows(found, folds=len(folds), settings=settings, left_out=left_out)):
        metric = told.setdefault(row.dataset, {}).setdefault(row.metric, {"split": row.split, "n": row.n})
        metric[row.model] = {"value": row.value, "ci_low": row.ci_low, "ci_high": row.ci_high}
        if row.leak:
            metric[row.model]["leak"] = row.leak
    return told


def _scored(
    views: Sequence[RecordingView],
    models: dict[str, Predictor],
    *,
    settings: EvaluateSettings,
    windows: WindowsSettings,
) -> list[TileScores]:
    """Score the recordings of one channel set."""
    samples = windows.of(views[0].modality).window_samples
    _, tuning = learning_windows(views, window_samples=samples)
    estimators: list[Estimator] = [
        Null(),
        ridge(settings=settings, window_samples=samples),
        *(Neurofm(predictor, name=name) for name, predictor in models.items()),
    ]
    found = []
    for estimator in estimators:
        estimator.fit(views)
        for view in views:
            test = cut(view, view.roles.test, window_samples=samples)
            if test.counted.any():
                own = [part for part in tuning if part.view.name == view.name]
                predicted = reconstruct(estimator, test, settings=settings)
                found += score(estimator, test, predicted, tuning=own, settings=settings)
    return found
