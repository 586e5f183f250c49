"""Parcels: all time series at once as a carpet, and how they correlate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

_CARPET_SD = 2.5


def draw_carpet(axes: Axes, *, time_s: npt.NDArray[np.float64], values: npt.NDArray[np.floating], rows: str) -> None:
    """Draw every channel as a row of colour, in SDs from its own mean.

    After Power (2017), NeuroImage 154:150-158, doi:10.1016/j.neuroimage.2016.08.009.

    Parameters
    ----------
    time_s
        [time], evenly spaced.
    values
        [time, channel]
    rows
        What a row is.
    """
    sd = values.std(axis=0)
    sd[sd == 0] = 1.0
    z = (values - values.mean(axis=0)) / sd
    step = time_s[1] - time_s[0] if len(time_s) > 1 else 1.0
    image = axes.imshow(
        z.T,
        aspect="auto",
        cmap="gray",
        vmin=-_CARPET_SD,
        vmax=_CARPET_SD,
        interpolation="nearest",
        extent=(float(time_s[0]), float(time_s[-1] + step), values.shape[1] + 0.5, 0.5),
    )
    axes.set_xlabel("time (s)")
    axes.set_ylabel(rows)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, ticks=[-2, 0, 2])
    bar.outline.set_visible(False)
    bar.set_label("SD from the mean")


def correlation(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Pearson correlation between channels.

    Parameters
    ----------
    values
        [time, channel], no channel constant.

    Returns
    -------
    [channel, channel]
    """
    return np.atleast_2d(np.corrcoef(values, rowvar=False)).astype(np.float64)


def draw_correlation(axes: Axes, *, matrix: npt.NDArray[np.float64], rows: str) -> None:
    """Draw a correlation matrix, blue below zero and red above.

    Parameters
    ----------
    matrix
        [channel, channel]
    rows
        What a row is.
    """
    n = len(matrix)
    image = axes.imshow(
        matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", extent=(0.5, n + 0.5, n + 0.5, 0.5)
    )
    axes.set_xlabel(rows)
    axes.set_ylabel(rows)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    bar.set_label("correlation")
