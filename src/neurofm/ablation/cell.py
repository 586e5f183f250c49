"""Cell: one variant is trained on a fold's training data and scored on what the fold holds out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.ablation.result import CellResult, by_unit
from neurofm.ablation.settings import PARAMS
from neurofm.evaluation.channel_set import channel_sets
from neurofm.evaluation.folds import check_folds
from neurofm.evaluation.gate import Gate
from neurofm.evaluation.masked import reconstruct, score
from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.patches import fill_set
from neurofm.evaluation.row import OURS
from neurofm.evaluation.samples import cut, learning_windows
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.splits import Splits
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain_all_folds
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings, load_views


def run_cell(
    cell: str,
    *,
    splits: Splits,
    fold: int,
    shards: Path,
    pretrain: PretrainSettings,
    windows: WindowsSettings,
    evaluate: EvaluateSettings,
    work: Path,
) -> CellResult:
    """Train one fold's model and score whole channels, and patches and blocks where the base learns them.

    What is hidden in the test is the same for all cells and seeds: it depends on `evaluate.seed` alone.

    Parameters
    ----------
    cell
        Its name, for the result.
    splits, fold
        Who is learned from and who is held out.
    shards
        ``data/shards``.
    pretrain
        What the cell trains with, its seed among it.
    windows, evaluate
        Of params.yaml, the same for all cells.
    work
        Keeps the state of the training, so that what was interrupted goes on, and the model until it is scored.

    Raises
    ------
    UserError
        If there is no such fold, or anything scored was learned from (`Gate`).
    UserError, Stopped
        As `pretrain_all_folds` and `Predictor.load` do.
    """
    check_folds(splits, [fold], where=f"{PARAMS}: `fold`")
    only = splits.model_copy(update={"folds": splits.folds[fold : fold + 1]})
    models = work / "models" / f"{cell}-{pretrain.seed}"
    trained = pretrain_all_folds(
        only,
        shards=shards,
        settings=pretrain,
        windows=windows,
        runs=work / "runs",
        out=models,
        workers=1,
    )["folds"][0]
    predictor = Predictor.load(models / "fold-0", strict=False)
    gate = Gate(splits=only, shards=shards, windows=windows, allow_overlap=False)
    gate.check_fold(0, predictor)
    with threadpool_limits(1):
        loaded = load_views(only, fold=0, shards=shards)
        gate.check_views(0, loaded)
        scores = [
            found
            for views in channel_sets(loaded)
            for found in _scored(views, predictor, settings=evaluate, windows=windows)
        ]
    shutil.rmtree(models)
    return CellResult(
        cell=cell,
        seed=pretrain.seed,
        steps=trained["steps"],
        best_step=trained["best_step"],
        parameters=trained["parameters"],
        residual_gain=trained["residual_gain"],
        scores=by_unit(scores),
    )


def _scored(
    views: list[RecordingView], predictor: Predictor, *, settings: EvaluateSettings, windows: WindowsSettings
) -> Iterator[TileScores]:
    """Score the recordings of one channel set."""
    samples = windows.of(views[0].modality).window_samples
    _, tuning = learning_windows(views, window_samples=samples)
    ours = Neurofm(predictor)
    ours.fit(views)
    for view in views:
        test = cut(view, view.roles.test, window_samples=samples)
        if test.counted.any():
            own = [part for part in tuning if part.view.name == view.name]
            predicted = reconstruct(ours, test, settings=settings)
            yield from score(ours, test, predicted, tuning=own, settings=settings)
    filled, _ = fill_set(views, predictor, settings=settings, window_samples=samples, baselines=False)
    yield from (one for one in filled if one.model == OURS)
