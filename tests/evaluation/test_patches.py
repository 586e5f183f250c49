"""Hidden patches and blocks of real fMRI are scored beside their baselines, on persons that nobody has seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurofm.evaluation.baselines import GaussianCalibrated
from neurofm.evaluation.baselines.stationary import Choice, Grid, Stationary, stationary_baselines
from neurofm.evaluation.patches import Puzzle, fill, fill_set, judging_windows, tune
from neurofm.evaluation.references.brainlm import BrainLMReference
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.scoreboard import make_rows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings
from tests.evaluation.conftest import SETTINGS, Roles, spans, view_of
from tests.evaluation.test_evaluate import PRETRAIN

ROLES = ["train"] * 4 + ["validation", "test", "test"]
WINDOW, PATCH = 40, 8
CHOSEN = EvaluateSettings.parse(SETTINGS | {"shrinkages": [0.02, 0.2]}, where="", mend="")


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """Every second ROI of seven persons."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[: len(ROLES)]
    made = []
    for file, role in zip(files, ROLES, strict=True):
        spans: Roles = {"train": [(0, 168)]} if role == "train" else {role: [(48, 168)]}
        made.append(
            view_of(
                np.load(file).astype(np.float64)[:, ::2],
                modality=Modality.FMRI,
                name=file.name.partition("_")[0],
                channel_set="fmri-basc064",
                kind="subject",
                calibration=[(0, 168 if role == "train" else 48)],
                **spans,
            )
        )
    return made


@pytest.fixture(scope="module")
def predictor(views: list[RecordingView], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """An untrained network on its cores, which knows patches and blocks."""
    at = tmp_path_factory.mktemp("patches")
    sections = {str(m): {"window_samples": WINDOW, "patch_samples": PATCH} for m in Modality}
    masks = MaskShares.parse({"fmri": {"channels": 1, "patches": 1, "block": 1}}, where="", mend="")
    settings: PretrainSettings = PRETRAIN.model_copy(update={"masks": masks, "steps": 0, "validation_windows": 1})
    pretrain(
        views,
        settings=settings,
        windows=WindowsSettings.parse(sections, where="", mend=""),
        fold=0,
        run_dir=at / "run",
        out_dir=at / "out",
    )
    return Predictor.load(at / "out", strict=False)


def test_every_model_is_scored_and_the_core_is_best(predictor: Predictor, views: list[RecordingView]) -> None:
    scores, seconds = fill_set(views, predictor, settings=CHOSEN, window_samples=WINDOW)
    rows = make_rows(scores, folds=1, settings=CHOSEN)
    values = {(row.task, row.model): row.value for row in rows if row.metric == "R2"}
    alike = {(row.task, row.model): row.value for row in rows if row.metric == "correlation"}
    models = ["gaussian", "gaussian_calibrated", "neurofm", "neurofm-core", "null"]
    models += ["stat", "stat_calibrated", "stat_own"]
    assert sorted(values) == [(task, model) for task in ("hidden_block", "hidden_patches") for model in models]
    assert {(row.n, row.ci_unit, row.metric) for row in rows} == {(2, "subject", one) for one in ("R2", "correlation")}
    assert alike.keys() == values.keys()
    assert alike["hidden_patches", "neurofm-core"] > 0.5 > alike["hidden_patches", "null"] == 0
    assert set(seconds) == {("fmri", *key) for key in values}
    patches = {model: values["hidden_patches", model] for model in models}
    best = max(patches["gaussian_calibrated"], patches["stat_calibrated"])
    assert patches["neurofm-core"] > best > patches["null"]
    assert patches["neurofm-core"] == patches["neurofm"]
    assert max(values["hidden_block", one] for one in ("null", "gaussian")) <= 0
    again, _ = fill_set(views, predictor, settings=CHOSEN, window_samples=WINDOW)
    assert make_rows(again, folds=1, settings=CHOSEN) == rows


def test_the_network_counts_where_it_has_a_gain(predictor: Predictor, views: list[RecordingView]) -> None:
    changed = Predictor(
        replace(predictor.checkpoint, gains=predictor.checkpoint.gains | {"fmri patches": 1.0}), strict=False
    )
    with torch.no_grad():
        for weights in changed.checkpoint.network.heads.parameters():
            weights.add_(0.1)
    rows = make_rows(fill_set(views, changed, settings=CHOSEN, window_samples=WINDOW)[0], folds=1, settings=CHOSEN)
    values = {(row.task, row.model): row.value for row in rows}
    assert values["hidden_patches", "neurofm"] != values["hidden_patches", "neurofm-core"]
    assert values["hidden_block", "neurofm"] == values["hidden_block", "neurofm-core"]


def test_a_model_that_is_trained_already_fills_in_too(predictor: Predictor, views: list[RecordingView]) -> None:
    made = BrainLMReference(steps=1, settings=CHOSEN, window_samples=WINDOW, patch_samples=PATCH)
    made.fit(views)
    scores, seconds = fill_set(
        views, predictor, settings=CHOSEN, window_samples=WINDOW, baselines=False, trained=[made]
    )
    tasks, models = ("hidden_block", "hidden_patches"), ("brainlm", "neurofm", "neurofm-core")
    assert {(score.task, score.model) for score in scores} == set(product(tasks, models))
    assert set(seconds) == set(product(["fmri"], tasks, models))


def test_a_model_of_whole_channels_is_not_asked(predictor: Predictor, views: list[RecordingView]) -> None:
    plain = Predictor(replace(predictor.checkpoint, gains=dict.fromkeys(Modality, 0.0)), strict=False)
    assert fill_set(views, plain, settings=CHOSEN, window_samples=WINDOW) == ([], {})


def test_baselines_know_nothing_of_what_is_hidden_or_scored(views: list[RecordingView]) -> None:
    fit, _ = learning_windows(views, window_samples=WINDOW)
    view = views[-1]
    stored = view.stored[:].copy()
    stored[48:] = 99
    changed = replace(view, stored=stored)
    z = np.stack([view.z(48, 88)])
    shown = np.random.default_rng(0).random((1, WINDOW // PATCH, z.shape[-1])) > 0.5
    hidden = ~np.repeat(shown, PATCH, axis=1)
    valid = np.ones((1, WINDOW), dtype=bool)
    for baseline in stationary_baselines(fit, recordings=2, window_samples=WINDOW):
        filled = baseline.fill(view, np.where(hidden, np.float32(0), z), shown, valid)
        other = baseline.fill(replace(changed, recording="x"), np.where(hidden, np.float32(7), z), shown, valid)
        np.testing.assert_array_equal(filled[~hidden], z[~hidden])
        if isinstance(baseline, Stationary):
            np.testing.assert_array_equal(other, filled)


def test_the_stationary_process_finds_a_separable_one() -> None:
    """Each of few latents has the same rhythm, so that the spectra between pairs of channels are hardly known."""
    rng = np.random.default_rng(5)
    times, channels = 700, 16
    latent = np.zeros((times, 4))
    for at in range(1, times):
        latent[at] = 0.8 * latent[at - 1] + rng.standard_normal(4)
    values = latent @ rng.standard_normal((4, channels)) + 0.1 * rng.standard_normal((times, channels))
    view = view_of(values, modality=Modality.FMRI, train=[(0, 240)], validation=[(240, 400)], test=[(400, 700)])
    fit, tuning = learning_windows([view], window_samples=WINDOW)
    test = cut(view, view.roles.test, window_samples=WINDOW)
    block = np.ones((len(test), WINDOW // PATCH, channels), dtype=np.bool_)
    block[:, 2] = False
    masks = {"patches": rng.random(block.shape) > 0.5, "block": block}
    found: dict[str, dict[str, float]] = {}
    for kind, shown in masks.items():
        judges = [puzzle_of(part, shown[: len(part)]) for part in judging_windows(tuning)]
        puzzle = puzzle_of(test, shown)
        found[kind] = {}
        for filler in stationary_baselines(fit, recordings=1, window_samples=WINDOW):
            tune(filler, judges, settings=CHOSEN)
            gain, total = puzzle.squares(fill(filler, puzzle))
            found[kind][filler.name] = float(gain.sum() / total.sum())
            assert filler.converged
    assert found["patches"]["stat"] >= found["patches"]["gaussian"]
    assert found["block"]["stat"] > found["block"]["gaussian"] + 0.05


def test_rivals_of_a_channel_set_never_learned_from_are_not_tuned_on_what_they_know(predictor: Predictor) -> None:
    """Of noise nothing can be filled in: whoever judges it by its own covariance believes in too much of it."""
    rng = np.random.default_rng(4)
    views = [
        view_of(
            rng.standard_normal((400, 16)),
            modality=Modality.FMRI,
            name=f"r{number}",
            channel_set="new",
            kind="subject",
            calibration=[(0, 120)],
            test=[(140, 400)],
        )
        for number in range(2)
    ]
    settings = EvaluateSettings.parse(SETTINGS | {"shrinkages": [0.02, 0.5, 0.98]}, where="", mend="")
    scores, _ = fill_set(views, predictor, settings=settings, window_samples=WINDOW)
    rows = make_rows(scores, folds=1, settings=settings)
    values = {(row.task, row.model): row.value for row in rows if row.metric == "R2"}
    for model in ("stat_own", "stat_calibrated", "gaussian_calibrated"):
        assert values["hidden_patches", model] > -0.02, model
    whole_channels = GaussianCalibrated(settings=settings, window_samples=WINDOW)
    whole_channels.fit(views)
    assert whole_channels.shrinkage == 0.98


def test_what_was_tuned_on_a_part_of_a_calibration_is_filled_in_from_all_of_it(views: list[RecordingView]) -> None:
    fit, _ = learning_windows(views, window_samples=WINDOW)
    view = views[-1]
    known = cut(view, view.roles.test, window_samples=WINDOW)
    shorter = replace(view, roles=view.roles.model_copy(update={"calibration": spans([(0, 20)])}))
    shown = np.random.default_rng(1).random((len(known), WINDOW // PATCH, known.z.shape[-1])) > 0.5
    fresh, used = (
        {one.name: one for one in stationary_baselines(fit, recordings=2, window_samples=WINDOW)} for _ in range(2)
    )
    for name in ("stat_own", "stat_calibrated", "gaussian_calibrated"):
        short = fill(used[name], puzzle_of(replace(known, view=shorter), shown))
        filled = fill(used[name], puzzle_of(known, shown))
        np.testing.assert_array_equal(filled, fill(fresh[name], puzzle_of(known, shown)))
        assert not np.array_equal(short, filled)


class _Tempting:
    """A filler that knows the answer with the setting that does not converge, and half of it with the other."""

    name = "tempting"

    def __init__(self, truth: npt.NDArray[np.float64]) -> None:
        self.truth, self.chosen, self.converged = truth, Choice(shrinkage=0.1), False

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        del settings
        return [[{"shrinkage": 0.1}, {"shrinkage": 0.5}]]

    def choose(self, choice: Choice) -> None:
        self.chosen, self.converged = choice, choice.shrinkage == 0.5

    def fill(self, view: RecordingView, z: object, shown: object, valid: object) -> npt.NDArray[np.float64]:
        del view, z, shown, valid
        return self.truth if not self.converged else 0.5 * self.truth


def test_what_does_not_converge_is_not_chosen(views: list[RecordingView]) -> None:
    part = learning_windows(views, window_samples=WINDOW)[1][0].take(slice(0, 1))
    shown = np.random.default_rng(1).random((1, WINDOW // PATCH, part.z.shape[-1])) > 0.5
    filler = _Tempting(part.z.astype(np.float64))
    tune(filler, [puzzle_of(part, shown)], settings=CHOSEN)
    assert filler.chosen.shrinkage == 0.5


def test_a_filler_says_whether_it_converged(monkeypatch: pytest.MonkeyPatch, views: list[RecordingView]) -> None:
    """With one step nothing is solved, which the filler says of itself."""
    fit, tuning = learning_windows(views, window_samples=WINDOW)
    part = tuning[0].take(slice(0, 1))
    shown = np.random.default_rng(1).random((1, WINDOW // PATCH, part.z.shape[-1])) > 0.5
    stat = stationary_baselines(fit, recordings=1, window_samples=WINDOW)[-1]
    fill(stat, puzzle_of(part, shown))
    assert stat.converged
    monkeypatch.setattr("neurofm.evaluation.baselines.stationary._ITERATIONS", 1)
    fill(stat, puzzle_of(part, shown))
    assert not stat.converged


def test_every_recording_judges_up_to_a_bound(views: list[RecordingView]) -> None:
    parts = [cut(view, view.roles.calibration, window_samples=WINDOW) for view in views[:4]]
    assert [len(part) for part in judging_windows(parts, most=8)] == [2, 2, 2, 2]
    assert [len(part) for part in judging_windows(parts, most=2)] == [1, 1]


def puzzle_of(windows: Windows, shown: npt.NDArray[np.bool_]) -> Puzzle:
    return Puzzle(windows=windows, shown=shown, valid=np.ones(windows.z.shape[:2], dtype=np.bool_))
