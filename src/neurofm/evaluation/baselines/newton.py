"""Poisson regression of many units at once, by Newton's method on each, in steps that all of them take together."""

from __future__ import annotations

import numpy as np

from neurofm.evaluation.baselines.linear import Floats

_STEPS = 50
_HALVINGS = 20
_CONVERGED = 1e-6
"""Largest slope that is left, per sample."""
_SAME = 1e-12
"""Losses this close are equal but for rounding."""
_RIDGE = 1e-9
"""On the curvature of the intercept: a unit that never fired has none."""
_AT_ONCE = 4_000_000
"""Products of regressors that are held in memory together."""
_MOST = 30.0
"""Largest log rate that is exponentiated, on the way."""


def poisson_regression(predictors: Floats, counts: Floats, *, penalty: float) -> tuple[Floats, Floats]:
    """Minimise each unit's mean of rate - count * log rate, plus `penalty` / 2 times the squared weights.

    A step of all units is a few products of matrices, where a library's regression per unit reads the regressors a
    thousand times. A unit whose step would overshoot halves it.

    Parameters
    ----------
    predictors
        [sample, regressor]
    counts
        [sample, unit]
    penalty
        Above 0; the intercept has none.

    Returns
    -------
    weights [unit, regressor] and intercept [unit].
    """
    x = np.column_stack([predictors, np.ones(len(predictors))])
    ridge = np.append(np.full(predictors.shape[1], penalty), 0.0)
    weights = np.zeros((counts.shape[1], x.shape[1]))
    weights[:, -1] = np.log(np.maximum(counts.mean(axis=0), 1e-6))
    least = _losses(x, counts, weights, ridge)
    for _ in range(_STEPS):
        rate = np.exp(np.minimum(x @ weights.T, _MOST))
        slope = (rate - counts).T @ x / len(x) + ridge * weights
        if np.abs(slope).max() < _CONVERGED:
            break
        step = np.linalg.solve(_curvature(x, rate, ridge), slope[..., None])[..., 0]
        share = np.ones(len(weights))
        for _ in range(_HALVINGS):
            tried = weights - share[:, None] * step
            losses = _losses(x, counts, tried, ridge)
            worse = losses > least + _SAME
            if not worse.any():
                break
            share[worse] /= 2
        better = losses <= least + _SAME
        weights[better], least[better] = tried[better], losses[better]
        if not better.any():
            break
    return weights[:, :-1], weights[:, -1]


def _losses(x: Floats, counts: Floats, weights: Floats, ridge: Floats) -> Floats:
    """Return what each unit is to be fitted by: [unit]."""
    drive = np.minimum(x @ weights.T, _MOST)
    losses: Floats = (np.exp(drive) - counts * drive).mean(axis=0) + (ridge * weights**2).sum(axis=1) / 2
    return losses


def _curvature(x: Floats, rate: Floats, ridge: Floats) -> Floats:
    """Average rate times products of two regressors, and add the penalty: [unit, regressor, regressor]."""
    first, second = np.triu_indices(x.shape[1])
    halves = np.zeros((rate.shape[1], len(first)))
    rows = max(1, _AT_ONCE // len(first))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        halves += rate[start : start + rows].T @ (part[:, first] * part[:, second])
    whole = np.empty((len(halves), x.shape[1], x.shape[1]))
    whole[:, first, second] = whole[:, second, first] = halves / len(x)
    return whole + np.diag(ridge + np.append(np.zeros(len(ridge) - 1), _RIDGE))
