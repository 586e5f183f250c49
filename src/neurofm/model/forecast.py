"""Forecast: the end of a window of spikes, calcium or Miniscope from what came before, in closed form.

What all channels share is a few latents, the leading principal components. Their past is summed up as means over
stretches that grow with distance: 1, 1, 2, 4, 8... samples before the end of what is known. The forecast is the
conditional mean of the future given these means under a Gaussian, which follows from covariances between latents, now,
and channels, later; then each channel's own past explains part of what the latents leave. Over time the future is a
parabola, since a rate that is foretold changes slowly. Several numbers of latents are averaged, as in
`neurofm.model.bank`. How much noise each expects is chosen by cross-validation inside the windows it is fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RANKS = (2, 4, 8, 16, 32)
"""Latents of the members, cut to the number of channels."""
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Ridge, as a multiple of the mean variance of a feature."""
_CHUNKS = 4
_DEGREE = 2
_LEAST = 1e-9


@dataclass(frozen=True, kw_only=True)
class Member:
    """A forecast with one number of latents."""

    axes: Tensor
    """[channel, latent]"""
    shared: Tensor
    """[stretch x latent, shape x channel]"""
    own: Tensor
    """[channel, stretch, shape]: on what the latents leave."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one recording, for one length of past and future."""

    members: tuple[Member, ...]
    mean: Tensor
    """[future, channel]: where nothing else is known; of trials it is their mean course."""
    looked_at: Tensor
    """[channel] bool: whose past is looked at."""

    @classmethod
    def fit(cls, windows: Tensor, *, future: int, looked_at: Tensor) -> Forecast:
        """Learn from whole windows.

        Parameters
        ----------
        windows
            [window, time, channel] z units, in the order of time, of samples that may be looked at.
        future
            Samples at the end of a window that are to be foretold.
        looked_at
            [channel] bool: whose past is looked at.

        Returns
        -------
        A forecast; of fewer than two windows per chunk of cross-validation the mean, 0.
        """
        windows = windows.double()
        channels = windows.shape[2]
        if len(windows) < 2 * _CHUNKS or not looked_at.any():
            return cls(members=(), mean=windows.new_zeros(future, channels), looked_at=looked_at)
        known, later = windows[:, :-future] * looked_at, windows[:, -future:]
        mean = shrunk_mean(later)
        wanted = torch.einsum("wtc,ts->wsc", later - mean, shapes(future))
        past = stretches(known)
        covariance = torch.einsum("wtc,wtd->cd", known, known)
        vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)
        ranks = dict.fromkeys(min(rank, int(looked_at.sum())) for rank in RANKS)
        return cls(
            members=tuple(_member(past, wanted, axes=vectors[:, :rank]) for rank in ranks),
            mean=mean,
            looked_at=looked_at,
        )

    def predict(self, known: Tensor) -> Tensor:
        """Foretell what follows.

        Parameters
        ----------
        known
            [window, time, channel] z units.

        Returns
        -------
        [window, future, channel] float64 z units.
        """
        future, channels = self.mean.shape
        mean = self.mean.expand(len(known), -1, -1)
        if not self.members:
            return mean
        past = stretches(known.double() * self.looked_at)
        each = [_apply(member, past).reshape(len(known), -1, channels) for member in self.members]
        return mean + torch.einsum("wsc,ts->wtc", torch.stack(each).mean(dim=0), shapes(future))


def shrunk_mean(later: Tensor) -> Tensor:
    """[window, future, channel] -> [future, channel]: the mean, kept as far as it is more than its standard error.

    That of few windows is mostly noise.
    """
    mean = later.mean(dim=0)
    error = later.var(dim=0) / len(later)
    return mean * (mean**2 / (mean**2 + error).clamp_min(_LEAST))


def stretches(known: Tensor) -> Tensor:
    """[window, time, channel] -> [window, stretch, channel]: means over 1, 1, 2, 4... samples, the last ones first."""
    found: list[Tensor] = []
    time = stop = known.shape[1]
    length = 1
    while stop > 0:
        start = max(0, stop - length)
        found.append(known[:, start:stop].mean(dim=1))
        length = max(1, time - start)
        stop = start
    return torch.stack(found, dim=1)


def shapes(future: int) -> Tensor:
    """[future, shape] float64: a constant, a slope and a curve, orthonormal."""
    at = torch.linspace(-1, 1, future, dtype=torch.float64)
    powers = torch.stack([at**degree for degree in range(min(_DEGREE, future - 1) + 1)], dim=1)
    orthonormal: Tensor = torch.linalg.qr(powers).Q
    return orthonormal


def _member(past: Tensor, wanted: Tensor, *, axes: Tensor) -> Member:
    """Fit one member: latents, then what each channel's own past adds."""
    windows, _, channels = wanted.shape
    features, targets = (past @ axes).flatten(1), wanted.flatten(1)
    penalty = _choose([(features, targets)])
    shared = _ridge(features, targets, penalty=penalty)
    # Out of chunk, so that what the latents explain by chance is left to explain.
    left = targets.clone()
    for kept, judged in _rounds(windows):
        left[judged] -= features[judged] @ _ridge(features[kept], targets[kept], penalty=penalty)
    left = left.reshape(wanted.shape)
    pairs = [(past[..., channel], left[..., channel]) for channel in range(channels)]
    penalty = _choose(pairs)
    own = torch.stack([_ridge(features, targets, penalty=penalty) for features, targets in pairs])
    return Member(axes=axes, shared=shared, own=own)


def _apply(member: Member, past: Tensor) -> Tensor:
    shared = (past @ member.axes).flatten(1) @ member.shared
    own = torch.einsum("wkc,cks->wsc", past, member.own)
    both: Tensor = shared + own.flatten(1)
    return both


def _choose(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Choose the penalty with the least squared error in cross-validation, over all pairs of features and targets."""
    errors = dict.fromkeys(_PENALTIES, 0.0)
    for features, targets in pairs:
        for kept, judged in _rounds(len(features)):
            for penalty in _PENALTIES:
                weights = _ridge(features[kept], targets[kept], penalty=penalty)
                errors[penalty] += float((targets[judged] - features[judged] @ weights).square().sum())
    return min(errors, key=errors.__getitem__)


def _rounds(windows: int) -> list[tuple[Tensor, Tensor]]:
    """Chunks of neighbours, since windows may overlap: indices of what is fitted on, and of what judges it."""
    every = torch.arange(windows)
    return [(every[~torch.isin(every, chunk)], chunk) for chunk in every.tensor_split(_CHUNKS)]


def _ridge(features: Tensor, targets: Tensor, *, penalty: float) -> Tensor:
    inner = features.mT @ features
    amount = penalty * inner.diagonal().mean().clamp_min(_LEAST)
    inner.diagonal().add_(amount)
    solved: Tensor = torch.linalg.solve(inner, features.mT @ targets)
    return solved
