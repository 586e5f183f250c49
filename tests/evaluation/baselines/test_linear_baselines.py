"""On Gaussian data with a known covariance the linear baselines find the conditional mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.baselines import GaussianCalibrated, gaussian, ppca, ridge
from neurofm.evaluation.baselines.linear import Covariances, LinearBaseline
from neurofm.evaluation.masked import reconstruct, score
from neurofm.evaluation.samples import cut, masks
from neurofm.evaluation.scores import ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import WINDOW, Roles, view_of

Make = Callable[..., LinearBaseline]
SAMPLES = 24_000
ROLES: Roles = {"train": [(0, 16_000)], "validation": [(16_000, 20_000)], "test": [(20_000, SAMPLES)]}
BASELINES = [pytest.param(make, id=make.__name__) for make in (ppca, gaussian, ridge)]


def _covariance() -> npt.NDArray[np.float64]:
    """Two latents seen by nine channels, and noise: equal variances, so that PPCA holds for z-scores, too."""
    angles = np.linspace(0, np.pi, 9, endpoint=False)
    loadings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    covariance: npt.NDArray[np.float64] = loadings @ loadings.T + 0.5 * np.eye(9)
    return covariance


@pytest.fixture(scope="module")
def white() -> RecordingView:
    """Samples of `_covariance`, independent in time."""
    return view_of(np.random.default_rng(1).multivariate_normal(np.zeros(9), _covariance(), size=SAMPLES), **ROLES)


@pytest.mark.parametrize("make", BASELINES)
def test_the_conditional_mean_and_its_r2_are_those_of_theory(
    make: Make, white: RecordingView, settings: EvaluateSettings
) -> None:
    baseline = make(settings=settings, window_samples=WINDOW)
    baseline.fit([white])
    assert baseline.sd_samples == 0
    sd = white.normaliser.sd
    covariance = _covariance() / np.outer(sd, sd)
    explained = 0.0
    for visible, hidden in masks(white, settings):
        expected = np.linalg.solve(covariance[np.ix_(visible, visible)], covariance[np.ix_(visible, hidden)])
        one_at_a_time = np.eye(len(visible), dtype=np.float32)[None]
        found = baseline.predict(white, one_at_a_time, visible, hidden)[0]
        np.testing.assert_allclose(found, expected, atol=0.05)
        explained += np.sum(expected * covariance[np.ix_(visible, hidden)])
    test = cut(white, white.roles.test, window_samples=WINDOW)
    r2, _ = score(baseline, test, reconstruct(baseline, test, settings=settings), tuning=[], settings=settings)
    assert ratio(r2.gain, r2.total) == pytest.approx(explained / np.trace(covariance), abs=0.02)


@pytest.mark.parametrize("make", BASELINES)
def test_slow_signals_are_smoothed(make: Make, settings: EvaluateSettings) -> None:
    rng = np.random.default_rng(2)
    slow = np.convolve(rng.normal(size=6000), np.exp(-0.5 * (np.arange(-18, 19) / 6) ** 2), mode="same")
    values = (slow / slow.std())[:, None] + 1.5 * rng.normal(size=(6000, 6))
    view = view_of(values, train=[(0, 4000)], validation=[(4000, 5000)], test=[(5000, 6000)])
    baseline = make(settings=settings, window_samples=WINDOW)
    baseline.fit([view])
    assert baseline.sd_samples == 4.0


def _atlas(*, own_weight: float) -> list[RecordingView]:
    """Nine subjects of one atlas whose covariances share a part and have a part of their own."""
    rng = np.random.default_rng(7)
    shared = rng.normal(size=(8, 3))
    views = []
    for number, role in enumerate(["train"] * 6 + ["validation"] + ["test"] * 2):
        loadings = np.sqrt(1 - own_weight) * shared + np.sqrt(own_weight) * rng.normal(size=(8, 3))
        values = rng.normal(size=(600, 3)) @ loadings.T + 0.3 * rng.normal(size=(600, 8))
        trains = role == "train"
        segments: Roles = {role: [(0, 600) if trains else (200, 600)]}
        views.append(
            view_of(
                values,
                modality=Modality.FMRI,
                name=f"s{number}",
                channel_set="fmri-atlas",
                kind="subject",
                calibration=[(0, 600) if trains else (0, 200)],
                **segments,
            )
        )
    return views


def _error(
    estimator: LinearBaseline | GaussianCalibrated, views: list[RecordingView], settings: EvaluateSettings
) -> float:
    estimator.fit(views)
    tests = [cut(view, view.roles.test, window_samples=WINDOW) for view in views if view.roles.test]
    return sum(float(np.sum((reconstruct(estimator, test, settings=settings) - test.z) ** 2)) for test in tests)


@pytest.mark.parametrize(("own_weight", "at_most"), [(0.0, 1.01), (0.8, 0.6)])
def test_calibration_helps_as_far_as_subjects_differ(
    own_weight: float, at_most: float, settings: EvaluateSettings
) -> None:
    views = _atlas(own_weight=own_weight)
    pooled = _error(gaussian(settings=settings, window_samples=WINDOW), views, settings)
    calibrated = GaussianCalibrated(settings=settings, window_samples=WINDOW)
    assert _error(calibrated, views, settings) < at_most * pooled
    assert (calibrated.prior_samples > 1000) == (own_weight == 0)


@pytest.mark.parametrize("make", [ridge, gaussian])
def test_without_validation_all_of_the_calibration_is_fitted_on(make: Make, settings: EvaluateSettings) -> None:
    settings = settings.model_copy(update={"smoothing_samples": (0.0,)})
    values = np.random.default_rng(0).normal(size=(20 * WINDOW, 8))
    view = view_of(values, modality=Modality.FMRI, calibration=[(0, 10 * WINDOW)], kind="subject")
    baseline = make(settings=settings, window_samples=WINDOW)
    baseline.fit([view])
    own = view.z(0, 10 * WINDOW).astype(np.float64)
    whole = Covariances(cross=own.T @ own / len(own), inner=own.T @ own / len(own))
    np.testing.assert_allclose(baseline.covariances.inner, baseline.shape(whole, baseline.strength).inner, rtol=1e-5)


def test_a_calibration_shorter_than_a_window_is_known_whole(settings: EvaluateSettings) -> None:
    views = _atlas(own_weight=0.5)
    settings = settings.model_copy(update={"prior_samples": (100.0,), "smoothing_samples": (0.0,)})
    calibrated = GaussianCalibrated(settings=settings, window_samples=WINDOW)
    calibrated.fit(views)
    short = view_of(
        np.random.default_rng(0).normal(size=(300, 8)), modality=Modality.FMRI, calibration=[(0, 10)], kind="subject"
    )
    visible, hidden = masks(short, settings)[0]
    seen = np.random.default_rng(1).normal(size=(1, WINDOW, len(visible))).astype(np.float32)
    own = short.z(0, 10).astype(np.float64)
    prior = calibrated.prior.covariances().inner
    measured = (100 * prior + own.T @ own) / 110
    identity = np.mean(np.diag(measured)) * np.eye(8)
    inner = (1 - calibrated.shrinkage) * measured + calibrated.shrinkage * identity
    expected = np.linalg.solve(inner[np.ix_(visible, visible)], inner[np.ix_(visible, hidden)])
    np.testing.assert_allclose(calibrated.predict(short, seen, visible, hidden)[0], seen[0] @ expected, rtol=1e-5)


def test_a_channel_never_usable_in_training_is_predicted_at_its_mean(settings: EvaluateSettings) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 1)) + 0.5 * rng.normal(size=(2000, 6))
    dead = values.copy()
    dead[:, 2] = 1.0
    views = [
        view_of(dead, name="a", channel_set="x", kind="subject", train=[(0, 2000)]),
        view_of(dead, name="b", channel_set="x", kind="subject", calibration=[(0, 600)], validation=[(600, 2000)]),
        view_of(values, name="c", channel_set="x", kind="subject", calibration=[(0, 600)], test=[(600, 2000)]),
    ]
    baseline = ridge(settings=settings, window_samples=WINDOW)
    baseline.fit(views)
    test = cut(views[2], views[2].roles.test, window_samples=WINDOW)
    predicted = reconstruct(baseline, test, settings=settings)
    assert (predicted[..., 2] == 0).all()
    others = [0, 1, 3, 4, 5]
    assert np.mean((predicted[..., others] - test.z[..., others]) ** 2) < 0.5
