"""No baseline learns from what is scored, and none can see what it has to predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurofm.evaluation.baselines import baselines_for
from neurofm.evaluation.masked import reconstruct
from neurofm.evaluation.samples import cut, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import WINDOW, Roles, poison, view_of


def _spikes() -> list[RecordingView]:
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(0.8 * rng.normal(size=(1200, 1)) - 0.5) * np.ones(6)).astype(np.float64)
    return [
        view_of(
            counts, modality=Modality.SPIKES, train=[(0, 400), (800, 1000)], validation=[(420, 600)], test=[(620, 780)]
        )
    ]


def _atlas() -> list[RecordingView]:
    rng = np.random.default_rng(1)
    views = []
    for number, role in enumerate(["train", "train", "validation", "test"]):
        values = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(300, 6))
        trains = role == "train"
        segments: Roles = {role: [(0 if trains else 100, 300)]}
        views.append(
            view_of(
                values,
                modality=Modality.FMRI,
                name=f"s{number}",
                channel_set="atlas",
                kind="subject",
                calibration=[(0, 300 if trains else 100)],
                **segments,
            )
        )
    return views


VIEWS = {"spikes": _spikes, "atlas": _atlas}
CASES = [
    *[("spikes", name) for name in ("null", "ppca", "gaussian", "ridge", "factor_analysis", "poisson_glm")],
    ("spikes", "factor_analysis_glm"),
    *[("atlas", name) for name in ("null", "ppca", "gaussian", "ridge", "gaussian_calibrated")],
]


def _predictions(which: str, name: str, views: list[RecordingView], settings: EvaluateSettings) -> list[bytes]:
    """Fit on `views`; predict fixed visible values, so that only what was fitted can differ."""
    estimators = {
        one.name: one
        for one in baselines_for(views[0].modality, recordings=len(views), settings=settings, window_samples=WINDOW)
    }
    estimator = estimators[name]
    if name == "factor_analysis_glm":
        for part in ("factor_analysis", "poisson_glm"):
            estimators[part].fit(views)
    estimator.fit(views)
    scored = views[-1]
    rng = np.random.default_rng(9)
    found = []
    for visible, hidden in masks(scored, settings):
        seen = rng.normal(size=(3, WINDOW, len(visible))).astype(np.float32)
        found.append(estimator.predict(scored, seen, visible, hidden).tobytes())
    return found


@pytest.mark.parametrize(("which", "name"), CASES)
def test_corrupting_every_test_sample_leaves_the_fit_bit_identical(
    which: str, name: str, settings: EvaluateSettings
) -> None:
    views = VIEWS[which]()
    poisoned = [poison(view) for view in views]
    assert any((one.stored[:] != other.stored[:]).any() for one, other in zip(views, poisoned, strict=True))
    assert _predictions(which, name, views, settings) == _predictions(which, name, poisoned, settings)


@pytest.mark.parametrize("role", ["train", "validation"])
def test_corrupting_what_is_learned_from_is_noticed(role: str, settings: EvaluateSettings) -> None:
    (view,) = _spikes()
    moved = {"test": getattr(view.roles, role)}
    stored = poison(replace(view, roles=view.roles.model_copy(update=moved))).stored
    before = _predictions("spikes", "gaussian", [view], settings)
    assert before != _predictions("spikes", "gaussian", [replace(view, stored=stored)], settings)


def test_a_prediction_does_not_depend_on_the_hidden_values(settings: EvaluateSettings) -> None:
    views = _atlas()
    for estimator in baselines_for(Modality.FMRI, recordings=4, settings=settings, window_samples=WINDOW):
        estimator.fit(views)
        test = cut(views[-1], views[-1].roles.test, window_samples=WINDOW)
        before = reconstruct(estimator, test, settings=settings)
        for _, hidden in masks(test.view, settings):
            z = test.z.copy()
            z[..., hidden] = 99.0
            after = reconstruct(estimator, replace(test, z=z), settings=settings)
            assert after[..., hidden].tobytes() == before[..., hidden].tobytes()


def test_single_recordings_are_not_calibrated_twice(settings: EvaluateSettings) -> None:
    names = [one.name for one in baselines_for(Modality.EEG, recordings=1, settings=settings, window_samples=WINDOW)]
    assert names == ["null", "ppca", "gaussian", "ridge"]
