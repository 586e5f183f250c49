"""Poisson regression of each hidden unit's counts on the visible units, smoothed in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.baselines.linear import Floats, Indices
from neurofm.evaluation.baselines.newton import poisson_regression
from neurofm.evaluation.baselines.often import often
from neurofm.evaluation.samples import Windows, all_of, learning_windows, masks, rounds
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView

TUNE_EVERY = 4
"""Every fourth window is fitted on while settings are chosen, of recordings of many; the final fit takes all."""
TUNE_WINDOWS = 50
"""So many are fitted on at least, where there are as many."""
_LEAST_COUNT = 1e-12
_NO_VARIANCE = 1e-30
"""Where no visible unit fires often: such components stay 0, and get no weight."""
_LEAST_VARIANCE = 1e-9
"""Of a component, as a share of the first's: fewer samples than components leave some without any."""


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What is chosen on validation."""

    sd_samples: float
    components: int
    """Principal components of the visible units that large populations are regressed on."""
    penalty: float


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

    Log link, ridge penalty; smoothing, then components, then the penalty are chosen per recording by likelihood on
    validation and in cross-validation (`samples.rounds`). It is fitted for the masks that are scored and for no others.

    Where more than `EvaluateSettings.glm_most_units` units are visible, the regressors are their first principal
    components at unit variance instead, since a regression of a thousand units on a thousand others overfits and takes
    hours; settings are then chosen on the first mask alone. Units that seldom fire are not looked at (`often`).

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
                (some.take(slice(None, None, max(1, min(TUNE_EVERY, len(some) // TUNE_WINDOWS)))), judge)
                for some, judge in rounds(part, judges[part.view.name])
            ]
            choice = self._choose(tried)
            for visible, hidden in masks(part.view, self.settings):
                self.fitted[part.view.name, hidden.tobytes()] = self._regress(
                    all_of(part), visible=visible, hidden=hidden, choice=choice
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

    def _choose(self, tried: list[tuple[Windows, Windows]]) -> _Choice:
        settings = self.settings
        large = len(masks(tried[0][0].view, settings)[0][0]) > settings.glm_most_units
        components, penalties = settings.glm_components, settings.glm_penalties
        choice = _Choice(
            sd_samples=settings.smoothing_samples[0],
            components=components[len(components) // 2],
            penalty=penalties[len(penalties) // 2],
        )

        def best(options: list[_Choice]) -> _Choice:
            return max(options, key=lambda one: self._likelihood(tried, choice=one, large=large))

        choice = best([replace(choice, sd_samples=sd_samples) for sd_samples in settings.smoothing_samples])
        if large:
            choice = best([replace(choice, components=count) for count in components])
        return best([replace(choice, penalty=penalty) for penalty in penalties])

    def _likelihood(self, tried: list[tuple[Windows, Windows]], *, choice: _Choice, large: bool) -> float:
        """Poisson log-likelihood of the judging windows under fits to the others, up to a constant."""
        total = 0.0
        for some, judge in tried:
            observed = judge.values()[judge.counted]
            for visible, hidden in masks(some.view, self.settings)[: 1 if large else None]:
                fitted = self._regress(some, visible=visible, hidden=hidden, choice=choice)
                expected = fitted.counts(smooth(judge.z[..., visible], sd_samples=choice.sd_samples))[judge.counted]
                total += float(np.sum(observed[:, hidden] * np.log(np.maximum(expected, _LEAST_COUNT)) - expected))
        return total

    def _regress(self, part: Windows, *, visible: Indices, hidden: Indices, choice: _Choice) -> _Fitted:
        # A regressor that is always 0 gets no weight.
        looked_at = part.z[..., visible] * often(part)[visible]
        predictors = smooth(looked_at, sd_samples=choice.sd_samples)[part.counted]
        counts = part.values()[part.counted][:, hidden].astype(np.float64)
        axes = np.eye(len(visible))
        if len(visible) > self.settings.glm_most_units:
            variances, axes = np.linalg.eigh(predictors.T @ predictors / len(predictors))
            least = max(_LEAST_VARIANCE * variances[-1], _NO_VARIANCE)
            kept = np.maximum(variances[-choice.components :], least)
            axes = axes[:, -choice.components :] / np.sqrt(kept)
            predictors = predictors @ axes
        weights, intercept = poisson_regression(predictors, counts, penalty=choice.penalty)
        return _Fitted(
            sd_samples=choice.sd_samples,
            weights=weights @ axes.T,
            intercept=intercept,
            most=counts.max(axis=0),
        )
