"""Stationary prior: the covariance between channels at every lag, pooled over recordings or held for one of them.

What is summed are lagged products, which add up over recordings and leave a recording out by adding up the others.
From them come the covariance S and the cross-spectra G(f), smoothed by the lag window of Parzen (1961,
doi:10.1080/00401706.1961.10489939), whose spectral window is never negative, and shrunk towards white noise (Ledoit &
Wolf 2004, doi:10.1016/S0047-259X(03)00096-4, here with a fixed weight).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from neurofm.errors import UserError

_LEAST_POWER = 1e-6
"""Smallest eigenvalue of a cross-spectrum, in units of the mean variance of a channel."""


@dataclass(frozen=True, kw_only=True)
class LagSums:
    """Sums of products of samples up to a largest lag. They add up over recordings and stretches of recordings."""

    pairs: Tensor
    """[lag + 1] float64: pairs of samples that were summed."""
    products: Tensor
    """[lag + 1, channel, channel] float64: sum over time of x(t + lag) x(t)'."""

    @classmethod
    def zero(cls, *, channels: int, lags: int) -> Self:
        """Make the sums of no data."""
        return cls(
            pairs=torch.zeros(lags + 1, dtype=torch.float64),
            products=torch.zeros(lags + 1, channels, channels, dtype=torch.float64),
        )

    @classmethod
    def total(cls, parts: Iterable[Self], *, channels: int, lags: int) -> Self:
        """Add up `parts`, in their order."""
        result = cls.zero(channels=channels, lags=lags)
        for part in parts:
            result = result + part
        return result

    def __add__(self, other: Self) -> Self:
        return type(self)(pairs=self.pairs + other.pairs, products=self.products + other.products)

    def __sub__(self, other: Self) -> Self:
        """Take out what is in the sums. Pairs are exact; products are so but for rounding."""
        return type(self)(pairs=self.pairs - other.pairs, products=self.products - other.products)

    def of(self, channels: Tensor) -> LagSums:
        """Return the sums of some channels, int64 indices."""
        return LagSums(pairs=self.pairs, products=self.products[:, channels][..., channels])


def lag_sums(parts: Sequence[Tensor], *, valid: Sequence[Tensor], lags: int, channels: int) -> LagSums:
    """Sum the lagged products of contiguous stretches of a recording; no product reaches across their borders.

    Parameters
    ----------
    parts
        Each [time, channel] float64, z-scored.
    valid
        Each [time] bool: which samples count.
    lags
        Largest lag in samples.
    channels
        Number of channels, for when there are no parts.
    """
    total = LagSums.zero(channels=channels, lags=lags)
    for x, counts in zip(parts, valid, strict=True):
        known = torch.where(counts[:, None], x.double(), 0.0)
        times = range(min(lags, len(x) - 1) + 1)
        for lag in times:
            total.pairs[lag] += float((counts[lag:] & counts[: len(x) - lag]).sum())
            total.products[lag] += known[lag:].T @ known[: len(x) - lag]
    return total


def parzen(lags: int) -> Tensor:
    """[lag + 1] float64: Parzen's lag window, 1 at lag 0 and 0 from `lags` + 1 on."""
    at = torch.arange(lags + 1, dtype=torch.float64) / (lags + 1)
    return torch.where(at <= 0.5, 1 - 6 * at**2 * (1 - at), 2 * (1 - at) ** 3)


@dataclass(frozen=True, kw_only=True)
class PriorSettings:
    """How lagged products become a prior."""

    lags: int
    """Largest lag, where Parzen's window ends."""
    fft_samples: int
    """Frequencies are those of an FFT of this length. With `window + lags` or more of them the covariance of a window
    is exactly block Toeplitz; fewer let its ends see one another."""
    shrinkage: float
    """Share of white noise in the spectra; every lag is multiplied by the rest, so they stay positive definite."""
    covariance_shrinkage: float = 0.02
    """The same for the covariance."""


@dataclass(frozen=True, kw_only=True)
class StationaryPrior:
    """What is expected of a window before it is seen."""

    covariance: Tensor
    """[channel, channel] float"""
    spectra: Tensor
    """[frequency, channel, channel] complex, Hermitian and positive definite: G(f), whose mean over all frequencies of
    the FFT is the covariance at lag 0."""
    fft_samples: int
    own_samples: float = 0.0
    """Samples of the recording itself that are in it."""

    @classmethod
    def fit(cls, sums: LagSums, *, settings: PriorSettings) -> Self:
        """Estimate the prior from lagged products.

        Parameters
        ----------
        sums
            Of samples that may be looked at, at least up to `settings.lags`.

        Raises
        ------
        UserError
            If there are no samples or fewer lags than asked for.
        """
        if len(sums.pairs) <= settings.lags:
            raise UserError(
                f"a prior with {settings.lags} lags cannot come from sums up to lag {len(sums.pairs) - 1}.",
                mend="sum lagged products up to the same lag",
            )
        if sums.pairs[0] == 0:
            raise UserError("a prior needs samples, but there are 0.", mend="give it at least one recording")
        channels = sums.products.shape[-1]
        lagged = sums.products[: settings.lags + 1] / sums.pairs[: settings.lags + 1, None, None].clamp_min(1.0)
        identity = torch.eye(channels, dtype=torch.float64)
        kept = settings.covariance_shrinkage
        return cls(
            covariance=(1 - kept) * (lagged[0] + lagged[0].T) / 2 + kept * identity,
            spectra=spectra_of(lagged, fft_samples=settings.fft_samples, shrinkage=settings.shrinkage),
            fft_samples=settings.fft_samples,
        )

    @classmethod
    def white(cls, *, channels: int, fft_samples: int) -> Self:
        """Expect white noise of variance 1 in every channel: for channels of which no other recording is known."""
        identity = torch.eye(channels, dtype=torch.float64)
        return cls(
            covariance=identity,
            spectra=identity.to(torch.complex128).repeat(fft_samples // 2 + 1, 1, 1),
            fft_samples=fft_samples,
        )

    @cached_property
    def precision(self) -> Tensor:
        """[frequency, channel, channel] complex: inverse of the spectra, without gradients; kept."""
        inverse: Tensor = torch.linalg.inv(self.spectra.detach())
        return inverse

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.covariance.shape[-1]

    def towards_separable(self, share: float) -> StationaryPrior:
        """Draw the spectra towards the channels' mean spectrum times their covariance.

        That has one rhythm for all channels and no delays between them. Of few samples it is far better known than the
        spectra between all pairs.

        Parameters
        ----------
        share
            0 keeps the spectra, 1 has the separable ones in their place.
        """
        power = self.spectra.diagonal(dim1=-2, dim2=-1).real.mean(dim=-1)
        # Every frequency of the FFT stands for two of its bins, but for 0 and half the rate.
        bins = torch.full_like(power, 2.0)
        bins[0] = 1.0
        if self.fft_samples % 2 == 0:
            bins[-1] = 1.0
        shape = power * bins.sum() / (bins * power).sum()
        separable = shape[:, None, None] * self.covariance.to(self.spectra)
        return replace(self, spectra=(1 - share) * self.spectra + share * separable)

    def to(self, like: Tensor) -> StationaryPrior:
        """Return the prior on the device and in the precision of a real tensor."""
        return StationaryPrior(
            covariance=self.covariance.to(like),
            spectra=self.spectra.to(device=like.device, dtype=like.dtype.to_complex()),
            fft_samples=self.fft_samples,
            own_samples=self.own_samples,
        )


def spectra_of(lagged: Tensor, *, fft_samples: int, shrinkage: float) -> Tensor:
    """Turn lagged covariances into cross-spectra.

    Parameters
    ----------
    lagged
        [..., lag + 1, channel, channel] real: E[x(t + lag) x(t)'].
    fft_samples
        Length of the FFT.
    shrinkage
        Share of white noise of variance 1.

    Returns
    -------
    [..., frequency, channel, channel] complex, Hermitian; eigenvalues that sampling noise made negative are lifted to
    a small positive one.
    """
    lags = lagged.shape[-3] - 1
    window = parzen(lags).to(lagged)[:, None, None]
    # E[x(t - lag) x(t)'] is the transpose of E[x(t + lag) x(t)'], so the spectrum is twice the Hermitian part.
    half = torch.fft.fft(window * lagged, n=fft_samples, dim=-3)[..., : fft_samples // 2 + 1, :, :]
    both = half + half.mH - lagged[..., :1, :, :]
    identity = torch.eye(lagged.shape[-1], dtype=lagged.dtype, device=lagged.device)
    return positive((1 - shrinkage) * both + shrinkage * identity)


def positive(spectra: Tensor) -> Tensor:
    """Lift eigenvalues of Hermitian matrices [..., channel, channel] to at least a small positive number."""
    spectra = (spectra + spectra.mH) / 2
    least = _LEAST_POWER * spectra.diagonal(dim1=-2, dim2=-1).real.mean().clamp_min(_LEAST_POWER)
    shifted = spectra - least * torch.eye(spectra.shape[-1], dtype=spectra.dtype, device=spectra.device)
    _, failed = torch.linalg.cholesky_ex(shifted)
    if not failed.any():
        return spectra
    # Most frequencies are positive as they are, and eigenvectors cost ten times more than finding that out.
    lifted = spectra.clone()
    values, vectors = torch.linalg.eigh(spectra[failed > 0])
    lifted[failed > 0] = (vectors * values.clamp_min(least).unsqueeze(-2).to(vectors.dtype)) @ vectors.mH
    return lifted
