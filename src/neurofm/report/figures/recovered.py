"""Tuning curves by what was measured and by what was decoded, one small panel per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.report.figures.style import INK, OURS, new_figure, short

_COLUMNS = 4


def draw_recovered(
    centre: npt.NDArray[np.float64],
    *,
    measured: npt.NDArray[np.float64],
    recovered: npt.NDArray[np.float64],
    titles: Sequence[str],
    is_angle: bool,
    label: str,
) -> Figure:
    """Draw both curves of each channel, polar for angles.

    Parameters
    ----------
    centre
        [bin] degrees for angles.
    measured, recovered
        [bin, channel]
    titles
        [channel]
    is_angle
        Draw around the circle.
    label
        Of the axis, where there is one.
    """
    rows = -(-len(titles) // _COLUMNS)
    figure = new_figure(height_in=1.4 * rows + 0.4)
    grid: list[Axes] = list(
        figure.subplots(rows, _COLUMNS, squeeze=False, subplot_kw={"projection": "polar"} if is_angle else {}).flat
    )
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    for channel, (axes, title) in enumerate(zip(grid, titles, strict=False)):
        for curves, colour, dashes, name in (
            (measured, INK, "solid", "by the measured target"),
            (recovered, OURS, (0, (3, 1.2)), "by the decoded target"),
        ):
            x, y = centre, curves[:, channel]
            if is_angle:
                x, y = np.deg2rad(np.append(x, x[0] + 360)), np.append(y, y[0])
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.2, label=name)
        axes.set_title(short(title, limit=20), fontsize=7, pad=3, loc="center")
        if is_angle:
            axes.set_xticks([0, np.pi / 2, np.pi, 3 * np.pi / 2], [])
            axes.set_yticks([])
            axes.set_ylim(bottom=0.0)
            axes.grid(visible=True, linewidth=0.4)
        else:
            axes.locator_params(nbins=3)
            axes.tick_params(labelsize=7)
    if not is_angle:
        figure.supxlabel(label, fontsize=8.5)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, ncols=2, fontsize=7.5, loc="outside upper left", borderpad=0)
    return figure
