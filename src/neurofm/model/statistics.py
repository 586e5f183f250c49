"""Statistics that describe a channel: what its signal is like, from samples that may be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

STATISTICS = (
    "level",
    "variation",
    "fano",
    "autocorrelation_1",
    "autocorrelation_2",
    "autocorrelation_3",
    "autocorrelation_4",
    "autocorrelation_8",
    "skewness",
    "kurtosis",
    "population_correlation",
    "amount",
)
"""Names of the columns of `channel_statistics`."""

_LIMIT = 4.0
"""Statistics are scaled to order 1 and cut at this size, so that one odd channel cannot rule the identity."""
_LAGS = (1, 2, 3, 4, 8)


def channel_statistics(
    parts: Sequence[npt.NDArray[np.float32]], *, counts: bool, sampling_rate_hz: float
) -> npt.NDArray[np.float32]:
    """Describe each channel by a few numbers that mean the same in every recording.

    Parameters
    ----------
    parts
        Contiguous stretches, each [time, channel] in physical units (counts per bin for spikes).
    counts
        Whether values are spike counts: then `level` is the log rate in log10 Hz and `fano` the log variance to
        mean ratio; otherwise `level` is the log SD against the median channel of the recording.
    sampling_rate_hz
        Of the values.

    Returns
    -------
    [channel, len(STATISTICS)] float32: finite, each within [-4, 4].
    """
    values = np.concatenate(parts).astype(np.float64)
    mean, sd = values.mean(axis=0), values.std(axis=0)
    safe_sd = np.where(sd > 0, sd, 1.0)
    z = (values - mean) / safe_sd
    lengths = [len(part) for part in parts]
    stretches = np.split(z, np.cumsum(lengths)[:-1])
    variance = np.maximum(sd**2, 1e-12)
    magnitude = np.maximum(np.abs(mean), 1e-12)
    if counts:
        level = np.log10(np.maximum(mean * sampling_rate_hz, 1e-2))
        fano = np.log(variance / magnitude)
    else:
        level = np.log(np.maximum(sd, 1e-12) / max(float(np.median(sd)), 1e-12))
        fano = np.zeros_like(mean)
    columns = [
        level,
        np.log(np.maximum(sd, 1e-12) / magnitude),
        fano,
        *(_autocorrelation(stretches, lag=lag) for lag in _LAGS),
        (z**3).mean(axis=0) / 2,
        np.log(np.maximum((z**4).mean(axis=0), 1e-12) / 3),
        _population_correlation(z),
        np.full_like(mean, np.log10(max(len(values), 1)) - 3),
    ]
    table = np.nan_to_num(np.stack(columns, axis=1), nan=0.0, posinf=_LIMIT, neginf=-_LIMIT)
    clipped: npt.NDArray[np.float32] = np.clip(table, -_LIMIT, _LIMIT).astype(np.float32)
    return clipped


def _autocorrelation(stretches: Sequence[npt.NDArray[np.float64]], *, lag: int) -> npt.NDArray[np.float64]:
    """[channel] mean product of z-scored values `lag` samples apart, within stretches."""
    products = sum((part[lag:] * part[:-lag]).sum(axis=0) for part in stretches)
    pairs = sum(max(len(part) - lag, 0) for part in stretches)
    result: npt.NDArray[np.float64] = np.asarray(products, dtype=np.float64) / max(pairs, 1)
    return result


def _population_correlation(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[channel] correlation with the mean of all other channels."""
    others = z.sum(axis=1, keepdims=True) - z
    spread = np.maximum(others.std(axis=0), 1e-12)
    result: npt.NDArray[np.float64] = (z * others).mean(axis=0) / spread
    return result
