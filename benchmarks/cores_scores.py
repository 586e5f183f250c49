"""Scores of `benchmarks.cores`: what they are and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = dict[tuple[str, str], dict[str, list[float]]]
"""Per case and unit, per estimator: one score for each subject or session. The last estimator is ours."""

_DRAWS = 2000


def interval(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean, by the bootstrap over subjects or sessions."""
    known = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(known), size=(_DRAWS, len(known)))
    low, high = np.percentile(known[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
