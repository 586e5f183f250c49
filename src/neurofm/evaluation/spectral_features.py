"""Rhythms of a recording as features: power in bands, and which channels share it, in tangent space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.classification import BANDS_HZ
from neurofm.evaluation.series import Features, Floats, Series
from neurofm.windows import RecordingView

_ORDER = 4
"""Of the band-pass filters, which run forwards and backwards."""
_FLOOR = 1e-12
_WINDOW_S = 2.0


def band_power(train: Sequence[RecordingView]) -> Features:
    """Logarithm of each channel's power in each of `BANDS_HZ`, in units of its power in training: [recording, feature].

    By Welch's method (1967, doi:10.1109/TAU.1967.1161901) with windows of 2 s.
    """
    from scipy.signal import welch  # noqa: PLC0415

    series = Series.fit(train)

    def of(view: RecordingView) -> Floats:
        x = series.valid(view)
        length = min(len(x), round(_WINDOW_S * view.sampling_rate_hz))
        frequency_hz, power = welch(x, fs=view.sampling_rate_hz, nperseg=length, axis=0)
        bands = [(frequency_hz >= low) & (frequency_hz < high) for low, high in BANDS_HZ]
        return np.concatenate([np.log(power[band].mean(axis=0) + _FLOOR) for band in bands if band.any()])

    return lambda views: np.array([of(view) for view in views])


def filter_bank_tangent(train: Sequence[RecordingView]) -> Features:
    """Tangent space of the covariance in each of `BANDS_HZ`, at the geometric mean of training recordings.

    pyriemann's `TangentSpace`; Barachant et al. 2012 (doi:10.1109/TBME.2011.2172210), with a bank of filters as in
    Ang et al. 2008 (doi:10.1109/IJCNN.2008.4634130).

    Returns
    -------
    Features
        [recording, band * channel * (channel + 1) / 2]

    Raises
    ------
    ImportError
        Where pyriemann is not installed.
    """
    from pyriemann.tangentspace import TangentSpace  # noqa: PLC0415

    series = Series.fit(train)
    # A filter's edge must lie below half the sampling rate, not on it.
    bands = [band for band in BANDS_HZ if band[1] < train[0].sampling_rate_hz / 2]

    def matrices(views: Sequence[RecordingView]) -> list[Floats]:
        """Compute [recording, channel, channel] of each band."""
        found = [band_covariances(series, view, bands) for view in views]
        return [np.array(own) for own in zip(*found, strict=True)]

    spaces = [TangentSpace(metric="riemann").fit(own) for own in matrices(train)]

    def features(views: Sequence[RecordingView]) -> Floats:
        parts = [space.transform(own) for space, own in zip(spaces, matrices(views), strict=True)]
        return np.concatenate(parts, axis=1)

    return features


def band_covariances(series: Series, view: RecordingView, bands: Sequence[tuple[float, float]]) -> list[Floats]:
    """[channel, channel] covariance in each band, shrunk after Ledoit and Wolf since an average reference has none."""
    from scipy.signal import butter, sosfiltfilt  # noqa: PLC0415
    from sklearn.covariance import ledoit_wolf  # noqa: PLC0415

    x = series.of(view)
    found = []
    for band in bands:
        filtered = sosfiltfilt(
            butter(_ORDER, band, btype="bandpass", fs=view.sampling_rate_hz, output="sos"), x, axis=0
        )
        covariance, _ = ledoit_wolf(filtered[series.used(view)])
        found.append(np.asarray(covariance, dtype=np.float64))
    return found
