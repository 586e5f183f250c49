"""Smoothing in time that never looks beyond a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def smoothing_matrix(samples: int, *, sd_samples: float) -> Floats:
    """[time, time] that smooths a window of `samples` with a Gaussian cut off at the window's edges.

    Each row sums to 1, so that a constant stays a constant up to the edges.
    """
    if sd_samples == 0:
        return np.eye(samples)
    apart = np.arange(samples)[:, None] - np.arange(samples)[None, :]
    kernel = np.exp(-0.5 * (apart / sd_samples) ** 2)
    weights: Floats = kernel / kernel.sum(axis=1, keepdims=True)
    return weights


def smooth(windows: npt.NDArray[np.floating], *, sd_samples: float) -> Floats:
    """Smooth [window, time, channel] along time, within each window."""
    smoothed: Floats = smoothing_matrix(windows.shape[1], sd_samples=sd_samples) @ windows
    return smoothed
