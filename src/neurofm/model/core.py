"""Linear core: hidden channels from visible ones by ridge regression in closed form, for any mask.

With x the z-scored signal and s the same signal smoothed in time at one or several scales, the estimate of the
hidden channels h from the visible ones v is::

    x_h(t) = C_xs[h, v] (C_ss[v, v] + ridge * mean_diagonal(C_ss[v, v]) * I)^-1 s_v(t)

where v stands for the visible channels at every scale. Only two matrices are needed, they add up over
recordings, and one pair of them serves every choice of hidden channels. The ridge is that of Hoerl & Kennard 1970
(doi:10.1080/00401706.1970.10488634); mixing a recording's own matrices with those of other subjects is the
empirical-Bayes shrinkage of an inverse-Wishart prior (Haff 1980, doi:10.1214/aos/1176345010).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_REACH_SD = 4.0
"""Smoothing kernels end this many SDs from their centre."""


@dataclass(frozen=True, kw_only=True)
class CoreSettings:
    """How a linear core is computed; chosen on validation data."""

    smoothing_samples: tuple[float, ...]
    """SDs of the Gaussians in time, one per scale; 0 does not smooth."""
    ridge: float
    """Penalty in units of the mean variance of the visible channels."""
    prior_samples: float
    """How many samples of the recording's own weigh as much as the prior of other recordings."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums from which every linear core follows. They add up over recordings and chunks of recordings."""

    samples: float
    ss: Tensor
    """[feature, feature] float64: sum over time of s s'. Features are all channels at the first scale, then all
    at the next."""
    xs: Tensor
    """[channel, feature] float64: sum over time of x s'."""

    @classmethod
    def zero(cls, *, channels: int, scales: int) -> Self:
        """Moments of no data."""
        features = scales * channels
        return cls(
            samples=0.0,
            ss=torch.zeros(features, features, dtype=torch.float64),
            xs=torch.zeros(channels, features, dtype=torch.float64),
        )

    @classmethod
    def total(cls, parts: Iterable[Self], *, channels: int, scales: int) -> Self:
        """Sum of `parts`, in their order."""
        result = cls.zero(channels=channels, scales=scales)
        for part in parts:
            result = result + part
        return result

    def __add__(self, other: Self) -> Self:
        return type(self)(samples=self.samples + other.samples, ss=self.ss + other.ss, xs=self.xs + other.xs)

    def __sub__(self, other: Self) -> Self:
        return type(self)(samples=self.samples - other.samples, ss=self.ss - other.ss, xs=self.xs - other.xs)


def smooth(x: Tensor, *, sd_samples: float) -> Tensor:
    """Smooth along time with a Gaussian that is cut off and renormalised at the edges.

    Parameters
    ----------
    x
        [..., time, channel] float64
    sd_samples
        SD of the Gaussian; 0 returns `x`.

    Returns
    -------
    [..., time, channel] float64; no value depends on anything outside `x`.
    """
    if sd_samples == 0:
        return x
    time = x.shape[-2]
    reach = min(math.ceil(_REACH_SD * sd_samples), time - 1)
    lag = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (lag / sd_samples) ** 2)
    # Padded to a length where the circular convolution of the FFT cannot wrap round.
    length = 1 << (time + 2 * reach - 1).bit_length()
    response = torch.fft.rfft(kernel, n=length).unsqueeze(-1)
    inside = slice(reach, reach + time)
    blurred = torch.fft.irfft(torch.fft.rfft(x, n=length, dim=-2) * response, n=length, dim=-2)
    weight = torch.fft.irfft(
        torch.fft.rfft(torch.ones(time, 1, dtype=torch.float64), n=length, dim=0) * response, n=length, dim=0
    )
    smoothed: Tensor = blurred[..., inside, :] / weight[inside]
    return smoothed


def smooth_scales(x: Tensor, *, sds_samples: Sequence[float]) -> Tensor:
    """[..., time, channel] -> [..., time, scale, channel]: `smooth` at every scale."""
    return torch.stack([smooth(x, sd_samples=sd) for sd in sds_samples], dim=-2)


def moments(
    parts: Sequence[Tensor], *, valid: Sequence[Tensor], sds_samples: Sequence[float], channels: int
) -> Moments:
    """Compute the moments of contiguous stretches of a recording.

    Parameters
    ----------
    parts
        Each [time, channel] float64, z-scored; smoothing stays within a part.
    valid
        Each [time] bool: which samples count.
    sds_samples
        Smoothing SD per scale.
    channels
        Number of channels, for when there are no parts.
    """
    total = Moments.zero(channels=channels, scales=len(sds_samples))
    for x, counts in zip(parts, valid, strict=True):
        s = smooth_scales(x, sds_samples=sds_samples)[counts].flatten(1)
        total = total + Moments(samples=float(len(s)), ss=s.T @ s, xs=x[counts].T @ s)
    return total


@dataclass(frozen=True, kw_only=True)
class LinearCore:
    """The linear estimator of one recording."""

    settings: CoreSettings
    ss: Tensor
    """[feature, feature] float64 covariance of the smoothed signals."""
    xs: Tensor
    """[channel, feature] float64 covariance of the signal with the smoothed signals."""

    @classmethod
    def fit(cls, own: Moments, prior: Moments, *, settings: CoreSettings) -> Self:
        """Mix a recording's own moments with those of other recordings of the same channels.

        Parameters
        ----------
        own
            From samples of the recording that may be looked at.
        prior
            From other recordings; empty (no samples) where there are none.
        settings
            Smoothing must be the one that both moments were computed with.
        """
        weight = settings.prior_samples if prior.samples else 0.0
        share = weight / max(prior.samples, 1.0)
        total = max(weight + own.samples, 1.0)
        return cls(settings=settings, ss=(own.ss + share * prior.ss) / total, xs=(own.xs + share * prior.xs) / total)

    def weights(self, visible: Tensor, hidden: Tensor) -> Tensor:
        """Solve for the regression weights.

        Parameters
        ----------
        visible, hidden
            int64 channel indices.

        Returns
        -------
        [scale * visible, hidden] float64
        """
        features = self._features(visible)
        # Copies, which `index_select` makes fastest; a fifth to a third less time than indexing and adding an identity.
        among = self.ss.index_select(0, features).index_select(1, features)
        # A recording without any variance among its visible channels predicts the mean.
        among.diagonal().add_(self.settings.ridge * among.diagonal().mean().clamp_min(1e-12))
        across = self.xs.index_select(0, hidden).index_select(1, features)
        solved: Tensor = torch.linalg.solve(among, across.T)
        return solved

    def components(self, visible: Tensor, *, count: int) -> Tensor:
        """Find the principal components of the smoothed visible channels.

        Parameters
        ----------
        visible
            int64 channel indices.
        count
            Components wanted; those beyond the number of features are zero.

        Returns
        -------
        [scale * visible, count] float64, largest variance first; each component's largest weight is positive, so
        that its sign does not depend on the library.
        """
        features = self._features(visible)
        _, vectors = torch.linalg.eigh(self.ss[features][:, features])
        vectors = vectors.flip(1)[:, :count]
        largest = vectors.abs().argmax(dim=0, keepdim=True)
        vectors = vectors * vectors.gather(0, largest).sign()
        return torch.nn.functional.pad(vectors, (0, count - vectors.shape[1]))

    def _features(self, channels: Tensor) -> Tensor:
        """Return the indices of the features of some channels, at every scale."""
        scales = range(len(self.settings.smoothing_samples))
        return torch.cat([channels + scale * len(self.xs) for scale in scales])

    def correlations(self, visible: Tensor, hidden: Tensor) -> Tensor:
        """[hidden, visible] float32 correlation of each pair of channels at the finest scale."""
        channels = len(self.xs)
        covariance = self.ss[:channels, :channels]
        spread = covariance.diagonal().clamp_min(1e-12).sqrt()
        return (covariance / torch.outer(spread, spread))[hidden][:, visible].float()

    def estimate(self, smoothed: Tensor, *, visible: Tensor, hidden: Tensor) -> Tensor:
        """Estimate hidden channels from the smoothed visible ones.

        Parameters
        ----------
        smoothed
            [..., scale, visible] float64: `smooth_scales` of the visible channels.
        visible, hidden
            int64 channel indices.

        Returns
        -------
        [..., hidden] float64 in z units.
        """
        return smoothed.flatten(-2) @ self.weights(visible, hidden)
