"""A connectome as measured and as it comes back from masked predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from neurofm.report.figures.style import MUTED

Floats = npt.NDArray[np.float64]
_BINS = 60


def draw_halves(axes: Axes, *, measured: Floats, reconstructed: Floats) -> None:
    """Draw both as one matrix: below the diagonal what was measured, above it what was reconstructed.

    Parameters
    ----------
    measured, reconstructed
        [channel, channel] correlations; NaN is left empty.
    """
    both = np.where(np.tri(len(measured), k=-1, dtype=bool), measured, reconstructed)
    np.fill_diagonal(both, np.nan)
    image = axes.imshow(both, cmap="RdBu_r", vmin=-1.0, vmax=1.0, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("above: reconstructed")
    axes.set_ylabel("below: measured")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.03, ticks=[-1, 0, 1], location="left")
    bar.outline.set_visible(False)
    bar.set_label("correlation")


def draw_edges(axes: Axes, *, measured: Floats, reconstructed: Floats) -> None:
    """Draw every pair of channels once: its measured correlation against the reconstructed one, as shade of density."""
    edges = np.triu_indices(len(measured), k=1)
    x, y = measured[edges], reconstructed[edges]
    known = np.isfinite(x) & np.isfinite(y)
    low = float(min(-0.2, x[known].min(), y[known].min()))
    counts, _, _ = np.histogram2d(x[known], y[known], bins=_BINS, range=[[low, 1.0], [low, 1.0]])
    axes.imshow(
        np.where(counts > 0, counts, np.nan).T,
        origin="lower",
        extent=(low, 1.0, low, 1.0),
        cmap="viridis_r",
        norm=LogNorm(vmin=1, vmax=max(2.0, float(counts.max()))),
        interpolation="nearest",
    )
    axes.plot([low, 1.0], [low, 1.0], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlabel("measured")
    axes.set_ylabel("reconstructed")
    axes.locator_params(nbins=4)
