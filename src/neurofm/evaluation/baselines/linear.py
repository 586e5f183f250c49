"""What the linear baselines share: smoothing, second moments, and the choice of settings on validation data.

Each of them predicts a hidden channel as a weighted sum of the visible channels, smoothed in time. The weights
follow from a covariance, so that any set of visible channels is served by one fit; the baselines differ in the
covariance only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.samples import Windows, all_of, chunks, learning_windows, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.windows import RecordingView

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Covariances:
    """What the weights follow from, in squared SDs."""

    cross: Floats
    """[channel, channel] of a hidden channel (row) with a visible one, smoothed (column)."""
    inner: Floats
    """[channel, channel] of the visible channels, smoothed."""

    @cached_property
    def eigen(self) -> tuple[Floats, Floats]:
        """Variances [axis], smallest first, and axes [channel, axis] of `inner`; found once, for all ranks."""
        variances, axes = np.linalg.eigh(self.inner)
        return variances, axes

    def weights(self, *, hidden: Indices, visible: Indices) -> Floats:
        """[hidden channel, visible channel] of the best linear prediction."""
        return np.linalg.solve(self.inner[np.ix_(visible, visible)], self.cross[np.ix_(hidden, visible)].T).T.astype(
            np.float64
        )


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums of products over samples; sums over recordings add."""

    pairs: Floats
    """[channel, channel] in how many samples both channels were usable."""
    smoothed: Floats
    """[channel, channel] smoothed times smoothed."""
    raw_smoothed: Floats
    """[channel, channel] raw (row) times smoothed (column)."""
    raw: Floats
    """[channel] raw times raw."""

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            pairs=self.pairs + other.pairs,
            smoothed=self.smoothed + other.smoothed,
            raw_smoothed=self.raw_smoothed + other.raw_smoothed,
            raw=self.raw + other.raw,
        )

    def __sub__(self, other: Moments) -> Moments:
        return self + other.scaled(-1.0)

    def scaled(self, factor: float) -> Moments:
        """Multiply every sum."""
        return Moments(
            pairs=self.pairs * factor,
            smoothed=self.smoothed * factor,
            raw_smoothed=self.raw_smoothed * factor,
            raw=self.raw * factor,
        )

    def worth(self, samples: float) -> Moments:
        """Scale to the weight of `samples` samples; the means of products stay."""
        return self.scaled(samples / max(float(self.pairs.max()), 1.0))

    def covariances(self) -> Covariances:
        """Means of products. Channels that were never usable get unit variance and no covariance."""
        pairs = np.maximum(self.pairs, 1.0)
        inner = self.smoothed / pairs
        return Covariances(
            cross=self.raw_smoothed / pairs, inner=inner + np.diag((np.diag(self.pairs) == 0).astype(np.float64))
        )

    def squared_error(self, weights: Floats, *, hidden: Indices, visible: Indices) -> float:
        """Sum of squared errors of predictions with `weights` over the samples that went into the moments."""
        explained = np.sum(weights * self.raw_smoothed[np.ix_(hidden, visible)])
        spent = np.sum((weights @ self.smoothed[np.ix_(visible, visible)]) * weights)
        return float(self.raw[hidden].sum() - 2 * explained + spent)


def moments(windows: Windows, *, sd_samples: float) -> Moments:
    """Sum products over the counted samples of one recording's windows."""
    raw = windows.z[windows.counted].astype(np.float64)
    smoothed = smooth(windows.z, sd_samples=sd_samples)[windows.counted]
    usable = windows.view.usable.astype(np.float64)
    return Moments(
        pairs=len(raw) * np.outer(usable, usable),
        smoothed=smoothed.T @ smoothed,
        raw_smoothed=raw.T @ smoothed,
        raw=np.einsum("tc,tc->c", raw, raw),
    )


def total(parts: Iterable[Moments]) -> Moments:
    """Sum over several recordings."""
    first, *rest = parts
    return sum(rest, start=first)


class LinearBaseline:
    """A baseline that predicts through weights from a covariance.

    Smoothing and strength are those with the least squared error on validation and in cross-validation over what
    is fitted on (`samples.chunks`), for the masks that are scored. Without validation segments it is tuned on a part
    of what it may be fitted on, and then fitted on all of it.

    Parameters
    ----------
    name
        As it stands in the scoreboard.
    strengths
        Values of the one setting that `shape` takes: a penalty, a shrinkage, a rank.
    shape
        Makes the model's covariances of the measured ones.
    settings
        Masks and smoothing.
    window_samples
        Length of a window; smoothing never reaches beyond one.
    """

    def __init__(
        self,
        name: str,
        *,
        strengths: Sequence[float],
        shape: Callable[[Covariances, float], Covariances],
        settings: EvaluateSettings,
        window_samples: int,
    ) -> None:
        self.name = name
        self.strengths = strengths
        self.shape = shape
        self.settings = settings
        self.window_samples = window_samples
        self.sd_samples = 0.0
        self.strength = strengths[0]
        self.covariances: Covariances

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Fit on the recordings of one channel set; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self.window_samples)
        least = np.inf
        for sd_samples in self.settings.smoothing_samples:
            everything, rounds = self._rounds(fit, tuning, sd_samples=sd_samples)
            for strength in self.strengths:
                error = sum(
                    squared_error(self.shape(measured, strength), view, judge, settings=self.settings)
                    for measured, view, judge in rounds
                )
                if error < least:
                    least = error
                    self.sd_samples, self.strength = sd_samples, strength
                    self.covariances = self.shape(everything, strength)
        whole = [all_of(part) for part in fit]
        if sum(map(len, whole)) > sum(map(len, fit)):  # Our model describes a recording from all of it, too.
            measured = total(moments(part, sd_samples=self.sd_samples) for part in whole)
            self.covariances = self.shape(measured.covariances(), self.strength)

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden channels; see `Estimator.predict`."""
        del view  # one covariance serves every recording of the channel set
        weights = self.covariances.weights(hidden=hidden_index, visible=visible_index)
        return smooth(visible, sd_samples=self.sd_samples) @ weights.T

    def _rounds(
        self, fit: Sequence[Windows], tuning: Sequence[Windows], *, sd_samples: float
    ) -> tuple[Covariances, list[tuple[Covariances, RecordingView, Moments]]]:
        """Covariances of all that is fitted on, and per round those fitted, with a recording that judges them."""
        held_out = [[(part.view, moments(part, sd_samples=sd_samples)) for part in chunk] for chunk in chunks(fit)]
        everything = total(moments(part, sd_samples=sd_samples) for part in fit)
        rounds = [(everything.covariances(), part.view, moments(part, sd_samples=sd_samples)) for part in tuning]
        for chunk in held_out:
            rest = (everything - total(judge for _, judge in chunk)).covariances()
            rounds += [(rest, view, judge) for view, judge in chunk]
        return everything.covariances(), rounds


def squared_error(
    covariances: Covariances, view: RecordingView, judge: Moments, *, settings: EvaluateSettings
) -> float:
    """Sum of squared errors over the masks of `view`, on the samples that went into `judge`."""
    return sum(
        judge.squared_error(covariances.weights(hidden=hidden, visible=visible), hidden=hidden, visible=visible)
        for visible, hidden in masks(view, settings)
    )
