"""Spectral core: hidden entries of fMRI windows from visible ones, by a Gaussian that adapts to the window in context.

The prior knows how channels covary in other recordings, at all lags. From the visible entries of a window alone follow

1. its covariance S_b: the MAP estimate under an inverse-Wishart prior around S (Chen 1979,
   doi:10.1111/j.2517-6161.1979.tb01078.x; empirical Bayes as in Haff 1980, doi:10.1214/aos/1176345010), found by EM
   over the hidden entries (Dempster, Laird & Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x);
2. the map A_b that turns the prior's covariance into the window's, A_b S A_b' = S_b;
3. a spectral gain g_b(f): how much more or less power than the prior's the window has at each frequency.

The window is then a sample of a stationary process with spectra A_b [g_b(f) G(f)] A_b', and the hidden entries are its
posterior mean. Nothing is learned from hidden values, here or in the prior: they are removed first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import StationaryPrior, parzen
from neurofm.model.seen import seen_values

_LEAST_POWER = 1e-3
"""Floor of a normalised spectrum, where few pairs of visible samples make an estimate negative."""


@dataclass(frozen=True, kw_only=True)
class SpectralSettings:
    """How a window is adapted to; the first three are where learning starts. Values are those of the trials on fMRI."""

    prior_samples: float = 70.0
    """Samples that the prior's covariance weighs as much as."""
    noise: float = 0.02
    """Variance of white noise on visible entries."""
    gain_weight: float = 1.0
    """Weight of the prior's power spectrum against the window's."""
    gain_lags: int = 48
    """Largest lag of the window's power spectrum."""
    em_steps: int = 5
    iterations: int = 100
    """Largest number of steps of conjugate gradients."""
    tolerance: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What the visible part of each window says of its process."""

    covariance: Tensor
    """[window, channel, channel]: S_b"""
    gain: Tensor
    """[window, frequency]: g_b(f)"""


class SpectralCore(nn.Module):
    """Posterior mean of hidden entries; its parameters are a handful of log weights, its knowledge is the prior.

    Parameters
    ----------
    settings
        Where the weights start, and how exactly it is computed.
    """

    def __init__(self, settings: SpectralSettings) -> None:
        super().__init__()
        self.settings = settings
        self.log_prior_samples = nn.Parameter(torch.tensor(math.log(settings.prior_samples)))
        self.log_noise = nn.Parameter(torch.tensor(math.log(settings.noise)))
        self.log_gain_weight = nn.Parameter(torch.tensor(math.log(settings.gain_weight)))

    def forward(self, values: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Tensor:
        """Fill in what is hidden.

        Parameters
        ----------
        values
            [window, time, channel] float32 or float64, z units; hidden entries are not looked at.
        visible
            [window, time, channel] bool: any mask that leaves something visible in each window.
        prior
            From other recordings of the same channels, in the precision and on the device of `values`.

        Returns
        -------
        [window, time, channel]: the posterior mean where hidden, `values` where visible.

        Raises
        ------
        UserError
            For wrong shapes, another number of channels than the prior's, a window that is all hidden, and visible
            values that are not finite.
        """
        known = seen_values(values, visible, channels=prior.channels)
        adapted = self.adapt(known, visible, prior=prior)
        mean = posterior_mean(
            WindowCovariance(
                spectra=prior.spectra,
                fft_samples=prior.fft_samples,
                gain=adapted.gain,
                map=covariance_map(prior.covariance, adapted.covariance),
            ),
            known,
            visible,
            noise=self.log_noise.exp().to(known),
            iterations=self.settings.iterations,
            tolerance=self.settings.tolerance,
        )
        return torch.where(visible, values, mean)

    def adapt(self, known: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Adapted:
        """Estimate covariance and spectral gain from what is visible (`known` is 0 elsewhere)."""
        return Adapted(
            covariance=map_covariance(
                known,
                visible,
                prior=prior.covariance,
                prior_samples=self.log_prior_samples.exp().to(known),
                steps=self.settings.em_steps,
            ),
            gain=spectral_gain(
                known,
                visible,
                prior=prior,
                lags=min(self.settings.gain_lags, known.shape[1] - 1),
                weight=self.log_gain_weight.exp().to(known),
            ),
        )


def map_covariance(known: Tensor, visible: Tensor, *, prior: Tensor, prior_samples: Tensor, steps: int) -> Tensor:
    """Estimate the covariance of each window by EM, with one factorisation per distinct set of visible channels.

    With R the inverse of the visible block (0 elsewhere) and a = R x the expected outer products of a set's n samples
    are n S + S (sum a a' - n R) S.

    Parameters
    ----------
    known
        [window, time, channel]; 0 where hidden.
    visible
        [window, time, channel] bool
    prior
        [channel, channel], or one per window.
    prior_samples
        Scalar: its weight.
    steps
        Rounds of EM; memory grows with the number of distinct sets in a window.

    Returns
    -------
    [window, channel, channel]
    """
    sets, member = _visible_sets(visible)
    member = member.to(known)
    # Samples without anything visible would only slow EM down.
    samples = member.sum(dim=1) * sets.any(dim=-1)
    total = samples.sum(dim=1)[:, None, None]
    block = sets.unsqueeze(-1) & sets.unsqueeze(-2)
    outside = torch.diag_embed((~sets).to(known))
    estimate = prior.expand(len(known), -1, -1)
    for _ in range(steps):
        factor = torch.linalg.cholesky(torch.where(block, estimate.unsqueeze(1), 0.0) + outside)
        inverse = torch.where(block, torch.cholesky_inverse(factor), 0.0)
        scores = torch.einsum("btu,butc->btc", member, known.unsqueeze(1) @ inverse)
        change = scores.mT @ scores - torch.einsum("bu,bucd->bcd", samples, inverse)
        expected = total * estimate + estimate @ change @ estimate
        estimate = (prior_samples * prior + expected) / (prior_samples + total)
        estimate = (estimate + estimate.mT) / 2
    return estimate


def spectral_gain(known: Tensor, visible: Tensor, *, prior: StationaryPrior, lags: int, weight: Tensor) -> Tensor:
    """Compare the power spectrum of each window's visible entries with the prior's, both averaged over channels.

    Parameters
    ----------
    known
        [window, time, channel]; 0 where hidden.
    visible
        [window, time, channel] bool
    prior
        What is expected.
    lags
        Largest lag; both spectra are smoothed by Parzen's window up to it.
    weight
        Scalar: of the prior's spectrum against the window's.

    Returns
    -------
    [window, frequency], around 1
    """
    length = 2 * known.shape[1]

    def lagged(x: Tensor) -> Tensor:
        """[window, lag + 1] products of entries of one channel, summed over channels; twice the length never wraps."""
        frequency = torch.fft.rfft(x.mT, n=length)
        products: Tensor = torch.fft.irfft((frequency * frequency.conj()).sum(dim=1), n=length)
        return products[:, : lags + 1]

    observed = lagged(known) / lagged(visible.to(known)).clamp_min(1.0)
    # The mean over channels of the prior's autocovariances.
    mean_power = prior.spectra.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    expected = torch.fft.irfft(mean_power, n=prior.fft_samples)[..., : lags + 1]

    def spectrum(covariances: Tensor) -> Tensor:
        shape = covariances / covariances[..., :1].clamp_min(_LEAST_POWER)
        tapered = parzen(lags).to(known) * shape
        two_sided: Tensor = 2 * torch.fft.rfft(tapered, n=prior.fft_samples).real - tapered[..., :1]
        return two_sided.clamp_min(_LEAST_POWER)

    of_prior = spectrum(expected)
    gain: Tensor = (spectrum(observed) + weight * of_prior) / ((1 + weight) * of_prior)
    return gain


def covariance_map(source: Tensor, target: Tensor) -> Tensor:
    """Find the symmetric map A with A source A' = target.

    It is the optimal transport between the two Gaussians (Olkin & Pukelsheim 1982, doi:10.1016/0024-3795(82)90112-4).
    A quotient of Cholesky factors would do too, but would depend on the order of channels.

    Parameters
    ----------
    source
        [channel, channel], or one per window.
    target
        [window, channel, channel]
    """
    root = square_root(source)
    inverse = torch.linalg.inv(root)
    middle: Tensor = square_root(root @ target @ root)
    change: Tensor = inverse @ middle @ inverse
    return change


def square_root(matrices: Tensor) -> Tensor:
    """[..., channel, channel] symmetric positive definite -> their symmetric square roots."""
    found: Tensor = _SquareRoot.apply(matrices)  # type: ignore[no-untyped-call]
    return found


class _SquareRoot(torch.autograd.Function):
    """Through eigenvectors, but with gradients that equal eigenvalues do not make infinite."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrices)
        roots = values.clamp_min(0.0).sqrt()
        ctx.save_for_backward(roots, vectors)
        root: Tensor = (vectors * roots.unsqueeze(-2)) @ vectors.mT
        return root

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # R dR + dR R = dM, solved in the eigenbasis of R.
        roots, vectors = ctx.saved_tensors
        sums = roots.unsqueeze(-1) + roots.unsqueeze(-2)
        change: Tensor = vectors @ ((vectors.mT @ gradients[0] @ vectors) / sums) @ vectors.mT
        return change


def log_map(covariance: Tensor, *, prior: Tensor) -> Tensor:
    """Describe windows by where their covariance lies from the prior's, in the tangent space at the prior.

    Pennec, Fillard & Ayache 2006 (doi:10.1007/s11263-005-3222-z).

    Parameters
    ----------
    covariance
        [window, channel, channel]
    prior
        [channel, channel]

    Returns
    -------
    [window, channel * (channel + 1) / 2]: the matrix logarithm of the whitened covariance, off-diagonal entries times
    the square root of 2, so that distances between windows are those between their matrices.
    """
    # The symmetric root, unlike Cholesky's, does not depend on the order of channels.
    values, vectors = torch.linalg.eigh(prior)
    whiten = (vectors / values.sqrt()) @ vectors.mT
    powers, axes = torch.linalg.eigh(whiten @ covariance @ whiten)
    logarithm = (axes * powers.log().unsqueeze(-2)) @ axes.mT
    rows, columns = torch.triu_indices(prior.shape[-1], prior.shape[-1], device=prior.device)
    described: Tensor = logarithm[:, rows, columns] * torch.where(rows == columns, 1.0, math.sqrt(2.0)).to(covariance)
    return described


def _visible_sets(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Find the distinct sets of visible channels of each window.

    Returns
    -------
    sets [window, set, channel] bool, padded with empty ones, and [window, time, set] int64: which sample has which.
    """
    found = [torch.unique(window, dim=0, return_inverse=True) for window in visible]
    most = max(len(sets) for sets, _ in found)
    padded = [nn.functional.pad(sets, (0, 0, 0, most - len(sets))) for sets, _ in found]
    return torch.stack(padded), torch.stack([nn.functional.one_hot(index, most) for _, index in found])
