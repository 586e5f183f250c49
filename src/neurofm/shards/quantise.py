"""Floats as 16-bit integers with a scale and an offset per channel, the error measured and bounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_ERROR_SD = 0.01
"""Largest quantisation error allowed, in SDs of the channel."""
STEP_SD = 0.01
"""Width of a step, in SDs of the channel: the error is at most half of it. A finer grid stores noise, which nothing
compresses: over the whole range of 16 bits real calcium, BOLD and EEG lay on disk uncompressed, in these steps they
take 1.7 to 2 times less."""
LEVELS = 65_534
"""Most steps between the ends of the range; int16 has one level to spare at each side."""
_MAD_TO_SD = 1.4826
"""A normal variable's standard deviation over its median absolute deviation."""


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """``values = stored * scale + offset``."""

    stored: npt.NDArray[np.int16]
    """[time, channel]"""
    scale: npt.NDArray[np.float64]
    """[channel]"""
    offset: npt.NDArray[np.float64]
    """[channel]"""
    max_error_sd: float
    """Largest error met, in SDs of its channel."""


def quantise(values: npt.NDArray[np.floating]) -> Quantised:
    """Quantise each channel in steps of its own SD, or coarser where its range has too many of them.

    The SD is the smaller one of the usual and the robust estimate, so that bursts of artefacts do not coarsen the
    signal between them.

    Parameters
    ----------
    values
        [time, channel], finite.

    Raises
    ------
    ValueError
        If a value is not finite, or if a channel's range is so much larger than its SD that the error
        would pass `MAX_ERROR_SD` (a single extreme sample does that).
    """
    wide = np.asarray(values, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("the signal holds values that are not finite; preprocessing must mark and fill them")
    low, high = wide.min(axis=0), wide.max(axis=0)
    varies = high > low
    sd = wide.std(axis=0)
    scale = np.where(varies, np.maximum(STEP_SD * _smaller_sd(wide, sd), (high - low) / LEVELS), 1.0)
    offset = (high + low) / 2
    stored = np.rint((wide - offset) / scale).astype(np.int16)
    error = np.abs(stored * scale + offset - wide).max(axis=0)
    relative = float((error[varies] / sd[varies]).max(initial=0.0))
    if relative > MAX_ERROR_SD:
        worst = int(np.argmax(np.where(varies, error / np.where(varies, sd, 1.0), 0.0)))
        raise ValueError(
            f"channel {worst}: 16 bits would lose {relative:.3f} SD (allowed {MAX_ERROR_SD}); "
            f"its range {low[worst]:.4g} to {high[worst]:.4g} is set by extreme samples that preprocessing should mark"
        )
    return Quantised(stored=stored, scale=scale, offset=offset, max_error_sd=relative)


def _smaller_sd(values: npt.NDArray[np.float64], sd: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[channel] the smaller of the SD and its robust estimate; the SD where half of the samples are equal."""
    robust = _MAD_TO_SD * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    return np.where(robust > 0, np.minimum(robust, sd), sd)
