"""Our model's description of a recording as features: where its core lies from the prior, and what its network says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from neurofm.evaluation.classification import BANDS_HZ, Encode
from neurofm.evaluation.samples import cut
from neurofm.evaluation.series import Features, FitFeatures, Floats, Series, shared_samples
from neurofm.model.adaptation import log_map, map_covariance
from neurofm.model.cross_spectrum import CrossSpectrumSettings, calibrate
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums
from neurofm.model.spectral_core import SpectralSettings
from neurofm.splits import Segment
from neurofm.windows import RecordingView, fit_normaliser

_LAGS = 128
_FFT_SAMPLES = 512
_SHRINKAGE = 0.02


def core_tangent(train: Sequence[RecordingView]) -> Features:
    """Tangent vector of the spectral core: the MAP covariance of a recording, from the prior of training recordings.

    The covariance is what `neurofm.model.spectral_core` adapts to when every channel is visible: the recording's own,
    with the prior as so many samples more. It is shrunk towards other people, not towards independent channels.

    Returns
    -------
    Features
        [recording, channel * (channel + 1) / 2]; `neurofm.model.adaptation.log_map`.
    """
    series = Series.fit(train)
    prior = _prior([_lags(series, view, lags=0) for view in train], channels=len(series.kept), lags=0).covariance
    weight = torch.tensor(SpectralSettings().prior_samples, dtype=torch.float64)

    def of(view: RecordingView) -> Floats:
        x = torch.from_numpy(series.valid(view))[None]
        seen = torch.ones_like(x, dtype=torch.bool)
        covariance = map_covariance(x, seen, prior=prior, prior_samples=weight, steps=1)
        vector: Floats = log_map(covariance, prior=prior)[0].numpy()
        return vector

    return lambda views: np.array([of(view) for view in views])


def core_band_tangent(train: Sequence[RecordingView]) -> Features:
    """Tangent vectors of the cross-spectral core, one for each of `BANDS_HZ`.

    The cross-spectrum is that of `neurofm.model.cross_spectrum.calibrate` on the whole recording; of a band its mean
    real part, which says how channels covary within the band.

    Returns
    -------
    Features
        [recording, band * channel * (channel + 1) / 2]
    """
    series = Series.fit(train)
    channels = len(series.kept)
    prior = _prior([_lags(series, view, lags=_LAGS) for view in train], channels=channels, lags=_LAGS)
    expected = _bands(prior, rate_hz=train[0].sampling_rate_hz)

    def of(view: RecordingView) -> Floats:
        own = calibrate(prior, _lags(series, view, lags=_LAGS), settings=CrossSpectrumSettings(lags=_LAGS))
        found = _bands(own, rate_hz=view.sampling_rate_hz)
        vectors = [log_map(band[None], prior=centre)[0] for band, centre in zip(found, expected, strict=True)]
        return torch.cat(vectors).numpy()

    return lambda views: np.array([of(view) for view in views])


def embedding(encode: Encode, *, window_samples: int) -> FitFeatures:
    """Mean and SD over a recording of what a frozen network makes of it: [recording, 2 * latent].

    Parameters
    ----------
    encode
        (view, [window, time, channel] in SDs) to [window, patch, latent]: `Predictor.encode`, or another model's.
    window_samples
        Length of a window.
    """

    def fit(train: Sequence[RecordingView]) -> Features:
        samples = shared_samples(train)

        def of(view: RecordingView) -> Floats:
            alike = described_alike(view, samples=samples)
            windows = cut(alike, alike.roles.calibration, window_samples=window_samples)
            encoded = encode(alike, windows.z).astype(np.float64)
            flat = encoded.reshape(-1, encoded.shape[-1])
            return np.concatenate([flat.mean(axis=0), flat.std(axis=0)])

        return lambda views: np.array([of(view) for view in views])

    return fit


def described_alike(view: RecordingView, *, samples: int) -> RecordingView:
    """Return a recording that is normalised and described from so many valid samples, its first ones.

    So are all recordings that an attribute is told from, whoever is held out. Described from their calibration, as for
    reconstruction, people held out would differ from the others by how little of them was looked at; and a task from
    rest, by how long each was recorded.
    """
    stop = min(int(np.searchsorted(np.cumsum(view.valid), samples)) + 1, len(view.valid))
    first = Segment(start=0, stop=stop)
    return replace(
        view,
        roles=view.roles.model_copy(update={"calibration": (first,)}),
        normaliser=fit_normaliser([view.values(0, stop)[view.valid[:stop]]], usable=view.usable),
    )


def _lags(series: Series, view: RecordingView, *, lags: int) -> LagSums:
    return lag_sums(
        [torch.from_numpy(series.of(view))],
        valid=[torch.from_numpy(series.used(view))],
        lags=lags,
        channels=len(series.kept),
    )


def _prior(sums: Sequence[LagSums], *, channels: int, lags: int) -> StationaryPrior:
    total = LagSums.total(sums, channels=channels, lags=lags)
    return StationaryPrior.fit(total, settings=PriorSettings(lags=lags, fft_samples=_FFT_SAMPLES, shrinkage=_SHRINKAGE))


def _bands(prior: StationaryPrior, *, rate_hz: float) -> list[torch.Tensor]:
    """[channel, channel] mean real part of the spectra in each band."""
    frequency_hz = torch.fft.rfftfreq(prior.fft_samples, d=1 / rate_hz)
    bands = [(frequency_hz >= low) & (frequency_hz < high) for low, high in BANDS_HZ]
    return [prior.spectra[band].real.mean(dim=0) for band in bands if band.any()]
