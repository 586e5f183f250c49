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

import torch
from torch import Tensor, nn

from neurofm.model.adaptation import covariance_map, map_covariance, spectral_gain
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import StationaryPrior
from neurofm.model.seen import seen_values


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
    iterations: int = 60
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
            From other recordings of the same channels, or what `neurofm.model.cross_spectrum.calibrate` made of it
            for the recording of these windows; in the precision and on the device of `values`.

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
                precision=prior.precision,
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
                prior_samples=self.log_prior_samples.exp().to(known) + prior.own_samples,
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
