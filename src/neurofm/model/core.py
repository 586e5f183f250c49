"""Linear core: hidden channels from visible ones by ridge regression in closed form, for any mask.

With x the z-scored signal and s the same signal smoothed in time, the estimate of the hidden channels h from
the visible ones v is::

    x_h(t) = C_xs[h, v] (C_ss[v, v] + ridge * mean_diagonal(C_ss[v, v]) * I)^-1 s_v(t)

Only two [channel, channel] matrices are needed, they add up over recordings, and one pair of them serves every
choice of hidden channels. The ridge is that of Hoerl & Kennard 1970 (doi:10.1080/00401706.1970.10488634); mixing
a recording's own matrices with those of other subjects is the empirical-Bayes shrinkage of an inverse-Wishart
prior (Haff 1980, doi:10.1214/aos/1176345010).
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

    smoothing_samples: float
    """SD of the Gaussian in time; 0 does not smooth."""
    ridge: float
    """Penalty in units of the mean variance of the visible channels."""
    prior_samples: float
    """How many samples of the recording's own weigh as much as the prior of other recordings."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums from which every linear core follows. They add up over recordings and chunks of recordings."""

    samples: float
    ss: Tensor
    """[channel, channel] float64: sum over time of s s'."""
    xs: Tensor
    """[channel, channel] float64: sum over time of x s'."""

    @classmethod
    def zero(cls, channels: int) -> Self:
        """Moments of no data."""
        nothing = torch.zeros(channels, channels, dtype=torch.float64)
        return cls(samples=0.0, ss=nothing, xs=nothing)

    @classmethod
    def total(cls, parts: Iterable[Self], *, channels: int) -> Self:
        """Sum of `parts`, in their order."""
        result = cls.zero(channels)
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
    weight = torch.fft.irfft(torch.fft.rfft(torch.ones(time, 1, dtype=torch.float64), n=length, dim=0) * response,
                             n=length, dim=0)
    return blurred[..., inside, :] / weight[inside]


def moments(parts: Sequence[Tensor], *, valid: Sequence[Tensor], sd_samples: float, channels: int) -> Moments:
    """Compute the moments of contiguous stretches of a recording.

    Parameters
    ----------
    parts
        Each [time, channel] float64, z-scored; smoothing stays within a part.
    valid
        Each [time] bool: which samples count.
    sd_samples
        Smoothing SD.
    channels
        Number of channels, for when there are no parts.
    """
    total = Moments.zero(channels)
    for x, counts in zip(parts, valid, strict=True):
        s = smooth(x, sd_samples=sd_samples)[counts]
        total = total + Moments(samples=float(len(s)), ss=s.T @ s, xs=x[counts].T @ s)
    return total


@dataclass(frozen=True, kw_only=True)
class LinearCore:
    """The linear estimator of one recording."""

    settings: CoreSettings
    ss: Tensor
    """[channel, channel] float64 covariance of the smoothed signal."""
    xs: Tensor
    """[channel, channel] float64 covariance of the signal with the smoothed signal."""

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
        """[visible, hidden] float64 regression weights.

        Parameters
        ----------
        visible, hidden
            int64 channel indices.
        """
        among = self.ss[visible][:, visible]
        # A recording without any variance among its visible channels predicts the mean.
        penalty = self.settings.ridge * among.diagonal().mean().clamp_min(1e-12)
        among = among + penalty * torch.eye(len(visible), dtype=torch.float64)
        return torch.linalg.solve(among, self.xs[hidden][:, visible].T)

    def predict(self, seen: Tensor, *, visible: Tensor, hidden: Tensor) -> Tensor:
        """Estimate hidden channels from the visible ones.

        Parameters
        ----------
        seen
            [window, time, visible] z-scored values of the visible channels.
        visible, hidden
            int64 channel indices.

        Returns
        -------
        [window, time, hidden] float64 in z units.
        """
        smoothed = smooth(seen.double(), sd_samples=self.settings.smoothing_samples)
        return smoothed @ self.weights(visible, hidden)
