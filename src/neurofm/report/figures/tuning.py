"""Tuning curves with their shuffles, and maps of place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, INK, MUTED, new_figure, short

_COLUMNS = 4
_MOST_LETTERS = 14
"""Of all levels together, side by side beneath one small panel."""


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


def draw_levels(
    names: Sequence[str],
    *,
    mean: npt.NDArray[np.float64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    titles: Sequence[str],
    label: str,
    joined: bool,
) -> Figure:
    """Draw one small panel per unit: a point per condition over the band of its permutations.

    Parameters
    ----------
    names
        [level]
    mean, low, high
        [level, unit]
    titles
        [unit]
    label
        What the levels are.
    joined
        Join the points by a line, for levels that have an order.
    """
    figure, grid = _grid(len(titles), polar=False)
    place = np.arange(len(names))
    upright = sum(map(len, names)) > _MOST_LETTERS
    for unit, (axes, title) in enumerate(zip(grid, titles, strict=True)):
        axes.vlines(place, low[:, unit], high[:, unit], color=MUTED, alpha=0.35, linewidth=4)
        axes.plot(place, mean[:, unit], color=BASELINE, marker="o", markersize=2.5, linestyle="-" if joined else "")
        axes.set_title(title, fontsize=7, pad=3, loc="center")
        axes.set_xticks(place, [short(name, limit=9) for name in names], rotation=90 if upright else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.tick_params(labelsize=6)
        axes.locator_params(axis="y", nbins=3)
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
