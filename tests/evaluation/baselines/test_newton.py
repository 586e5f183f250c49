"""Poisson regressions of all units at once are those of scikit-learn, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from neurofm.evaluation.baselines.linear import Floats
from neurofm.evaluation.baselines.newton import poisson_regression
from neurofm.readers.shared.variables import load_variables


@pytest.fixture(scope="module")
def session(shared_data: Path) -> Floats:
    """[sample, unit] counts per 20 ms of Steinmetz' first session, every tenth unit."""
    spikes = np.stack(load_variables(shared_data / "ephys/steinmetz2019_rds/session1.rds")["spks"])
    counts: Floats = spikes[:, ::10].reshape(len(spikes), -1, 20, 2).sum(axis=-1).transpose(0, 2, 1).astype(np.float64)
    return counts.reshape(-1, counts.shape[-1])


@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
def test_weights_are_those_of_one_regression_per_unit(session: Floats, penalty: float) -> None:
    predictors, counts = session[:, 20:40], session[:, :5]
    predictors = (predictors - predictors.mean(axis=0)) / (predictors.std(axis=0) + 1e-6)
    weights, intercept = poisson_regression(predictors, counts, penalty=penalty)
    for unit in range(counts.shape[1]):
        one = PoissonRegressor(alpha=penalty, solver="newton-cholesky", tol=1e-8).fit(predictors, counts[:, unit])
        np.testing.assert_allclose(weights[unit], one.coef_, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(intercept[unit], one.intercept_, rtol=1e-3)


def test_a_unit_that_never_fired_stays_silent_and_spoils_no_other(session: Floats) -> None:
    counts = session[:, :2].copy()
    alone, _ = poisson_regression(session[:, 20:30], counts[:, 1:], penalty=0.01)
    counts[:, 0] = 0
    weights, intercept = poisson_regression(session[:, 20:30], counts, penalty=0.01)
    assert intercept[0] < np.log(1e-5)
    np.testing.assert_allclose(weights[1], alone[0], atol=1e-6)
