"""Embeddings: points in the plane of two principal components, coloured by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from neurofm.report.figures.classes import add_legend, style_of
from neurofm.report.figures.style import MUTED

Floats = npt.NDArray[np.float64]


def draw_classes(
    axes: Axes, *, xy: Floats, which: Floats, names: tuple[str, ...], held_out: Floats, explained: Sequence[float]
) -> None:
    """Draw one mark per point: filled where it was held out, hollow where it was learned from.

    Parameters
    ----------
    xy
        [point, 2]
    which
        [point] index into `names`; NaN where it is not known (small grey dots).
    names
        [class]
    held_out
        [point] 1 or 0.
    explained
        Share of variance of the two axes.
    """
    unknown = ~np.isfinite(which)
    axes.plot(*xy[unknown].T, ".", color=MUTED, markersize=2)
    for index in range(len(names)):
        colour, mark = style_of(index)
        for flag, face in ((0.0, "none"), (1.0, colour)):
            inside = (which == index) & (held_out == flag)
            axes.plot(
                *xy[inside].T, mark, color=colour, markerfacecolor=face, markersize=3.8, markeredgewidth=0.8, alpha=0.85
            )
    add_legend(axes, names)
    _label(axes, explained)


def draw_angles(axes: Axes, *, xy: Floats, degrees: Floats, explained: Sequence[float], label: str) -> None:
    """Draw one dot per point, coloured around the circle.

    Parameters
    ----------
    xy, explained
        As `draw_classes`.
    degrees
        [point] NaN where it is not known.
    label
        What the angle is.
    """
    known = np.isfinite(degrees)
    axes.plot(*xy[~known].T, ".", color=MUTED, markersize=2)
    x, y = xy[known].T
    dots = axes.scatter(
        x, y, c=degrees[known], cmap="twilight", vmin=0, vmax=360, s=13, edgecolors=MUTED, linewidths=0.3
    )
    bar = axes.figure.colorbar(dots, ax=axes, shrink=0.8, pad=0.03, ticks=[0, 90, 180, 270, 360])
    bar.outline.set_visible(False)
    bar.set_label(label)
    _label(axes, explained)


def _label(axes: Axes, explained: Sequence[float]) -> None:
    axes.set_xlabel(f"component 1 ({explained[0]:.0%} of the variance)")
    axes.set_ylabel(f"component 2 ({explained[1]:.0%})")
    axes.locator_params(nbins=5)
    axes.margins(0.06)
