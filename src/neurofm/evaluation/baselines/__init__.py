"""Baselines: what any model has to beat. Each is one module; `baselines_for` says which run where."""

from __future__ import annotations

from neurofm.evaluation.baselines.averaged import FactorAnalysisGlm
from neurofm.evaluation.baselines.calibrated import GaussianCalibrated
from neurofm.evaluation.baselines.factor_analysis import FactorAnalysis
from neurofm.evaluation.baselines.gaussian import gaussian
from neurofm.evaluation.baselines.null import Null
from neurofm.evaluation.baselines.poisson import PoissonGlm
from neurofm.evaluation.baselines.ppca import ppca
from neurofm.evaluation.baselines.ridge import ridge
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality


def baselines_for(
    modality: Modality, *, recordings: int, settings: EvaluateSettings, window_samples: int
) -> list[Estimator]:
    """Make the baselines for one channel set, unfitted, in the order in which they are to be fitted.

    Parameters
    ----------
    modality
        Spike counts get factor analysis, a Poisson regression and the average of the two as well.
    recordings
        How many recordings the channel set has in the fold: with one, there is no prior to calibrate and
        ``gaussian_calibrated`` would equal ``gaussian``.
    settings, window_samples
        See the baselines.
    """
    chosen: list[Estimator] = [
        Null(),
        ppca(settings=settings, window_samples=window_samples),
        gaussian(settings=settings, window_samples=window_samples),
        ridge(settings=settings, window_samples=window_samples),
    ]
    if recordings > 1:
        chosen.append(GaussianCalibrated(settings=settings, window_samples=window_samples))
    if modality is Modality.SPIKES:
        linear = FactorAnalysis(settings=settings, window_samples=window_samples)
        glm = PoissonGlm(settings=settings, window_samples=window_samples)
        averaged = FactorAnalysisGlm(linear, glm, settings=settings, window_samples=window_samples)
        chosen += [linear, glm, averaged]
    return chosen


__all__ = [
    "FactorAnalysis",
    "FactorAnalysisGlm",
    "GaussianCalibrated",
    "Null",
    "PoissonGlm",
    "baselines_for",
    "gaussian",
    "ppca",
    "ridge",
]
