"""Tuning curves with their shuffles, and maps of place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, INK, MUTED, new_figure, short

_COLUMNS = 4


def draw_curves(
    centre: npt.NDArray[np.float64],
    *,
    mean: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    titles: Sequence[str],
    label: str,
    circular: bool,
) -> Figure:
    """Draw one small curve per unit over the band of its shuffles.

    Parameters
    ----------
    centre
        [bin] radians where `circular`, else in the variable's unit.
    mean, low, high
        [bin, unit]
    titles
        [unit]
    label
        What lies along the axis.
    circular
        Draw polar, each from 0 to its own peak.
    """
    figure, grid = _grid(len(titles), polar=circular)
    if circular:
        centre = np.append(centre, centre[0] + 2 * np.pi)
        mean, low, high = (np.concatenate([one, one[:1]]) for one in (mean, low, high))
    for unit, (axes, title) in enumerate(zip(grid, titles, strict=True)):
        axes.fill_between(centre, low[:, unit], high[:, unit], color=MUTED, alpha=0.35, linewidth=0)
        axes.plot(centre, mean[:, unit], color=BASELINE)
        axes.set_title(title, fontsize=7, pad=3, loc="center")
        if circular:
            axes.set_ylim(0, float(np.nanmax([mean[:, unit], high[:, unit]])) * 1.05 or 1.0)
            axes.set_xticks([0, np.pi / 2, np.pi, 3 * np.pi / 2], [])
            axes.set_yticks([])
            axes.grid(visible=True, linewidth=0.4)
        else:
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize=7)
    if not circular:
        figure.supxlabel(label, fontsize=8.5)
    return figure


def draw_maps(
    mean: npt.NDArray[np.float64], *, occupancy_s: npt.NDArray[np.float64], titles: Sequence[str], label: str
) -> Figure:
    """Draw where the animal was, and one map per unit from white (0) to its own peak.

    Parameters
    ----------
    mean
        [y, x, unit]; NaN where it hardly ever was.
    occupancy_s
        [y, x]
    """
    figure, grid = _grid(len(titles) + 1, polar=False)
    maps = [np.where(occupancy_s > 0, occupancy_s, np.nan), *np.moveaxis(mean, -1, 0)]
    for axes, one, title in zip(grid, maps, (f"time, peak {np.nanmax(occupancy_s):.3g} s", *titles), strict=True):
        axes.imshow(one, origin="lower", cmap="viridis", interpolation="nearest", aspect="equal")
        axes.set_title(title, fontsize=7, pad=3, loc="center")
        axes.set_xticks([])
        axes.set_yticks([])
    figure.supxlabel(label, fontsize=8.5)
    return figure


def draw_distributions(measures: Sequence[tuple[str, npt.NDArray[np.float64]]]) -> Figure:
    """Draw a histogram over units of each measure (name, [unit])."""
    figure = new_figure(height_in=1.8)
    for axes, (name, values) in zip(figure.subplots(1, len(measures), squeeze=False).flat, measures, strict=True):
        axes.hist(values, bins=20, color=BASELINE)
        axes.axvline(float(np.median(values)), color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlabel(short(name, limit=24))
        axes.locator_params(axis="x", nbins=4)
    return figure


def _grid(count: int, *, polar: bool) -> tuple[Figure, list[Axes]]:
    rows = -(-count // _COLUMNS)
    figure = new_figure(height_in=1.4 * rows + 0.3)
    kind = {"projection": "polar"} if polar else {}
    grid = list(figure.subplots(rows, _COLUMNS, squeeze=False, subplot_kw=kind).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]
