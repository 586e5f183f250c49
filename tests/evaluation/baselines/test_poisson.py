"""On units whose log rate follows a direction, Poisson regression beats ridge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.baselines import Null, PoissonGlm, ridge
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.masked import reconstruct, score
from neurofm.evaluation.samples import cut, learning_windows, masks
from neurofm.evaluation.scores import ratio
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import WINDOW, view_of

Counts = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def spikes() -> RecordingView:
    rng = np.random.default_rng(4)
    direction = np.cumsum(0.06 * rng.normal(size=8000))
    rate = np.exp(2.5 * np.cos(direction[:, None] - np.linspace(0, 2 * np.pi, 12, endpoint=False)) - 2.5)
    counts = rng.poisson(rate).clip(0, 255).astype(np.float64)
    return view_of(counts, modality=Modality.SPIKES, train=[(0, 5000)], validation=[(5000, 6000)], test=[(6000, 8000)])


def _bits(estimator: Estimator, view: RecordingView, settings: EvaluateSettings) -> float:
    estimator.fit([view])
    test = cut(view, view.roles.test, window_samples=WINDOW)
    _, tuning = learning_windows([view], window_samples=WINDOW)
    predicted = reconstruct(estimator, test, settings=settings)
    *_, bits = score(estimator, test, predicted, tuning=tuning, settings=settings)
    return ratio(bits.gain, bits.total)


def test_poisson_regression_beats_ridge_and_the_null_is_zero(spikes: RecordingView, settings: EvaluateSettings) -> None:
    glm = PoissonGlm(settings=settings, window_samples=WINDOW)
    linear = ridge(settings=settings, window_samples=WINDOW)
    assert _bits(glm, spikes, settings) > _bits(linear, spikes, settings) + 0.02 > 0.2
    assert _bits(Null(), spikes, settings) == 0.0


def test_predictions_are_positive_rates(spikes: RecordingView, settings: EvaluateSettings) -> None:
    glm = PoissonGlm(settings=settings, window_samples=WINDOW)
    glm.fit([spikes])
    test = cut(spikes, spikes.roles.test, window_samples=WINDOW)
    z = reconstruct(glm, test, settings=settings)
    assert (z * spikes.normaliser.sd + spikes.normaliser.mean > 0).all()


def test_a_large_population_is_regressed_on_its_components(spikes: RecordingView, settings: EvaluateSettings) -> None:
    asked = settings.model_copy(
        update={"glm_most_units": 4, "glm_components": (1, 4), "smoothing_samples": (1.0,), "glm_penalties": (0.01,)}
    )
    glm = PoissonGlm(settings=asked, window_samples=WINDOW)
    # A ring takes two components at least: one would not be chosen.
    assert _bits(glm, spikes, asked) > 0.2
    assert all(np.linalg.matrix_rank(each.weights) == 4 for each in glm.fitted.values())


def test_a_large_population_that_seldom_fires_is_predicted_at_its_mean(settings: EvaluateSettings) -> None:
    """No unit is looked at then, and components of nothing must not become numbers that are none."""
    counts = np.zeros((40 * WINDOW, 12))
    counts[np.arange(12) * 3 * WINDOW + 5, np.arange(12)] = 1
    view = view_of(counts, modality=Modality.SPIKES, calibration=[(0, 40 * WINDOW)], kind="session")
    glm = PoissonGlm(settings=settings.model_copy(update={"glm_most_units": 2}), window_samples=WINDOW)
    glm.fit([view])
    visible, hidden = masks(view, settings)[0]
    predicted = glm.predict(view, view.z(0, WINDOW)[None, :, visible], visible, hidden)
    rates = predicted * view.normaliser.sd[hidden] + view.normaliser.mean[hidden]
    np.testing.assert_allclose(rates, np.broadcast_to(rates[0, 0], rates.shape))
    np.testing.assert_allclose(rates[0, 0], view.normaliser.mean[hidden], rtol=0.1)
