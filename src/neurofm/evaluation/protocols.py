"""Protocols: what reads labels out of features that were made without any: a linear probe, or nearest neighbours.

Beside them stand two under which the network itself learns from labels (`neurofm.evaluation.few_shot_learned`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.readout import Floats, Predict, fit_readout

Protocol = Literal["linear_probe", "knn", "fine_tune", "lora"]
FINE_TUNE: Final = "fine_tune"
LORA: Final = "lora"
LINEAR: Final = "linear_probe"
PROTOCOLS: tuple[Protocol, ...] = ("linear_probe", "knn")
"""Of frozen features."""
LEARNED: tuple[Protocol, ...] = (FINE_TUNE, LORA)

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of ridge regression on many samples, per sample of standardised features."""
_DEFAULT = 1e-2
_CHUNKS = 5
_MOST_NEIGHBOURS = 10
_AT_A_TIME = 512
"""Rows of a table of distances."""


def fit_protocol(
    protocol: Protocol,
    features: Floats,
    values: Floats,
    *,
    units: Sequence[str],
    groups: int,
    unlabelled: Floats,
) -> Predict:
    """Learn from labelled samples.

    The linear probe is ridge or logistic regression with a penalty chosen in cross-validation over the labelled units
    alone (`neurofm.evaluation.readout`). Nearest neighbours need no choice: there are the square root of the number of
    samples of them, at most 10, by Euclidean distance of standardised features (Cover & Hart 1967,
    doi:10.1109/TIT.1967.1053964); of groups each neighbour votes by one over the size of its group.

    Parameters
    ----------
    protocol
        Which.
    features
        [sample, feature] of those whose label is known.
    values
        [sample] numbers or indices of groups, or [sample, column] numbers.
    units
        [sample] what was labelled as one, and is left out together in cross-validation.
    groups
        How many there are; 0 for numbers.
    unlabelled
        [sample, feature] of all that might have been labelled: features are standardised by them.

    Returns
    -------
    What turns [sample, feature] into [sample, column]: numbers, or the probability of each group.
    """
    if protocol == "knn":
        return _neighbours(features, values, groups=groups, unlabelled=unlabelled)
    if values.ndim > 1:
        return _ridge(features, values, units=units, unlabelled=unlabelled)
    return fit_readout(features, values, subjects=units, groups=groups, unlabelled=unlabelled).predict


def _standard(unlabelled: Floats) -> tuple[Floats, Floats]:
    mean, sd = unlabelled.mean(axis=0), unlabelled.std(axis=0)
    return mean, np.where(sd > 0, 1 / np.where(sd > 0, sd, 1.0), 0.0)


def _neighbours(features: Floats, values: Floats, *, groups: int, unlabelled: Floats) -> Predict:
    mean, scale = _standard(unlabelled)
    known = (features - mean) * scale
    count = min(_MOST_NEIGHBOURS, max(1, round(float(np.sqrt(len(known))))))
    if groups:
        member = values.astype(np.int64)
        votes = np.eye(groups)[member] / np.bincount(member, minlength=groups)[member][:, None]
    else:
        votes = values.reshape(len(values), -1)

    def predict(asked: Floats) -> Floats:
        found = []
        for first in range(0, len(asked), _AT_A_TIME):
            rows = (asked[first : first + _AT_A_TIME] - mean) * scale
            distance = (rows**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * rows @ known.T
            # In a fixed order, so that of equals the same are taken everywhere.
            nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
            found.append(votes[nearest].mean(axis=1))
        summed = np.concatenate(found)
        return summed / summed.sum(axis=1, keepdims=True) if groups else summed

    return predict


def _ridge(features: Floats, values: Floats, *, units: Sequence[str], unlabelled: Floats) -> Predict:
    """Ridge regression of several columns, solved among the features: there are more samples than those."""
    mean, scale = _standard(unlabelled)
    z = (features - mean) * scale
    of = np.unique(np.array(units), return_inverse=True)[1]
    penalty = _DEFAULT
    if of.max(initial=0) + 1 >= 2 * _CHUNKS:
        errors = np.zeros(len(_PENALTIES))
        for held in range(_CHUNKS):
            out = of % _CHUNKS == held
            for index, tried in enumerate(_PENALTIES):
                weights, intercept = _solved(z[~out], values[~out], tried)
                errors[index] += ((z[out] @ weights + intercept - values[out]) ** 2).sum()
        penalty = _PENALTIES[int(errors.argmin())]
    weights, intercept = _solved(z, values, penalty)
    return lambda asked: ((asked - mean) * scale) @ weights + intercept


def _solved(z: Floats, values: Floats, penalty: float) -> tuple[Floats, npt.NDArray[np.float64]]:
    centre, level = z.mean(axis=0), values.mean(axis=0)
    x = z - centre
    gram = x.T @ x + penalty * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (values - level))
    return weights, level - centre @ weights
