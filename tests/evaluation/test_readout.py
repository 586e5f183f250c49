"""Read-outs are those of scikit-learn, solved among subjects, and are tuned on training subjects alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from neurofm.evaluation.readout import PENALTIES, fit_readout, null_readout

Floats = npt.NDArray[np.float64]
SUBJECTS = [f"s{number:02d}" for number in range(40)]


def _linear(*, noise: float, features: int = 120) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, features)) * np.linspace(0.5, 3, features) + 5
    return x, x[:, :20] @ rng.normal(size=20) + noise * rng.normal(size=40)


def _standard(x: Floats) -> Floats:
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0) / np.sqrt(x.shape[1]), dtype=np.float64)


def test_ridge_is_scikit_learns() -> None:
    x, y = _linear(noise=1.0)
    fitted = fit_readout(x, y, subjects=SUBJECTS, groups=0)
    assert fitted.penalty in PENALTIES
    expected = Ridge(alpha=fitted.penalty * len(y)).fit(_standard(x), y).predict(_standard(x))
    np.testing.assert_allclose(fitted.predict(x)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("groups", [2, 3])
def test_logistic_is_scikit_learns(groups: int) -> None:
    x, y = _linear(noise=1.0)
    labels = np.digitize(y, np.quantile(y, np.arange(1, groups) / groups)).astype(np.float64)
    fitted = fit_readout(x, labels, subjects=SUBJECTS, groups=groups)
    model = LogisticRegression(C=1 / (fitted.penalty * 40), class_weight="balanced", max_iter=20000, tol=1e-9)
    expected = model.fit(_standard(x), labels).predict_proba(_standard(x))
    np.testing.assert_allclose(fitted.predict(x), expected, atol=2e-3)


def test_the_penalty_follows_the_noise() -> None:
    x, y = _linear(noise=0.0, features=24)
    assert fit_readout(x, y, subjects=SUBJECTS, groups=0).penalty < 1e-3
    shuffled = np.random.default_rng(1).permutation(y)
    assert fit_readout(x, shuffled, subjects=SUBJECTS, groups=0).penalty >= 0.1


def test_a_feature_that_never_varies_has_no_weight() -> None:
    x, y = _linear(noise=1.0)
    x[:, 3] = 0.1
    fitted = fit_readout(x, y, subjects=SUBJECTS, groups=0)
    assert fitted.scale[3] == 0
    changed = x.copy()
    changed[:, 3] = 1e6
    np.testing.assert_array_equal(fitted.predict(changed), fitted.predict(x))


def test_people_without_labels_say_how_features_vary() -> None:
    x, y = _linear(noise=1.0)
    few = [0, 3, 4]
    x[3, 7] = x[4, 7] = x[0, 7] + 1e-4
    fitted = fit_readout(x[few], y[few], subjects=SUBJECTS[:3], groups=0, unlabelled=x)
    np.testing.assert_allclose(fitted.scale, 1 / x.std(axis=0) / np.sqrt(x.shape[1]))
    alone = fit_readout(x[few], y[few], subjects=SUBJECTS[:3], groups=0)
    assert alone.scale[7] > 1000 * fitted.scale[7]


def test_one_label_of_each_group_is_enough_to_start() -> None:
    x, _ = _linear(noise=1.0)
    two = fit_readout(x[:2], np.array([0.0, 1.0]), subjects=SUBJECTS[:2], groups=2)
    assert two.predict(x[:2]).argmax(axis=1).tolist() == [0, 1]
    one = fit_readout(x[:3], np.ones(3), subjects=SUBJECTS[:3], groups=2)
    np.testing.assert_array_equal(one.predict(x), np.tile([0.0, 1.0], (40, 1)))


def test_the_null_knows_shares_and_the_mean() -> None:
    x = np.zeros((4, 2))
    shares = null_readout(np.array([0.0, 0.0, 0.0, 1.0]), features=2, groups=2).predict(x)
    np.testing.assert_allclose(shares, np.tile([0.75, 0.25], (4, 1)))
    assert (null_readout(np.array([1.0, 2.0, 6.0]), features=2, groups=0).predict(x) == 3).all()


def test_level_intercepts_are_those_that_the_penalty_is_chosen_with() -> None:
    """Trials far from the mean of all are told apart by an intercept; without one, heavy weights err on one side."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0.0, 1.0], 20)
    x = np.stack([labels * 2 + 4 + 0.3 * rng.normal(size=40), rng.normal(size=40)], axis=1)
    everything = np.concatenate([x, -x])
    free = fit_readout(x, labels, subjects=SUBJECTS, groups=2, unlabelled=everything)
    level = fit_readout(x, labels, subjects=SUBJECTS, groups=2, unlabelled=everything, level=True)
    assert free.penalty <= 1e-3
    assert level.penalty >= 0.1
    np.testing.assert_allclose(level.predict(everything.mean(axis=0)[None]), 0.5)
