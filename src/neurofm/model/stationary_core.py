"""Stationary core: hidden patches and stretches of time of fMRI and EEG, from the spectra of the recording itself.

What other recordings of the same channels show (`neurofm.model.prior`) is adapted to the recording from samples of it
that may be looked at (`neurofm.model.cross_spectrum.calibrate`), and then to each window from what is visible of it
(`neurofm.model.spectral_core`). It is computed, not trained: its weights are those of the trials on fMRI and on EEG.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from neurofm.model.cross_spectrum import CrossSpectrumSettings, calibrate
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior
from neurofm.model.spectral_core import SpectralCore, SpectralSettings
from neurofm.recording import Modality

_WHITE_SAMPLES = 10.0
"""Samples that independent channels weigh as much as, where no other recording is known: enough to be invertible."""
ITERATIONS = 60
TOLERANCE = 3e-3
"""Of conjugate gradients: what is filled in is then within .01 SD, and masked R2 within .0001."""


@dataclass(frozen=True, kw_only=True)
class StationarySettings:
    """Weights of one modality, in samples of its shards' usual rate."""

    lags: int
    """Of spectra: so many samples of the recording itself, whatever their interval, since their number is what it
    has to estimate them from."""
    usual_interval_s: float
    """Between samples of the recordings that the weights were chosen on."""
    shrinkage: float
    noise: float
    covariance_samples: float
    spectrum_samples: float

    def prior(self, *, window_samples: int) -> PriorSettings:
        """Return how lagged products become a prior: block Toeplitz for windows of this length, or shorter ones."""
        return PriorSettings(lags=self.lags, fft_samples=window_samples + self.lags, shrinkage=self.shrinkage)

    def summed_lags(self, interval_s: float) -> int:
        """Return up to which lag a recording's products are summed for others, which may be sampled less often.

        As many seconds as `lags` usual samples take, so that they find all their lags; at most three times `lags`,
        since memory grows with them.
        """
        return min(max(self.lags, round(self.lags * self.usual_interval_s / interval_s)), 3 * self.lags)

    @property
    def calibration(self) -> CrossSpectrumSettings:
        """How a prior is adapted to a recording."""
        return CrossSpectrumSettings(
            lags=self.lags,
            shrinkage=self.shrinkage,
            covariance_samples=self.covariance_samples,
            spectrum_samples=self.spectrum_samples,
        )

    @property
    def window(self) -> SpectralSettings:
        """How a recording's prior is adapted to a window."""
        return SpectralSettings(
            prior_samples=self.covariance_samples, noise=self.noise, iterations=ITERATIONS, tolerance=TOLERANCE
        )


_OF_WAVES = StationarySettings(
    lags=64,
    usual_interval_s=0.01,
    shrinkage=0.02,
    noise=0.005,
    covariance_samples=100.0,
    spectrum_samples=2000.0,
)
STATIONARY = {
    Modality.FMRI: StationarySettings(
        lags=16,
        usual_interval_s=2.0,
        shrinkage=0.05,
        noise=0.02,
        covariance_samples=70.0,
        spectrum_samples=3000.0,
    ),
    Modality.EEG: _OF_WAVES,
    Modality.MEG: _OF_WAVES,
}
"""The modalities that have such a core. MEG has the weights of EEG: no corpus of it was there to try others on."""


@dataclass(frozen=True, kw_only=True)
class StationaryCore:
    """The core of one recording."""

    prior: StationaryPrior
    """Float32, calibrated."""
    settings: StationarySettings

    @classmethod
    def fit(
        cls, others: StationaryPrior | None, own: LagSums, *, settings: StationarySettings, window_samples: int
    ) -> StationaryCore:
        """Adapt to a recording.

        Parameters
        ----------
        others
            What other recordings of these channels show; None where there are none.
        own
            Lagged products of samples of the recording that may be looked at.
        settings
            Of the modality.
        window_samples
            Longest window.
        """
        weights = settings.calibration
        if others is None:
            fft_samples = settings.prior(window_samples=window_samples).fft_samples
            others = StationaryPrior.white(channels=own.products.shape[-1], fft_samples=fft_samples)
            weights = replace(weights, covariance_samples=_WHITE_SAMPLES)
        prior = calibrate(others, own, settings=weights)
        return cls(prior=prior.to(torch.zeros(1)), settings=settings)

    @property
    def bytes(self) -> int:
        """Memory that it takes, its inverse too."""
        return 2 * self.prior.spectra.numel() * self.prior.spectra.element_size()

    @cached_property
    def _core(self) -> SpectralCore:
        return SpectralCore(self.settings.window).requires_grad_(requires_grad=False)

    def fill(self, values: Tensor, visible: Tensor) -> Tensor:
        """Fill in what is hidden.

        Parameters
        ----------
        values
            [window, time, channel] float32 z units; hidden entries are not looked at.
        visible
            [window, time, channel] bool

        Returns
        -------
        [window, time, channel] float32: the posterior mean where hidden, `values` where visible; the mean of each
        channel, which is 0, in windows of which nothing is visible.

        Raises
        ------
        UserError
            As `neurofm.model.spectral_core.SpectralCore`.
        """
        filled = torch.where(visible, values, 0.0)
        something = visible.flatten(1).any(dim=1)
        if something.any():
            with torch.no_grad():
                filled[something] = self._core(filled[something], visible[something], prior=self.prior)
        return filled
