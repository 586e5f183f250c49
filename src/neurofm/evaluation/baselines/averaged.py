"""The average of factor analysis and Poisson regression: one linear, one with a log link."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.baselines.factor_analysis import FactorAnalysis
from neurofm.evaluation.baselines.linear import Floats, Indices
from neurofm.evaluation.baselines.poisson import PoissonGlm
from neurofm.evaluation.masked import choose_floor
from neurofm.evaluation.samples import learning_windows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.windows import RecordingView


class FactorAnalysisGlm:
    """The baseline ``factor_analysis_glm``: the mean of both rates, which err at different times.

    Parameters
    ----------
    linear, glm
        The two, which are fitted before it and to the same recordings; its own cost is only what it adds to theirs.
    settings
        Grids and masks.
    window_samples
        Length of a window.
    """

    name = "factor_analysis_glm"

    def __init__(
        self, linear: FactorAnalysis, glm: PoissonGlm, *, settings: EvaluateSettings, window_samples: int
    ) -> None:
        self.linear = linear
        self.glm = glm
        self.settings = settings
        self.window_samples = window_samples
        self.floor = settings.rate_floors[0]

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Choose the least rate of the linear part, which may be negative else; see `Estimator.fit`."""
        _, tuning = learning_windows(views, window_samples=self.window_samples)
        self.floor = choose_floor(self.linear, tuning, settings=self.settings)

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden units; see `Estimator.predict`."""
        mean, sd = view.normaliser.mean[hidden_index], view.normaliser.sd[hidden_index]
        linear = self.linear.predict(view, visible, visible_index, hidden_index)
        glm = self.glm.predict(view, visible, visible_index, hidden_index)
        averaged: Floats = (np.maximum(linear, (self.floor - 1) * mean / sd) + glm) / 2
        return averaged
