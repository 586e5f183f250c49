"""Probabilistic PCA: hidden channels follow from the posterior mean of a few latents given the visible channels."""

from __future__ import annotations

import numpy as np

from neurofm.evaluation.baselines.linear import Covariances, LinearBaseline
from neurofm.evaluation.settings import EvaluateSettings


def reduce_rank(measured: Covariances, rank: float) -> Covariances:
    """Covariance of PPCA in its maximum-likelihood solution: W W' + noise variance times the identity.

    The conditional mean under it equals W times the posterior mean of the latents. Of more latents than there
    are channels, one less than the channels are kept, so that a noise variance remains.
    """
    variances, axes = measured.eigen
    kept = min(int(rank), len(variances) - 1)
    noise = max(float(variances[:-kept].mean()), 1e-9 * float(variances.mean()))
    leading = axes[:, -kept:]
    excess = np.maximum(variances[-kept:] - noise, 0.0)
    covariance = (leading * excess) @ leading.T + noise * np.eye(len(variances))
    return Covariances(cross=covariance, inner=covariance)


def ppca(*, settings: EvaluateSettings, window_samples: int) -> LinearBaseline:
    """Make the baseline ``ppca`` on smoothed channels, its rank chosen on validation.

    References
    ----------
    Tipping & Bishop (1999), J R Stat Soc B 61:611-622, doi:10.1111/1467-9868.00196.
    """
    return LinearBaseline(
        "ppca",
        strengths=settings.ppca_ranks,
        shape=reduce_rank,
        settings=settings,
        window_samples=window_samples,
    )
