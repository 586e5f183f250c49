"""Cross-spectral core: hidden entries of EEG windows, from the cross-spectrum of the recording itself.

EEG of one person differs from that of others at every frequency (an alpha peak, where it lies, which channels share
it), so more than a covariance is adapted. The cross-spectrum of a recording is the empirical-Bayes mean under a complex
inverse-Wishart prior at every frequency (Goodman 1963, doi:10.1214/aoms/1177704250, for its likelihood): prior spectra,
first mapped to the recording's covariance and power spectrum, and its own, weighed by samples::

    C_b(f) = (nu A [g(f) G(f)] A' + n C(f)) / (nu + n)

`calibrate` does so from a stretch of the recording that may be looked at. `CrossSpectralCore` goes on from the visible
part of a window: one round of EM, in which the posterior mean stands for what is hidden, and then the posterior mean
under what that gave. Without calibration its first step is the one of `neurofm.model.spectral_core`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurofm.model.adaptation import covariance_map, map_covariance, normalised_gain, spectral_gain
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import LagSums, StationaryPrior, spectra_of
from neurofm.model.seen import seen_values


@dataclass(frozen=True, kw_only=True)
class CrossSpectrumSettings:
    """How a recording is adapted to. Values are those of the trials on EEG at 100 Hz."""

    lags: int = 128
    """Largest lag of cross-spectra."""
    shrinkage: float = 0.02
    """Share of white noise in the recording's own spectra, as in the prior's."""
    covariance_samples: float = 100.0
    """Samples that the prior's covariance weighs as much as."""
    spectrum_samples: float = 2000.0
    """Samples that the mapped prior spectra weigh as much as."""
    gain_weight: float = 1.0
    """Weight of the prior's power spectrum against the recording's."""
    noise: float = 0.005
    """Variance of white noise on visible entries."""
    em_steps: int = 5
    rounds: int = 1
    """Rounds of EM on the cross-spectrum."""
    iterations: int = 100
    """Largest number of steps of conjugate gradients."""
    tolerance: float = 1e-3


def calibrate(prior: StationaryPrior, own: LagSums, *, settings: CrossSpectrumSettings) -> StationaryPrior:
    """Adapt a prior to a recording, from samples of it that may be looked at.

    Parameters
    ----------
    prior
        Of other recordings.
    own
        Lagged products of calibration samples, all channels visible, z-scored like the windows that will follow.
    settings
        Weights.

    Returns
    -------
    The prior of this recording's windows; the prior itself where there are no samples.
    """
    samples = float(own.pairs[0])
    if samples == 0:
        return prior
    lags = min(settings.lags, len(own.pairs) - 1)
    lagged = (own.products[: lags + 1] / own.pairs[: lags + 1, None, None].clamp_min(1.0)).to(prior.covariance)
    weight = settings.covariance_samples
    covariance = (weight * prior.covariance + samples * (lagged[0] + lagged[0].T) / 2) / (weight + samples)
    gain = normalised_gain(
        lagged.diagonal(dim1=-2, dim2=-1).mean(dim=-1), prior=prior, weight=torch.tensor(settings.gain_weight)
    )
    change = covariance_map(prior.covariance, covariance).to(prior.spectra)
    mapped = change @ (gain[:, None, None] * prior.spectra) @ change.mT
    spectra = spectra_of(lagged, fft_samples=prior.fft_samples, shrinkage=settings.shrinkage)
    nu = settings.spectrum_samples
    return StationaryPrior(
        covariance=covariance,
        spectra=(nu * mapped + samples * spectra) / (nu + samples),
        fft_samples=prior.fft_samples,
        own_samples=samples,
    )


class CrossSpectralCore(nn.Module):
    """Posterior mean of hidden entries; its parameters are a handful of log weights, its knowledge is the prior.

    Parameters
    ----------
    settings
        Where the weights start, and how exactly it is computed.
    """

    def __init__(self, settings: CrossSpectrumSettings) -> None:
        super().__init__()
        self.settings = settings
        self.log_covariance_samples = nn.Parameter(torch.tensor(math.log(settings.covariance_samples)))
        self.log_spectrum_samples = nn.Parameter(torch.tensor(math.log(settings.spectrum_samples)))
        self.log_gain_weight = nn.Parameter(torch.tensor(math.log(settings.gain_weight)))
        self.log_noise = nn.Parameter(torch.tensor(math.log(settings.noise)))

    def forward(self, values: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Tensor:
        """Fill in what is hidden; as `neurofm.model.spectral_core.SpectralCore`.

        Parameters
        ----------
        values
            [window, time, channel] float32 or float64, z units; hidden entries are not looked at.
        visible
            [window, time, channel] bool: any mask that leaves something visible in each window.
        prior
            Of other recordings, or better what `calibrate` made of it for the recording of these windows.

        Returns
        -------
        [window, time, channel]: the posterior mean where hidden, `values` where visible.

        Raises
        ------
        UserError
            As `neurofm.model.seen.seen_values`.
        """
        known = seen_values(values, visible, channels=prior.channels)
        spectra = self._start(known, visible, prior=prior)
        for _ in range(self.settings.rounds):
            mean = self._mean(spectra, known, visible, prior=prior)
            spectra = self._round(spectra, torch.where(visible, known, mean), visible, prior=prior)
        return torch.where(visible, values, self._mean(spectra, known, visible, prior=prior))

    def _start(self, known: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Tensor:
        """[window, frequency, channel, channel], or [frequency, channel, channel] for all windows alike."""
        if prior.own_samples:
            return prior.spectra
        covariance = map_covariance(
            known,
            visible,
            prior=prior.covariance,
            prior_samples=self.log_covariance_samples.exp().to(known),
            steps=self.settings.em_steps,
        )
        lags = min(self.settings.lags, known.shape[1] - 1)
        gain = spectral_gain(known, visible, prior=prior, lags=lags, weight=self.log_gain_weight.exp().to(known))
        change = covariance_map(prior.covariance, covariance).unsqueeze(1).to(prior.spectra)
        return change @ (gain[..., None, None] * prior.spectra) @ change.mT

    def _mean(self, spectra: Tensor, known: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Tensor:
        return posterior_mean(
            WindowCovariance(
                spectra=spectra,
                fft_samples=prior.fft_samples,
                precision=prior.precision if spectra is prior.spectra else None,
            ),
            known,
            visible,
            noise=self.log_noise.exp().to(known),
            iterations=self.settings.iterations,
            tolerance=self.settings.tolerance,
        )

    def _round(self, spectra: Tensor, filled: Tensor, visible: Tensor, *, prior: StationaryPrior) -> Tensor:
        """[window, frequency, channel, channel]: spectra after one round of EM."""
        lags = min(self.settings.lags, filled.shape[1] - 1)
        own = spectra_of(
            lagged_covariance(filled, lags=lags), fft_samples=prior.fft_samples, shrinkage=self.settings.shrinkage
        )
        samples = visible.to(filled).mean(dim=2).sum(dim=1)[:, None, None, None]
        nu = self.log_spectrum_samples.exp().to(filled) + prior.own_samples
        return (nu * spectra + samples * own) / (nu + samples)


def lagged_covariance(x: Tensor, *, lags: int) -> Tensor:
    """[window, time, channel] -> [window, lag + 1, channel, channel]: mean of x(t + lag) x(t)' over all pairs."""
    time = x.shape[1]
    length = time + lags
    frequency = torch.fft.rfft(x, n=length, dim=1)
    products = torch.fft.irfft(frequency.unsqueeze(-1) * frequency.conj().unsqueeze(-2), n=length, dim=1)
    pairs = time - torch.arange(lags + 1, device=x.device, dtype=x.dtype)
    mean: Tensor = products[:, : lags + 1] / pairs[:, None, None]
    return mean
