"""Factor analysis: hidden channels follow from a few latents, and every channel has a noise variance of its own."""

from __future__ import annotations

import numpy as np

from neurofm.evaluation.baselines.linear import Covariances, LinearBaseline
from neurofm.evaluation.settings import EvaluateSettings

NAME = "factor_analysis"
_STEPS = 30
"""Of expectation and maximisation, from the solution of PPCA: on 711 units the same validation error as 300 of them."""
_LEAST_NOISE = 1e-3
"""Smallest noise variance, as a share of the channel's own."""


def factorise(measured: Covariances, rank: float) -> Covariances:
    """Covariance of factor analysis by maximum likelihood: L L' + a diagonal of noise variances.

    Unlike in PPCA a unit that fires much, and so is noisy, does not draw the latents to itself.
    """
    variances, axes = measured.eigen
    kept = min(int(rank), len(variances) - 1)
    own = np.diag(measured.inner)
    excess = np.maximum(variances[-kept:] - variances[:-kept].mean(), 0.0)
    loadings = axes[:, -kept:] * np.sqrt(excess)
    noise = np.maximum(own - np.sum(loadings**2, axis=1), _LEAST_NOISE * own)
    for _ in range(_STEPS):
        weighed = loadings / noise[:, None]
        spread = np.linalg.inv(np.eye(kept) + loadings.T @ weighed)
        towards = weighed @ spread
        shared = measured.inner @ towards
        loadings = np.linalg.solve(spread + towards.T @ shared, shared.T).T
        noise = np.maximum(own - np.sum(loadings * shared, axis=1), _LEAST_NOISE * own)
    covariance = loadings @ loadings.T + np.diag(noise)
    return Covariances(cross=covariance, inner=covariance)


def factor_analysis(*, settings: EvaluateSettings, window_samples: int) -> LinearBaseline:
    """Make the baseline ``factor_analysis`` on smoothed channels, its rank chosen on validation.

    References
    ----------
    Yu et al. (2009), J Neurophysiol 102:614-635, doi:10.1152/jn.90941.2008, on smoothed counts and their latents; the
    fit is that of Rubin & Thayer (1982), Psychometrika 47:69-76, doi:10.1007/BF02293851.
    """
    return LinearBaseline(
        NAME,
        strengths=settings.ppca_ranks,
        shape=factorise,
        settings=settings,
        window_samples=window_samples,
        in_turn=True,
    )
