"""Baselines that foretell the end of a window: the mean, what was of late, and an autoregression of components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.row import NULL
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.scores import Floats
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.forecast import shrunk_mean
from neurofm.recording import Modality
from neurofm.windows.often import fired_often

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""How much of the recent distance from the mean is expected to last."""
ORDER = 4
"""Stretches of the past that an autoregression looks at."""
STRONGER = (10.0, 30.0, 100.0)
"""Penalties beyond `EvaluateSettings.ridge_penalties`: the future is noisier than the present."""
_LEAST = 1e-9

Judge = Callable[[Floats], float]
"""How good a prediction [window, future, channel] of the windows to tune on is: higher is better."""


class Forecaster(Protocol):
    """Foretells the last samples of windows of one recording, in SDs."""

    @property
    def name(self) -> str:
        """As it stands in the scoreboard."""

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Choose settings fitted on `fit`, by what `judge` says of predictions of `tuning`; then fit on `everything`.

        None of them is of a test segment.
        """

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """[window, time, channel] what is known of windows -> [window, future, channel] what follows."""


class FlatForecast:
    """The mean in calibration, which is 0 in the normaliser's SDs: the flat forecast of NLB."""

    name = NULL

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Nothing is learned; see `Forecaster.fit`."""
        del fit, tuning, everything, judge
        self._future = future

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Predict 0; see `Forecaster.predict`."""
        return np.zeros((len(known), self._future, known.shape[2]))


class RecentMean:
    """The baseline ``recent_mean``: each channel stays, in part, at its mean of late.

    How far back, by the half of a Gaussian, and in what part are chosen on validation. Units that seldom fire stay at
    their mean, as in ours (`neurofm.windows.often`).
    """

    name = "recent_mean"

    def __init__(self, settings: EvaluateSettings) -> None:
        self._sds = (*settings.smoothing_samples, np.inf)

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Choose; see `Forecaster.fit`."""
        del fit
        self._future, self._looked_at = future, looked_at(everything)
        known, best = tuning.z[:, :-future], -np.inf
        for sd in self._sds:
            self._sd, self._share = sd, 1.0
            recent = self.predict(known)
            for share in SHARES:
                if (found := judge(share * recent)) > best:
                    best, chosen = found, (sd, share)
        self._sd, self._share = chosen

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Predict a constant; see `Forecaster.predict`."""
        back = np.arange(known.shape[1])[::-1]
        weights = (back == 0).astype(np.float64) if self._sd == 0 else np.exp(-0.5 * (back / self._sd) ** 2)
        recent = np.einsum("t,wtc->wc", weights / weights.sum(), known) * self._looked_at
        return np.repeat(self._share * recent[:, None], self._future, axis=1)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    sd_samples: float
    rank: int
    penalty: float


class Autoregression:
    """The baseline ``autoregression``: ridge regression of the future on the past of principal components.

    The past are the means of the last `ORDER` stretches of equal length. That length, the components and the penalty
    are chosen one after the other on validation. Each future sample has its own mean, of
    trials their mean course, shrunk as ours.

    References
    ----------
    Hoerl & Kennard (1970), Technometrics 12:55-67, doi:10.1080/00401706.1970.10488634.
    """

    name = "autoregression"

    def __init__(self, settings: EvaluateSettings) -> None:
        self._settings = settings

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Choose, then fit; see `Forecaster.fit`."""
        settings, known = self._settings, tuning.z[:, :-future]
        grids: Mapping[str, Sequence[float]] = {
            "sd_samples": settings.smoothing_samples,
            "rank": settings.ppca_ranks,
            "penalty": (*settings.ridge_penalties, *STRONGER),
        }
        choice = _Choice(
            sd_samples=settings.smoothing_samples[len(settings.smoothing_samples) // 2],
            rank=settings.ppca_ranks[len(settings.ppca_ranks) // 2],
            penalty=settings.ridge_penalties[-1],
        )
        for name, grid in grids.items():
            found: dict[_Choice, float] = {}
            for value in grid:
                one: _Choice = replace(choice, **{name: value})  # type: ignore[arg-type]  # ranks are whole numbers
                self._regress(fit, choice=one, future=future)
                found[one] = judge(self.predict(known))
            choice = max(found, key=found.__getitem__)
        self._regress(everything, choice=choice, future=future)

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Predict by regression; see `Forecaster.predict`."""
        predicted: Floats = self._mean + np.einsum("wf,ftc->wtc", self._features(known), self._weights)
        return predicted

    def _regress(self, part: Windows, *, choice: _Choice, future: int) -> None:
        self._looked_at = looked_at(part)
        self._stretch = max(1, round(choice.sd_samples))
        known = part.z[:, :-future] * self._looked_at
        flat = known.reshape(-1, known.shape[2]).astype(np.float64)
        self._axes = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, : choice.rank]
        features, later = self._features(known), part.z[:, -future:].astype(np.float64)
        self._mean = shrunk_mean(torch.from_numpy(later)).numpy()
        inner = features.T @ features
        inner += max(choice.penalty * float(np.diag(inner).mean()), _LEAST) * np.eye(len(inner))
        targets = (later - self._mean).reshape(len(later), -1)
        self._weights = np.linalg.solve(inner, features.T @ targets).reshape(-1, *later.shape[1:])

    def _features(self, known: npt.NDArray[np.float32]) -> Floats:
        """[window, stretch x component]; stretches that a window has not are 0."""
        means = []
        for number in range(ORDER):
            stop = known.shape[1] - number * self._stretch
            past = known[:, max(0, stop - self._stretch) : max(0, stop)]
            means.append(past.mean(axis=1) if past.shape[1] else np.zeros((len(known), known.shape[2])))
        features: Floats = (np.stack(means, axis=1) * self._looked_at).astype(np.float64) @ self._axes
        return features.reshape(len(known), -1)


def looked_at(part: Windows) -> npt.NDArray[np.bool_]:
    """Say of which channels the past is looked at: [channel]; usable ones, and units that fire often enough."""
    usable = part.view.usable
    if part.view.modality is not Modality.SPIKES:
        return usable
    return usable & fired_often(part.view)


def forecasts_for(settings: EvaluateSettings) -> list[Forecaster]:
    """Make the baselines for one recording, unfitted."""
    return [FlatForecast(), RecentMean(settings), Autoregression(settings)]
