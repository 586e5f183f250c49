"""Poisson regression of each hidden unit's counts on the visible units, smoothed in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import PoissonRegressor

from neurofm.evaluation.baselines.linear import Floats, Indices
from neurofm.evaluation.samples import Windows, learning_windows, masks, rounds
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView

TUNE_EVERY = 4
"""Every fourth window is fitted on while settings are chosen; the final fit takes all."""
_LEAST_COUNT = 1e-12


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """Log-linear regressions of one recording, for one mask."""

    sd_samples: float
    weights: Floats
    """[hidden, visible]"""
    intercept: Floats
    """[hidden]"""
    most: Floats
    """[hidden] the most that a unit fired in a bin of what it was fitted on."""

    def counts(self, smoothed: Floats) -> Floats:
        """Predict counts [..., hidden] from smoothed visible channels [..., visible].

        Beyond the most that was ever seen the exponential is not trusted: a burst of all units would else be
        predicted as hundreds of spikes.
        """
        drive = smoothed @ self.weights.T + self.intercept
        expected: Floats = np.exp(np.minimum(drive, np.log(np.maximum(self.most, 1.0))))
        return expected


class PoissonGlm:
    """The baseline ``poisson_glm``, for spike counts.

    Log link, ridge penalty; smoothing first, then the penalty are chosen per recording by likelihood on validation
    and in cross-validation (`samples.rounds`). It is fitted for the masks that are scored and for no others.

    References
    ----------
    Truccolo et al. (2005), J Neurophysiol 93:1074-1089, doi:10.1152/jn.00697.2004.

    Parameters
    ----------
    settings
        Grids and masks.
    window_samples
        Length of a window; smoothing never reaches beyond one.
    """

    name = "poisson_glm"

    def __init__(self, *, settings: EvaluateSettings, window_samples: int) -> None:
        self.settings = settings
        self.window_samples = window_samples
        self.fitted: dict[tuple[str, bytes], _Fitted] = {}

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Fit each recording by itself; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self.window_samples)
        judges = {part.view.name: part for part in tuning}
        for part in fit:
            tried = [
                (some.take(slice(None, None, TUNE_EVERY)), judge)
                for some, judge in rounds(part, judges[part.view.name])
            ]
            smoothing, penalties = self.settings.smoothing_samples, self.settings.glm_penalties
            middle = penalties[len(penalties) // 2]
            sd_samples = max(smoothing, key=lambda sd: self._likelihood(tried, sd_samples=sd, penalty=middle))
            penalty = max(penalties, key=lambda amount: self._likelihood(tried, sd_samples=sd_samples, penalty=amount))
            for visible, hidden in masks(part.view, self.settings):
                self.fitted[part.view.name, hidden.tobytes()] = _regress(
                    part, visible=visible, hidden=hidden, sd_samples=sd_samples, penalty=penalty
                )

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden units, as expected counts in SDs from the mean; see `Estimator.predict`."""
        del visible_index  # follows from the mask that was fitted
        fitted = self.fitted[view.name, hidden_index.tobytes()]
        counts = fitted.counts(smooth(visible, sd_samples=fitted.sd_samples))
        normaliser = view.normaliser
        z: Floats = (counts - normaliser.mean[hidden_index]) / normaliser.sd[hidden_index]
        return z

    def _likelihood(self, tried: list[tuple[Windows, Windows]], *, sd_samples: float, penalty: float) -> float:
        """Poisson log-likelihood of the judging windows under fits to the others, up to a constant."""
        total = 0.0
        for some, judge in tried:
            observed = judge.values()[judge.counted]
            for visible, hidden in masks(some.view, self.settings):
                fitted = _regress(some, visible=visible, hidden=hidden, sd_samples=sd_samples, penalty=penalty)
                expected = fitted.counts(smooth(judge.z[..., visible], sd_samples=sd_samples))[judge.counted]
                total += float(np.sum(observed[:, hidden] * np.log(np.maximum(expected, _LEAST_COUNT)) - expected))
        return total


def _regress(part: Windows, *, visible: Indices, hidden: Indices, sd_samples: float, penalty: float) -> _Fitted:
    predictors = smooth(part.z[..., visible], sd_samples=sd_samples)[part.counted]
    counts = part.values()[part.counted]
    fits = [
        PoissonRegressor(alpha=penalty, solver="newton-cholesky", max_iter=50).fit(predictors, counts[:, unit])
        for unit in hidden
    ]
    return _Fitted(
        sd_samples=sd_samples,
        weights=np.stack([fit.coef_ for fit in fits]),
        intercept=np.array([fit.intercept_ for fit in fits]),
        most=counts[:, hidden].max(axis=0).astype(np.float64),
    )
