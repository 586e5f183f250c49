"""What the visible part of a window says of its process: covariance, power spectrum, and how they change the prior's.

Everything is of the visible entries alone and differentiable; `neurofm.model.spectral_core` and
`neurofm.model.cross_spectrum` are made of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.model.prior import StationaryPrior, parzen

_LEAST_POWER = 1e-3
"""Floor of a normalised spectrum, where few pairs of visible samples make an estimate negative."""


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

    return normalised_gain(lagged(known) / lagged(visible.to(known)).clamp_min(1.0), prior=prior, weight=weight)


def normalised_gain(autocovariance: Tensor, *, prior: StationaryPrior, weight: Tensor) -> Tensor:
    """Compare a power spectrum with the prior's mean over channels, both of unit variance.

    Parameters
    ----------
    autocovariance
        [..., lag + 1], averaged over channels.
    prior
        What is expected.
    weight
        Scalar: of the prior's spectrum.

    Returns
    -------
    [..., frequency]
    """
    lags = autocovariance.shape[-1] - 1
    mean_power = prior.spectra.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    expected = torch.fft.irfft(mean_power, n=prior.fft_samples)[..., : lags + 1]
    window = parzen(lags).to(autocovariance)

    def spectrum(covariances: Tensor) -> Tensor:
        tapered = window * covariances / covariances[..., :1].clamp_min(_LEAST_POWER)
        two_sided: Tensor = 2 * torch.fft.rfft(tapered, n=prior.fft_samples).real - tapered[..., :1]
        return two_sided.clamp_min(_LEAST_POWER)

    of_prior = spectrum(expected)
    gain: Tensor = (spectrum(autocovariance) + weight * of_prior) / ((1 + weight) * of_prior)
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
