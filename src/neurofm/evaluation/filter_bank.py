"""Filter bank: the covariance of short windows in several bands, as features of a linear read-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.samples import Windows

Floats = npt.NDArray[np.float64]

_ORDER = 4
"""Of the band-pass filters, which run forwards and backwards."""
_COMPONENTS = 20
"""Directions that windows are reduced to: two seconds of a slow rhythm say too little about more of them."""
_REFERENCE_WINDOWS = 500
"""Most windows, evenly taken, that the reference of the tangent space is the mean of."""


def filter_bank_windows(
    learned: Sequence[Windows], *, bands_hz: Sequence[tuple[float, float]]
) -> Callable[[Windows], Floats]:
    """Learn directions and reference of the tangent spaces from training windows; return what makes features of others.

    Each window is projected on the principal components of training, filtered in each band, and its covariance (shrunk
    after Ledoit and Wolf) taken to the tangent space at the geometric mean of training windows: pyriemann's
    `Covariances` and `TangentSpace`; Barachant et al. 2012 (doi:10.1109/TBME.2011.2172210), with a bank of filters as
    in Ang et al. 2008 (doi:10.1109/IJCNN.2008.4634130).

    Parameters
    ----------
    learned
        Training windows of the recordings of one channel set.
    bands_hz
        Lower and upper edges; bands that reach half the sampling rate, where no filter is, are left out.

    Returns
    -------
    Callable
        Windows to [window, band * component * (component + 1) / 2].
    """
    from pyriemann.estimation import Covariances  # noqa: PLC0415
    from pyriemann.tangentspace import TangentSpace  # noqa: PLC0415
    from scipy.signal import butter, sosfiltfilt  # noqa: PLC0415

    rate_hz = learned[0].view.sampling_rate_hz
    filters = [
        butter(_ORDER, band, btype="bandpass", fs=rate_hz, output="sos") for band in bands_hz if band[1] < rate_hz / 2
    ]
    directions = _principal(learned)

    def matrices(z: npt.NDArray[np.float32], sos: Floats) -> Floats:
        """Compute [window, component, component] of [window, time, channel]."""
        filtered = sosfiltfilt(sos, z.astype(np.float64) @ directions, axis=1)
        found: Floats = Covariances(estimator="lwf").transform(np.swapaxes(filtered, 1, 2))
        return found

    z = np.concatenate([part.z for part in learned])
    reference = z[:: -(-len(z) // _REFERENCE_WINDOWS)]
    spaces = [TangentSpace(metric="riemann").fit(matrices(reference, sos)) for sos in filters]

    def features(windows: Windows) -> Floats:
        parts = [space.transform(matrices(windows.z, sos)) for space, sos in zip(spaces, filters, strict=True)]
        return np.concatenate(parts, axis=1)

    return features


def _principal(learned: Sequence[Windows]) -> Floats:
    """[channel, component] eigenvectors of the mean covariance, largest first; no more than its rank."""
    total = sum(np.einsum("wtc,wtd->cd", part.z, part.z, dtype=np.float64) for part in learned)
    values, vectors = np.linalg.eigh(total)
    kept = values[::-1] > 1e-6 * values[-1]
    found: Floats = vectors[:, ::-1][:, kept][:, :_COMPONENTS]
    return found
