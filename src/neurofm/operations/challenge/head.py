"""Head: ridge regression on frozen features, its penalty chosen on subjects that it is not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError

Floats = npt.NDArray[np.float64]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e4)
"""In units of a standardised feature's variance; the largest leaves hardly more than the mean."""
_CHUNKS = 5


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a head is fitted on."""

    features: Floats
    """[window, feature]"""
    truth: Floats
    """[window]"""
    subject: npt.NDArray[np.str_]
    """[window]"""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A linear read-out."""

    weight: Floats
    """[feature]"""
    bias: float
    low: float
    high: float
    """Least and largest answer that was learned from."""
    mean: float
    """Of the answers: what the null says."""
    penalty: float


def fit_head(fit: Learned, validation: Learned | None, *, what: str) -> Head:
    """Fit a head.

    Parameters
    ----------
    fit
        What is fitted on.
    validation
        What the penalty is chosen on; where it is None or has one answer only, parts of `fit` take turns: whole
        subjects, or stretches of the only one.
    what
        The challenge's target, for messages.

    Raises
    ------
    UserError
        For fewer windows than parts, or answers that do not differ.
    """
    if len(fit.truth) < 2 * _CHUNKS or np.ptp(fit.truth) == 0:
        raise UserError(
            f"challenge: {what}: {len(fit.truth)} windows with {len(np.unique(fit.truth))} different answers to learn "
            "from.",
            mend="take more subjects of HBN: a larger `include` in data/catalog, then `dvc repro split`",
        )
    rounds = _rounds(fit, validation)
    errors = [sum(_error(part, held, penalty) for part, held in rounds) for penalty in PENALTIES]
    penalty = PENALTIES[int(np.argmin(errors))]
    weight, bias = _ridge(fit, penalty)
    return Head(
        weight=weight,
        bias=bias,
        low=float(fit.truth.min()),
        high=float(fit.truth.max()),
        mean=float(fit.truth.mean()),
        penalty=penalty,
    )


def _rounds(fit: Learned, validation: Learned | None) -> Sequence[tuple[Learned, Learned]]:
    if validation is not None and np.ptp(validation.truth) > 0:
        return [(fit, validation)]
    subjects, owner = np.unique(fit.subject, return_inverse=True)
    count = len(owner)
    chunk = owner % _CHUNKS if len(subjects) > 1 else np.arange(count) * _CHUNKS // count
    held = [chunk == number for number in np.unique(chunk)]
    return [(_rows(fit, ~rows), _rows(fit, rows)) for rows in held]


def _rows(learned: Learned, kept: npt.NDArray[np.bool_]) -> Learned:
    return Learned(features=learned.features[kept], truth=learned.truth[kept], subject=learned.subject[kept])


def _ridge(learned: Learned, penalty: float) -> tuple[Floats, float]:
    """Weights and bias on features as they come (Hoerl & Kennard 1970, doi:10.1080/00401706.1970.10488634)."""
    middle, sd = learned.features.mean(axis=0), learned.features.std(axis=0)
    # A feature that does not vary says nothing.
    scale = np.where(sd > 1e-9, sd, np.inf)
    z = (learned.features - middle) / scale
    mean = learned.truth.mean()
    gram = z.T @ z / len(z) + penalty * np.eye(z.shape[1])
    weight = np.linalg.solve(gram, z.T @ (learned.truth - mean) / len(z)) / scale
    return weight, float(mean - middle @ weight)


def _error(fit: Learned, held: Learned, penalty: float) -> float:
    weight, bias = _ridge(fit, penalty)
    said = np.clip(held.features @ weight + bias, fit.truth.min(), fit.truth.max())
    return float(((said - held.truth) ** 2).sum())
