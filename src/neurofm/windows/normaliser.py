"""Normaliser: mean and SD per channel, fitted on what a fold may see and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_SD_FRACTION = 0.1
"""A channel whose SD in the calibration samples is below this share of the median channel's is silent there."""


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Mean and SD of each channel over the calibration samples of one recording in one fold."""

    mean: npt.NDArray[np.float64]
    """[channel]"""
    sd: npt.NDArray[np.float64]
    """[channel]; 1 where `usable` is False."""
    usable: npt.NDArray[np.bool_]
    """[channel]; False for channels that are unfit, or silent in the calibration samples (`MIN_SD_FRACTION`)."""

    def rate(self, z: npt.NDArray[np.floating], channels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """From SDs back to physical units, for the columns `channels` only."""
        restored: npt.NDArray[np.float64] = z * self.sd[channels] + self.mean[channels]
        return restored


def fit_normaliser(parts: Iterable[npt.NDArray[np.floating]], *, usable: npt.NDArray[np.bool_]) -> Normaliser:
    """Fit mean and SD over the concatenated `parts`, and leave out channels that are silent in them.

    Parameters
    ----------
    parts
        [time, channel] valid samples of the calibration segments.
    usable
        [channel] what preprocessing found fit for use.
    """
    samples = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    if len(samples) == 0:
        empty = np.zeros(len(usable))
        return Normaliser(mean=empty, sd=empty + 1.0, usable=np.zeros_like(usable))
    mean = samples.mean(axis=0)
    sd = samples.std(axis=0)
    varies = usable & np.isfinite(mean) & (sd > 0)
    # In units of a silent channel's SD a single event would outweigh everything else that is learned or scored.
    typical = float(np.median(sd[varies])) if varies.any() else 0.0
    fit = varies & (sd >= MIN_SD_FRACTION * typical)
    return Normaliser(mean=np.where(fit, mean, 0.0), sd=np.where(fit, sd, 1.0), usable=fit)
