"""The Gaussian of the training subjects, updated with the scored recording's own calibration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.baselines.gaussian import shrink
from neurofm.evaluation.baselines.linear import (
    Covariances,
    Floats,
    Indices,
    Moments,
    moments,
    squared_error,
    total,
)
from neurofm.evaluation.samples import all_of, apart, cut, learning_windows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView


class GaussianCalibrated:
    """The baseline ``gaussian_calibrated``: an empirical-Bayes mean of two covariances, then as ``gaussian``.

    The training recordings' covariance counts as `prior_samples` samples beside those of the recording's own
    calibration; smoothing, weight and shrinkage are chosen on the validation recordings, whose calibration is apart
    from what judges, or where there are none on the end of each calibration, with what came before it. It is the
    posterior mean under an inverse-Wishart prior up to its constant (Chen 1979, J R Stat Soc B 41:235-248,
    doi:10.1111/j.2517-6161.1979.tb01078.x).

    Parameters
    ----------
    settings
        Grids and masks.
    window_samples
        Length of a window; smoothing never reaches beyond one.
    """

    name = "gaussian_calibrated"

    def __init__(self, *, settings: EvaluateSettings, window_samples: int) -> None:
        self.settings = settings
        self.window_samples = window_samples
        self.sd_samples = 0.0
        self.prior_samples = 0.0
        self.shrinkage = settings.shrinkages[0]
        self.prior: Moments

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Fit on the recordings of one channel set; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self.window_samples)
        least = np.inf
        for sd_samples in self.settings.smoothing_samples:
            prior = total(moments(part, sd_samples=sd_samples) for part in fit)
            judges = [
                (part.view, self._own(part.view, sd_samples=sd_samples), moments(part, sd_samples=sd_samples))
                for part in map(apart, tuning)
            ]
            for worth, shrinkage in itertools.product(self.settings.prior_samples, self.settings.shrinkages):
                error = sum(
                    squared_error(
                        _update(prior, own, worth=worth, shrinkage=shrinkage), view, judge, settings=self.settings
                    )
                    for view, own, judge in judges
                )
                if error < least:
                    least = error
                    self.sd_samples, self.prior_samples, self.shrinkage = sd_samples, worth, shrinkage
        # Without validation the end of what may be fitted on chose, and is then fitted on, too.
        self.prior = total(moments(all_of(part), sd_samples=self.sd_samples) for part in fit)

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden channels; see `Estimator.predict`."""
        own = self._own(view, sd_samples=self.sd_samples)
        covariances = _update(self.prior, own, worth=self.prior_samples, shrinkage=self.shrinkage)
        weights = covariances.weights(hidden=hidden_index, visible=visible_index)
        return smooth(visible, sd_samples=self.sd_samples) @ weights.T

    def _own(self, view: RecordingView, *, sd_samples: float) -> Moments:
        segments = view.roles.calibration
        # A calibration shorter than a window is known whole, as it is to our model.
        longest = max((part.stop - part.start for part in segments), default=self.window_samples)
        calibration = cut(view, segments, window_samples=min(self.window_samples, longest))
        return moments(calibration, sd_samples=sd_samples)


def _update(prior: Moments, own: Moments, *, worth: float, shrinkage: float) -> Covariances:
    # A recording without calibration has nothing of its own: the prior alone remains.
    weight = max(worth, 1.0)
    return shrink((prior.worth(weight) + own).covariances(), shrinkage)
