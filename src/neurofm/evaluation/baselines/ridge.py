"""Ridge regression of each hidden channel on the visible channels, smoothed in time."""

from __future__ import annotations

import numpy as np

from neurofm.evaluation.baselines.linear import Covariances, LinearBaseline
from neurofm.evaluation.settings import EvaluateSettings


def penalise(measured: Covariances, penalty: float) -> Covariances:
    """Add `penalty` times the mean variance to each predictor's variance (Hoerl & Kennard 1970)."""
    amount = penalty * np.mean(np.diag(measured.inner))
    return Covariances(cross=measured.cross, inner=measured.inner + amount * np.eye(len(measured.inner)))


def ridge(*, settings: EvaluateSettings, window_samples: int) -> LinearBaseline:
    """Make the baseline ``ridge``: raw hidden on smoothed visible channels, in closed form for every mask.

    References
    ----------
    Hoerl & Kennard (1970), Technometrics 12:55-67, doi:10.1080/00401706.1970.10488634.
    """
    return LinearBaseline(
        "ridge",
        strengths=settings.ridge_penalties,
        shape=penalise,
        settings=settings,
        window_samples=window_samples,
    )
