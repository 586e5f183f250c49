"""Factor analysis: hidden channels follow from a few latents, and every channel has a noise variance of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.baselines.linear import Covariances, Floats, Indices, moments
from neurofm.evaluation.baselines.often import often
from neurofm.evaluation.masked import floored_bits
from neurofm.evaluation.samples import Windows, all_of, learning_windows, rounds
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView

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
    if kept < 1:
        return measured  # One channel alone shares nothing.
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


class FactorAnalysis:
    """The baseline ``factor_analysis``, for spike counts, smoothed.

    Smoothing first, then the rank are chosen per recording by Poisson likelihood on validation and in cross-validation
    (`samples.rounds`), as those of the GLM: squared errors in SDs are of the few units that burst, and chose worse
    (.263 against .339 bits/spike on a session of Steinmetz'). Units that seldom fire share nothing (`often`).

    References
    ----------
    Yu et al. (2009), J Neurophysiol 102:614-635, doi:10.1152/jn.90941.2008, on smoothed counts and their latents; the
    fit is that of Rubin & Thayer (1982), Psychometrika 47:69-76, doi:10.1007/BF02293851.

    Parameters
    ----------
    settings
        Grids and masks.
    window_samples
        Length of a window; smoothing never reaches beyond one.
    """

    name = "factor_analysis"

    def __init__(self, *, settings: EvaluateSettings, window_samples: int) -> None:
        self.settings = settings
        self.window_samples = window_samples
        self.fitted: dict[str, tuple[float, Covariances]] = {}

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Fit each recording by itself; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self.window_samples)
        judges = {part.view.name: part for part in tuning}
        ranks = self.settings.ppca_ranks
        for part in fit:
            tried = rounds(part, judges[part.view.name])
            middle = ranks[len(ranks) // 2]
            sd_samples = max(
                self.settings.smoothing_samples, key=lambda sd: self._bits(tried, sd_samples=sd, ranks=[middle])[middle]
            )
            bits = self._bits(tried, sd_samples=sd_samples, ranks=ranks)
            rank = max(ranks, key=bits.__getitem__)
            whole = all_of(part)
            self.fitted[part.view.name] = sd_samples, factorise(_measure(whole, sd_samples=sd_samples), rank)

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden units; see `Estimator.predict`."""
        sd_samples, covariances = self.fitted[view.name]
        weights = covariances.weights(hidden=hidden_index, visible=visible_index)
        return smooth(visible, sd_samples=sd_samples) @ weights.T

    def _bits(
        self, tried: Sequence[tuple[Windows, Windows]], *, sd_samples: float, ranks: Sequence[int]
    ) -> dict[int, float]:
        """Bits of the judging windows under fits to the others, by rank: what is measured is the same for all."""
        total = dict.fromkeys(ranks, 0.0)
        for some, judge in tried:
            measured = _measure(some, sd_samples=sd_samples)
            for rank in ranks:
                self.fitted[some.view.name] = sd_samples, factorise(measured, rank)
                total[rank] += max(floored_bits(self, [judge], settings=self.settings).values())
        return total


def _measure(part: Windows, *, sd_samples: float) -> Covariances:
    """Measure what units share, smoothed; those that seldom fire share nothing."""
    inner = moments(part, sd_samples=sd_samples).covariances().inner
    known = often(part)
    inner = np.where(np.outer(known, known) | np.eye(len(inner), dtype=bool), inner, 0.0)
    return Covariances(cross=inner, inner=inner)
