"""Bank: hidden channels of spikes, calcium and Miniscope from visible ones, by several low-rank Gaussians at once.

No single rank and smoothing suits every channel: a unit that follows the population wants few latents and much
smoothing, one that follows its neighbours many latents and little. So each member of the bank is a solution of
probabilistic principal components (Tipping & Bishop 1999, doi:10.1111/1467-9868.00196) of the signal smoothed in time,
whose posterior mean has a closed form for any visible subset of channels::

    x_h = W_h (W_v' W_v + noise I)^-1 W_v' s_v

A member of full rank is the shrunk covariance (Ledoit & Wolf 2004, doi:10.1016/S0047-259X(03)00096-4, with a fixed
weight). `BankMixture` weighs the members per channel, by who the channel is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.model.seen import seen_values

_REACH_SD = 4.0
"""Smoothing kernels end this many SDs from their centre."""
_SHORT = 256
"""Windows up to so many samples are smoothed by one matrix, which is faster than a convolution."""
_LEAST_NOISE = 1e-3
"""Smallest noise variance of a member, in units of a channel's variance."""


@dataclass(frozen=True, kw_only=True)
class MemberSettings:
    """One solution of the bank."""

    rank: int | None
    """Latents; None for the full covariance."""
    smoothing_samples: float
    """SD of the Gaussian in time; 0 does not smooth."""
    shrinkage: float = 0.05
    """Share of white noise in a full covariance."""


SPIKES_BANK = tuple(
    MemberSettings(rank=rank, smoothing_samples=sd)
    for rank, sd in ((12, 0.5), (32, 0.5), (12, 1.0), (32, 1.0), (90, 1.0), (6, 2.0))
)
"""The bank that the trials on spikes in 20 ms bins chose."""
FLUORESCENCE_BANK = (
    MemberSettings(rank=32, smoothing_samples=0.5),
    MemberSettings(rank=90, smoothing_samples=0.5),
    MemberSettings(rank=None, smoothing_samples=0.0),
    MemberSettings(rank=None, smoothing_samples=0.5),
    MemberSettings(rank=None, smoothing_samples=0.5, shrinkage=0.2),
    MemberSettings(rank=None, smoothing_samples=2.0, shrinkage=0.2),
)
"""For calcium and Miniscope, whose signal is high-rank: mostly full covariances (see `benchmarks.cores_calcium`)."""


def smooth_windows(x: Tensor, *, sd_samples: float) -> Tensor:
    """Smooth in time with a Gaussian that is cut off and renormalised at the edges.

    As `neurofm.model.core.smooth` of [window, time, channel], but in any precision, on any device, and faster for the
    short kernels of a bank.
    """
    if sd_samples == 0:
        return x
    windows, time, channels = x.shape
    reach = min(math.ceil(_REACH_SD * sd_samples), time - 1)
    lag = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (lag / sd_samples) ** 2)[None, None]
    if time <= _SHORT:
        at = torch.arange(time, device=x.device)
        apart = (at[:, None] - at).abs()
        weights = torch.where(apart <= reach, kernel[0, 0, (reach + apart).clamp_max(2 * reach)], 0.0)
        return (weights / weights.sum(dim=1, keepdim=True)) @ x
    rows = torch.cat([x.mT.reshape(windows * channels, 1, time), torch.ones_like(x[:1, :, :1]).mT])
    blurred = nn.functional.conv1d(rows, kernel, padding=reach)
    return (blurred[:-1] / blurred[-1:]).reshape(windows, channels, time).mT


@dataclass(frozen=True, kw_only=True)
class SmoothedSums:
    """Sums of outer products of the smoothed signal, per scale. They add up over stretches and recordings."""

    samples: float
    products: dict[float, Tensor]
    """Per smoothing SD: [channel, channel] float64, sum over time of s s'."""

    @classmethod
    def zero(cls, *, channels: int, sds_samples: Iterable[float]) -> Self:
        """Make the sums of no data."""
        empty = {sd: torch.zeros(channels, channels, dtype=torch.float64) for sd in sds_samples}
        return cls(samples=0.0, products=empty)

    def __add__(self, other: Self) -> Self:
        products = {sd: product + other.products[sd] for sd, product in self.products.items()}
        return type(self)(samples=self.samples + other.samples, products=products)


def smoothed_sums(windows: Tensor, *, members: Sequence[MemberSettings], valid: Tensor | None = None) -> SmoothedSums:
    """Sum over windows; smoothing stays within each.

    Parameters
    ----------
    windows
        [window, time, channel] real, z units: stretches of equal length without gaps, such as trials.
    members
        For their scales.
    valid
        [window, time] bool: which samples count; by default all. The others must be 0 in `windows`.
    """
    counted = torch.ones_like(windows[..., 0], dtype=torch.bool) if valid is None else valid
    sds = dict.fromkeys(member.smoothing_samples for member in members)
    products = {}
    for sd in sds:
        smoothed = smooth_windows(windows, sd_samples=sd)[counted].double()
        products[sd] = smoothed.T @ smoothed
    return SmoothedSums(samples=float(counted.sum()), products=products)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One solution: covariance loadings loadings' + noise I, or a full covariance."""

    settings: MemberSettings
    loadings: Tensor
    """[channel, rank], largest first; of the full covariance [channel, channel], the covariance itself."""
    noise: float

    def estimate(self, smoothed: Tensor, visible: Tensor) -> Tensor:
        """Find the posterior mean of all channels.

        Parameters
        ----------
        smoothed
            [window, time, channel]; 0 where hidden.
        visible
            [window, channel] bool
        """
        shown = visible.to(smoothed)
        if self.settings.rank is None:
            both = shown.unsqueeze(-1) * shown.unsqueeze(-2)
            among = self.loadings * both + torch.diag_embed(1 - shown)
            solved = torch.cholesky_solve(smoothed.mT, torch.linalg.cholesky(among))
            full: Tensor = (self.loadings @ (shown.unsqueeze(-1) * solved)).mT
            return full
        inside = self.loadings.mT @ (shown.unsqueeze(-1) * self.loadings)
        among = inside + self.noise * torch.eye(inside.shape[-1], dtype=inside.dtype, device=inside.device)
        latents = torch.cholesky_solve((smoothed @ self.loadings).mT, torch.linalg.cholesky(among))
        low_rank: Tensor = latents.mT @ self.loadings.mT
        return low_rank

    def regression(self, visible: Tensor, hidden: Tensor) -> Tensor:
        """Find what `estimate` multiplies the visible channels with, for one mask.

        Parameters
        ----------
        visible, hidden
            int64 channel indices.

        Returns
        -------
        [visible, hidden]
        """
        seen = self.loadings[visible]
        if self.settings.rank is None:
            return torch.cholesky_solve(seen[:, hidden], torch.linalg.cholesky(seen[:, visible]))
        among = seen.mT @ seen + self.noise * torch.eye(seen.shape[1], dtype=seen.dtype, device=seen.device)
        return seen @ torch.cholesky_solve(self.loadings[hidden].mT, torch.linalg.cholesky(among))


@dataclass(frozen=True, kw_only=True)
class Bank:
    """All members for one recording."""

    members: tuple[Member, ...]

    @classmethod
    def fit(cls, sums: SmoothedSums, *, members: Sequence[MemberSettings]) -> Self:
        """Solve every member from the sums.

        Parameters
        ----------
        sums
            Of samples that may be looked at, at every scale of `members`.
        members
            Settings. A rank above what channels and samples allow is cut to that.

        Raises
        ------
        UserError
            If there are no samples.
        """
        if sums.samples == 0:
            raise UserError("a bank needs samples, but there are 0.", mend="give it calibration data")
        found = {sd: torch.linalg.eigh(product / sums.samples) for sd, product in sums.products.items()}
        return cls(members=tuple(_solve(member, sums, *found[member.smoothing_samples]) for member in members))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.members[0].loadings.shape[0]

    def to(self, like: Tensor) -> Bank:
        """Return the bank on the device and in the precision of a real tensor."""
        return Bank(
            members=tuple(
                Member(settings=member.settings, loadings=member.loadings.to(like), noise=member.noise)
                for member in self.members
            )
        )

    def estimate(self, values: Tensor, visible: Tensor) -> Tensor:
        """Estimate every channel by every member.

        Parameters
        ----------
        values
            [window, time, channel] real, z units; hidden channels are not looked at.
        visible
            [window, channel] bool

        Returns
        -------
        [window, time, channel, member] z units.

        Raises
        ------
        UserError
            For wrong shapes, another number of channels, a window that is all hidden, visible values not finite.
        """
        if visible.dim() != 2:
            raise UserError(
                f"the bank was given a mask of {visible.dim()} dimensions instead of 2.",
                mend="give it as [window, channel]: it hides whole channels",
            )
        known = seen_values(values, visible.unsqueeze(1).expand(-1, values.shape[1], -1), channels=self.channels)
        smoothed = {
            sd: smooth_windows(known, sd_samples=sd)
            for sd in dict.fromkeys(member.settings.smoothing_samples for member in self.members)
        }
        each = [member.estimate(smoothed[member.settings.smoothing_samples], visible) for member in self.members]
        return torch.stack(each, dim=-1)

    def blend(self, values: Tensor, *, visible: Tensor, hidden: Tensor, weights: Tensor) -> Tensor:
        """Estimate some channels, mixed already, where all windows share one mask.

        The same as mixing `estimate`, but one matrix per scale does it, and nothing is computed of other channels.

        Parameters
        ----------
        values
            [window, time, visible] real, z units.
        visible, hidden
            int64 channel indices.
        weights
            [hidden, member], as `BankMixture.weights` gives them; gradients reach them.

        Returns
        -------
        [window, time, hidden] z units.
        """
        by_scale: dict[float, Tensor] = {}
        for member, weight in zip(self.members, weights.unbind(dim=1), strict=True):
            sd = member.settings.smoothing_samples
            weighed = member.regression(visible, hidden) * weight
            by_scale[sd] = by_scale[sd] + weighed if sd in by_scale else weighed
        parts = [smooth_windows(values, sd_samples=sd) @ matrix for sd, matrix in by_scale.items()]
        return torch.stack(parts).sum(dim=0)

    def among(self, index: Tensor, *, channels: int) -> Bank:
        """Return a bank of `channels` channels: its own are those of `index`, and the others share nothing.

        Parameters
        ----------
        index
            [channel of this bank] int64 where each lies among all.
        channels
            How many there are in all.
        """

        def spread(member: Member) -> Member:
            if member.settings.rank is None:
                wider = torch.eye(channels).to(member.loadings)
                wider[index[:, None], index] = member.loadings
            else:
                wider = member.loadings.new_zeros(channels, member.loadings.shape[1])
                wider[index] = member.loadings
            return Member(settings=member.settings, loadings=wider, noise=member.noise)

        return Bank(members=tuple(spread(member) for member in self.members))

    def communality(self) -> Tensor:
        """Say how much each channel shares with others, a statistic of who it is.

        Returns
        -------
        [channel, member]: the variance that the latents give it; of a full covariance its mean squared covariance.
        """
        shared = [
            member.loadings.square().mean(dim=1)
            if member.settings.rank is None
            else member.loadings.square().sum(dim=1)
            for member in self.members
        ]
        return torch.stack(shared, dim=1)


class BankMixture(nn.Module):
    """Weigh the members per channel: as given at first, then by identity.

    Parameters
    ----------
    members
        How many.
    features
        Size of a channel's identity.
    start
        [member] weights before anything is learned; equal by default.
    """

    def __init__(self, *, members: int, features: int, start: Sequence[float] = ()) -> None:
        super().__init__()
        self.start = tuple(start) or (1.0 / members,) * members
        self.by_identity = nn.Linear(features, members)
        nn.init.zeros_(self.by_identity.weight)
        nn.init.zeros_(self.by_identity.bias)

    def weights(self, identity: Tensor) -> Tensor:
        """[channel, features] -> [channel, member]."""
        weights: Tensor = identity.new_tensor(self.start) + self.by_identity(identity)
        return weights

    def forward(self, estimates: Tensor, identity: Tensor) -> Tensor:
        """[window, time, channel, member], [channel, features] -> [window, time, channel] z units."""
        mixed: Tensor = (estimates * self.weights(identity)).sum(dim=-1)
        return mixed


def log_rate(mixed: Tensor, *, mean: Tensor, sd: Tensor, sharpness: float) -> Tensor:
    """Turn an estimate in z units into a log rate that is never that of a negative rate.

    Parameters
    ----------
    mixed
        [window, time, channel] z units.
    mean, sd
        [channel] counts per bin.
    sharpness
        Of the softplus that bends the relative rate 1 + mixed * sd / mean away from 0.

    Returns
    -------
    [window, time, channel] log counts per bin.
    """
    relative = 1 + mixed * sd / mean
    bent = nn.functional.softplus(relative, beta=sharpness)
    return torch.log(mean) + torch.log(bent.clamp_min(torch.finfo(bent.dtype).tiny))


def _solve(member: MemberSettings, sums: SmoothedSums, values: Tensor, vectors: Tensor) -> Member:
    channels = len(values)
    if member.rank is None:
        covariance = sums.products[member.smoothing_samples] / sums.samples
        loadings = (1 - member.shrinkage) * covariance + member.shrinkage * torch.eye(channels).to(covariance)
        return Member(settings=member, loadings=loadings, noise=member.shrinkage)
    rank = max(1, min(member.rank, channels - 1, int(sums.samples) - 1))
    noise = max(float(values[: channels - rank].mean()), _LEAST_NOISE)
    loadings = vectors[:, -rank:] * (values[-rank:] - noise).clamp_min(0.0).sqrt()
    return Member(settings=member, loadings=loadings.flip(1), noise=noise)
