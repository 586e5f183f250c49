"""What the linear baselines share: smoothing, second moments, and the choice of settings on validation data.

Each of them predicts a hidden channel as a weighted sum of the visible channels, smoothed in time. The weights
follow from a covariance, so that any set of visible channels is served by one fit; the baselines differ in the
covariance only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.samples import Windows, learning_windows, masks
from neurofm.evaluation.settings import EvaluateSettings
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

    def weights(self, *, hidden: Indices, visible: Indices) -> Floats:
        """[hidden channel, visible channel] of the best linear prediction."""
        solved: Floats = np.linalg.solve(self.inner[np.ix_(visible, visible)], self.cross[np.ix_(hidden, visible)].T)
        return solved.T


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


def smoothing_matrix(samples: int, *, sd_samples: float) -> Floats:
    """[time, time] that smooths a window of `samples` with a Gaussian cut off at the window's edges.

    Each row sums to 1, so that a constant stays a constant up to the edges.
    """
    if sd_samples == 0:
        return np.eye(samples)
    apart = np.arange(samples)[:, None] - np.arange(samples)[None, :]
    kernel = np.exp(-0.5 * (apart / sd_samples) ** 2)
    weights: Floats = kernel / kernel.sum(axis=1, keepdims=True)
    return weights


def smooth(windows: npt.NDArray[np.floating], *, sd_samples: float) -> Floats:
    """Smooth [window, time, channel] along time, within each window."""
    smoothed: Floats = smoothing_matrix(windows.shape[1], sd_samples=sd_samples) @ windows
    return smoothed


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


def total(parts: Iterable[Windows], *, sd_samples: float) -> Moments:
    """Sum products over several recordings' windows."""
    first, *rest = (moments(part, sd_samples=sd_samples) for part in parts)
    return sum(rest, start=first)


class LinearBaseline:
    """A baseline that predicts through weights from a covariance.

    Smoothing and strength are those with the least squared error on the windows to tune on, over the masks
    that are scored.

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
            measured = total(fit, sd_samples=sd_samples).covariances()
            judges = [(part.view, moments(part, sd_samples=sd_samples)) for part in tuning]
            for strength in self.strengths:
                shaped = self.shape(measured, strength)
                error = sum(squared_error(shaped, view, judge, settings=self.settings) for view, judge in judges)
                if error < least:
                    least = error
                    self.sd_samples, self.strength, self.covariances = sd_samples, strength, shaped

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden channels; see `Estimator.predict`."""
        del view  # one covariance serves every recording of the channel set
        weights = self.covariances.weights(hidden=hidden_index, visible=visible_index)
        return smooth(visible, sd_samples=self.sd_samples) @ weights.T


def squared_error(
    covariances: Covariances, view: RecordingView, judge: Moments, *, settings: EvaluateSettings
) -> float:
    """Sum of squared errors over the masks of `view`, on the samples that went into `judge`."""
    return sum(
        judge.squared_error(covariances.weights(hidden=hidden, visible=visible), hidden=hidden, visible=visible)
        for visible, hidden in masks(view, settings)
    )
