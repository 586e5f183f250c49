"""A Gaussian with full covariance: hidden channels are predicted by their conditional mean."""

from __future__ import annotations

import numpy as np

from neurofm.evaluation.baselines.linear import Covariances, LinearBaseline
from neurofm.evaluation.settings import EvaluateSettings


def shrink(measured: Covariances, weight: float) -> Covariances:
    """Covariance of all channels smoothed alike, drawn towards a scaled identity with `weight`.

    It is a model of all channels at once: hidden and visible ones enter alike.
    """
    inner = measured.inner
    target = np.mean(np.diag(inner)) * np.eye(len(inner))
    shrunk = (1 - weight) * inner + weight * target
    return Covariances(cross=shrunk, inner=shrunk)


def gaussian(*, settings: EvaluateSettings, window_samples: int) -> LinearBaseline:
    """Make the baseline ``gaussian``: the shrunk covariance of smoothed channels, its weight chosen on validation.

    References
    ----------
    The form of the shrinkage is Ledoit & Wolf (2004), J Multivar Anal 88:365-411,
    doi:10.1016/S0047-259X(03)00096-4; its weight is tuned rather than estimated.
    """
    return LinearBaseline(
        "gaussian",
        strengths=settings.shrinkages,
        shape=shrink,
        settings=settings,
        window_samples=window_samples,
    )
