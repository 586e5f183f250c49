"""Read-out: ridge or logistic regression on a table of features, with a penalty chosen among training subjects alone.

There are many more features than subjects, so both are solved in the space that the training subjects span: with a
quadratic penalty the weights lie in it (Kimeldorf & Wahba 1971, doi:10.1016/0022-247X(71)90184-3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Predict = Callable[[Floats], Floats]

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried, per training subject, for features whose variances sum to 1."""
_DEFAULT = 1e-2
"""Where too few subjects are labelled for cross-validation."""
_CHUNKS = 5
_LEAST = 2
"""Subjects of a group, or labelled subjects per chunk of cross-validation."""
_FLOOR = 1e-12


@dataclass(frozen=True, kw_only=True)
class Readout:
    """A fitted read-out. Everything in it comes from training subjects."""

    mean: Floats
    """[feature]"""
    scale: Floats
    """[feature] what a centred feature is multiplied with; 0 where it never varies."""
    weights: Floats
    """[column, feature] of standardised features."""
    intercept: Floats
    """[column]"""
    penalty: float
    groups: int
    """0: a number is predicted."""

    def predict(self, features: Floats) -> Floats:
        """Turn [unit, feature] into [unit, column]: the number, or the probability of each group."""
        scores: Floats = ((features - self.mean) * self.scale) @ self.weights.T + self.intercept
        if not self.groups:
            return scores
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def fit_readout(
    features: Floats,
    values: Floats,
    *,
    subjects: Sequence[str],
    groups: int,
    unlabelled: Floats | None = None,
    level: bool = False,
) -> Readout:
    """Fit ridge regression, or logistic regression in which all groups weigh the same.

    Parameters
    ----------
    features
        [unit, feature] of training subjects.
    values
        [unit] numbers, or indices of groups.
    subjects
        [unit] who is held out together when the penalty is chosen.
    groups
        How many groups there are; 0 for numbers.
    unlabelled
        [unit, feature] of all training subjects, whose labels may not be known: by them features are standardised. Two
        labelled ones that happen to agree in a feature would make it weigh too much.
    level
        Of groups: none is likelier at the mean of `unlabelled`, in what is fitted and while its penalty is chosen.

    Returns
    -------
    The read-out with the penalty of the least squared error or log loss, in cross-validation over subjects with five
    parts. With fewer than two subjects a part, or of a group, no penalty can be chosen and a middling one is taken.
    """
    known = features if unlabelled is None else unlabelled
    mean, sd = known.mean(axis=0), known.std(axis=0)
    varies = sd > _FLOOR * max(1.0, float(np.abs(mean).max(initial=0.0)))
    scale = np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0) / np.sqrt(max(1, int(varies.sum())))
    z = (features - mean) * scale
    left, sizes, basis = np.linalg.svd(z, full_matrices=False)
    kept = sizes > _FLOOR * max(1.0, float(sizes.max(initial=0.0)))
    spanned, basis = left[:, kept] * sizes[kept], basis[kept]
    fit = (_level_logistic if level else _logistic) if groups else _ridge
    loss = _log_loss if groups else _squares
    penalty = _DEFAULT
    parts = _parts(values, subjects, groups=groups)
    if parts:
        losses = [
            sum(
                loss(fit(spanned[rest], values[rest], tried, groups), spanned[held], values[held])
                for rest, held in parts
            )
            for tried in PENALTIES
        ]
        # Of equals the strongest.
        penalty = PENALTIES[len(losses) - 1 - int(np.argmin(losses[::-1]))]
    weights, intercept = fit(spanned, values, penalty, groups)
    return Readout(mean=mean, scale=scale, weights=weights @ basis, intercept=intercept, penalty=penalty, groups=groups)


def null_readout(values: Floats, *, features: int, groups: int) -> Readout:
    """Return what knows only the training subjects: their mean, or the share of each group."""
    if groups:
        share = np.bincount(values.astype(np.int64), minlength=groups) / len(values)
        intercept = np.log(np.maximum(share, _FLOOR))
    else:
        intercept = np.array([values.mean()])
    return Readout(
        mean=np.zeros(features),
        scale=np.zeros(features),
        weights=np.zeros((len(intercept), features)),
        intercept=intercept,
        penalty=np.inf,
        groups=groups,
    )


Linear = tuple[Floats, Floats]
"""Weights [column, feature] and intercept [column]."""


def _parts(
    values: Floats, subjects: Sequence[str], *, groups: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Deal subjects out in the order of their mean value, so that each part has all groups and all ages."""
    names = np.array(subjects)
    means = {name: float(values[names == name].mean()) for name in sorted(set(subjects))}
    ranked = sorted(means, key=lambda name: (means[name], name))
    enough = len(ranked) >= _LEAST * _CHUNKS
    if groups:
        members = [len(set(names[values == group])) for group in range(groups)]
        enough = min(members) >= _LEAST
    if not enough:
        return []
    chunks = min(_CHUNKS, *members) if groups else _CHUNKS
    part = {name: rank % chunks for rank, name in enumerate(ranked)}
    of = np.array([part[name] for name in subjects])
    return [(np.flatnonzero(of != held), np.flatnonzero(of == held)) for held in range(chunks)]


def _ridge(z: Floats, values: Floats, penalty: float, groups: int) -> Linear:
    del groups
    centre, mean = z.mean(axis=0), values.mean()
    x = z - centre
    kernel = x @ x.T + penalty * len(x) * np.eye(len(x))
    weights = x.T @ np.linalg.solve(kernel, values - mean)
    return weights[None], np.array([mean - centre @ weights])


def _logistic(z: Floats, values: Floats, penalty: float, groups: int) -> Linear:
    # Here, because settings are read without it.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    present = np.unique(values).astype(np.int64)
    weights, intercept = np.zeros((groups, z.shape[1])), np.full(groups, -np.inf)
    intercept[present] = 0.0
    if len(present) > 1:
        model = LogisticRegression(C=1 / (penalty * len(z)), class_weight="balanced", max_iter=2000)
        model.fit(z, values.astype(np.int64))
        if len(present) == 2:  # one column says both
            weights[present[1]], intercept[present[1]] = model.coef_[0], model.intercept_[0]
        else:
            weights[present], intercept[present] = model.coef_, model.intercept_
    return weights, intercept


def _level_logistic(z: Floats, values: Floats, penalty: float, groups: int) -> Linear:
    weights, intercept = _logistic(z, values, penalty, groups)
    # A group without a label keeps no probability at all.
    return weights, np.where(np.isfinite(intercept), 0.0, intercept)


def _squares(fitted: Linear, z: Floats, values: Floats) -> float:
    weights, intercept = fitted
    return float(((z @ weights[0] + intercept[0] - values) ** 2).sum())


def _log_loss(fitted: Linear, z: Floats, values: Floats) -> float:
    """Sum of log losses, each group weighing the same."""
    weights, intercept = fitted
    scores = z @ weights.T + intercept
    top = scores.max(axis=1)
    own = scores[np.arange(len(z)), values.astype(np.int64)]
    # A group that this part's training lacks has no probability at all.
    losses = np.minimum(np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - own, -np.log(_FLOOR))
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    return float((losses / counts[member]).sum())
