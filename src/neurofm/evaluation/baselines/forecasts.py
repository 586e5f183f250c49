"""Baselines that foretell the end of a window: the mean, what was of late, and autoregressions.

These are fitted once per set of features: by eigendecomposition for all penalties on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.row import NULL
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.scores import Floats
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.forecast import shrunk_mean, stretches
from neurofm.recording import Modality
from neurofm.windows.often import fired_often

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
"""How much of the recent distance from the mean is expected to last."""
ORDER = 4
"""Stretches of the past that an autoregression looks at."""
STRONGER = (10.0, 30.0, 100.0)
"""Penalties beyond `EvaluateSettings.ridge_penalties`: the future is noisier than the present."""
_ALL = 1e6
"""A penalty that leaves nothing of what it is on."""
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
class _Learned:
    """What regressions of one recording have in common."""

    known: npt.NDArray[np.float32]
    """[window, time, channel]"""
    looked_at: npt.NDArray[np.bool_]
    """[channel]"""
    axes: Floats
    """[channel, component] the one of the largest variance first."""
    mean: Floats
    """[future, channel] of trials their mean course, shrunk as ours."""
    targets: Floats
    """[window, future x channel] distance from it."""

    @classmethod
    def of(cls, part: Windows, *, future: int) -> _Learned:
        seen, later = looked_at(part), part.z[:, -future:].astype(np.float64)
        known = part.z[:, :-future]
        flat = (known * seen).reshape(-1, known.shape[2]).astype(np.float64)
        mean = shrunk_mean(torch.from_numpy(later)).numpy()
        return cls(
            known=known,
            looked_at=seen,
            axes=np.linalg.eigh(flat.T @ flat)[1][:, ::-1],
            mean=mean,
            targets=(later - mean).reshape(len(later), -1),
        )


@dataclass(frozen=True, kw_only=True)
class _Rotated:
    """Features in the basis of their principal axes, in which every ridge penalty is a division."""

    vectors: Floats
    """[feature, axis]"""
    inner: Floats
    """[axis] sums of squares."""

    @classmethod
    def of(cls, features: Floats) -> _Rotated:
        inner, vectors = np.linalg.eigh(features.T @ features)
        return cls(vectors=vectors, inner=np.maximum(inner, 0.0))

    def shrunk(self, penalty: float) -> Floats:
        """[axis, 1] one over the sums of squares and the penalty, a multiple of their mean."""
        return 1 / (self.inner + max(penalty * float(self.inner.mean()), _LEAST))[:, None]


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
        self._learned = _Learned.of(fit, future=future)

        def best(lengths: Sequence[int], ranks: Sequence[int], penalties: Sequence[float]) -> tuple[int, int, float]:
            found: dict[tuple[int, int, float], float] = {}
            for length, rank in product(lengths, ranks):
                self._look(length, rank)
                rotated = self._features(known) @ self._rotated.vectors
                for penalty in penalties:
                    weights = self._rotated.shrunk(penalty) * self._cross
                    found[length, rank, penalty] = judge(self._added(rotated @ weights))
            return max(found, key=found.__getitem__)

        ranks, penalties = settings.ppca_ranks, settings.ridge_penalties
        lengths = list(dict.fromkeys(max(1, round(sd)) for sd in settings.smoothing_samples))
        length, _, _ = best(lengths, [ranks[len(ranks) // 2]], penalties[-1:])
        _, rank, _ = best([length], ranks, penalties[-1:])
        _, _, penalty = best([length], [rank], (*penalties, *STRONGER))
        if everything is not fit:
            self._learned = _Learned.of(everything, future=future)
        self._look(length, rank)
        self._weights = self._rotated.vectors @ (self._rotated.shrunk(penalty) * self._cross)

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Predict by regression; see `Forecaster.predict`."""
        return self._added(self._features(known) @ self._weights)

    def _look(self, length: int, rank: int) -> None:
        """Regress on stretches so long, and so many components, with every penalty."""
        self._stretch, self._rank = length, rank
        features = self._features(self._learned.known)
        self._rotated = _Rotated.of(features)
        self._cross = (features @ self._rotated.vectors).T @ self._learned.targets

    def _features(self, known: npt.NDArray[np.float32]) -> Floats:
        """[window, stretch x component]; stretches that a window has not are 0."""
        means = []
        for number in range(ORDER):
            stop = known.shape[1] - number * self._stretch
            past = known[:, max(0, stop - self._stretch) : max(0, stop)]
            means.append(past.mean(axis=1) if past.shape[1] else np.zeros((len(known), known.shape[2])))
        learned = self._learned
        features: Floats = (np.stack(means, axis=1) * learned.looked_at).astype(np.float64)
        return (features @ learned.axes[:, : self._rank]).reshape(len(known), -1)

    def _added(self, distance: Floats) -> Floats:
        """[window, future x channel] -> [window, future, channel], the mean added."""
        mean = self._learned.mean
        added: Floats = mean + distance.reshape(-1, *mean.shape)
        return added


@dataclass(frozen=True, kw_only=True)
class _Choice:
    rank: int
    penalty: float
    """On the components."""
    own_penalty: float
    """On what sets a channel's weights apart from those of all."""


class OwnAutoregression:
    """The baseline ``autoregression_own``: ridge regression on a channel's own past and that of principal components.

    The past are means over stretches that grow with distance (`neurofm.model.forecast.stretches`). First it is
    found what a channel's own past weighs in all channels together, then, with a penalty, how far each channel is from
    that; both times beside the components, which have a penalty of their own. The components, their penalty, which may
    leave nothing of them, and the other one are chosen one after the other on validation.

    References
    ----------
    Hoerl & Kennard (1970), as `Autoregression`; components are partialled out as by Frisch & Waugh (1933), Econometrica
    1:387-401, doi:10.2307/1907330.
    """

    name = "autoregression_own"

    def __init__(self, settings: EvaluateSettings) -> None:
        self._settings = settings

    def fit(self, fit: Windows, tuning: Windows, everything: Windows, *, future: int, judge: Judge) -> None:
        """Choose, then fit; see `Forecaster.fit`."""
        settings = self._settings
        self._learned = _Learned.of(fit, future=future)
        past = self._past(tuning.z[:, :-future])

        def best(ranks: Sequence[int], penalties: Sequence[float], own_penalties: Sequence[float]) -> _Choice:
            found: dict[_Choice, float] = {}
            for rank in ranks:
                self._look(rank)
                for penalty, own_penalty in product(penalties, own_penalties):
                    self._solve(penalty, own_penalty)
                    choice = _Choice(rank=rank, penalty=penalty, own_penalty=own_penalty)
                    found[choice] = judge(self._predict(past))
            return max(found, key=found.__getitem__)

        ranks, middling = settings.ppca_ranks, settings.ridge_penalties[-1:]
        penalties = (*settings.ridge_penalties, *STRONGER, _ALL)
        rank = best(ranks, middling, middling).rank
        penalty = best([rank], penalties, middling).penalty
        chosen = best([rank], [penalty], penalties)
        if everything is not fit:
            self._learned = _Learned.of(everything, future=future)
        self._look(chosen.rank)
        self._solve(chosen.penalty, chosen.own_penalty)

    def predict(self, known: npt.NDArray[np.float32]) -> Floats:
        """Predict by regression; see `Forecaster.predict`."""
        return self._predict(self._past(known))

    def _past(self, known: npt.NDArray[np.float32]) -> Floats:
        """[window, stretch, channel] means."""
        past: Floats = stretches(torch.from_numpy(known * self._learned.looked_at)).numpy().astype(np.float64)
        return past

    def _components(self, past: Floats) -> Floats:
        """[window, stretch x component] means of components."""
        return (past @ self._learned.axes[:, : self._rank]).reshape(len(past), -1)

    def _look(self, rank: int) -> None:
        """Gather what the regression on so many components, with any penalties, is made of."""
        self._rank = rank
        past = self._past(self._learned.known)
        windows, lags, channels = past.shape
        shared = self._components(past)
        self._rotated = _Rotated.of(shared)
        shared = shared @ self._rotated.vectors
        # By channel its own past, and what is to be foretold: [channel, window, stretch or future].
        own = np.ascontiguousarray(past.transpose(2, 0, 1))
        later = self._learned.targets.reshape(windows, -1, channels).transpose(2, 0, 1)
        both = np.concatenate([own, later], axis=2)
        self._across = shared.T @ both  # [channel, axis, stretch and future]
        self._along = own.transpose(0, 2, 1) @ both  # [channel, stretch, stretch and future]
        self._lags = lags

    def _solve(self, penalty: float, own_penalty: float) -> None:
        """Weigh the past of channels, after the components are partialled out of it, and then the components."""
        lags, shrunk = self._lags, self._rotated.shrunk(penalty)
        left = self._along - self._across[..., :lags].transpose(0, 2, 1) @ (shrunk * self._across)
        inner, cross = left[..., :lags], left[..., lags:]
        scale = float(np.einsum("cll->", self._along[..., :lags])) / (len(inner) * lags)
        identity = np.eye(lags)
        # The least penalty, for what the components explain wholly.
        common = np.linalg.solve(inner.mean(axis=0) + (1e-6 * scale + _LEAST) * identity, cross.mean(axis=0))
        apart = np.linalg.solve(inner + (own_penalty * scale + _LEAST) * identity, cross - inner @ common)
        self._own = common + apart  # [channel, stretch, future]
        self._shared = shrunk * (self._across[..., lags:] - self._across[..., :lags] @ self._own)

    def _predict(self, past: Floats) -> Floats:
        shared = self._components(past) @ self._rotated.vectors
        distance = shared @ self._shared + past.transpose(2, 0, 1) @ self._own
        predicted: Floats = self._learned.mean + distance.transpose(1, 2, 0)
        return predicted


def looked_at(part: Windows) -> npt.NDArray[np.bool_]:
    """Say of which channels the past is looked at: [channel]; usable ones, and units that fire often enough."""
    usable = part.view.usable
    if part.view.modality is not Modality.SPIKES:
        return usable
    return usable & fired_often(part.view)


def forecasts_for(settings: EvaluateSettings) -> list[Forecaster]:
    """Make the baselines for one recording, unfitted."""
    return [FlatForecast(), RecentMean(settings), Autoregression(settings), OwnAutoregression(settings)]
