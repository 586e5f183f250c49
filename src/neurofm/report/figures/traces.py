"""Traces of many channels, one above the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from neurofm.report.figures.style import BASELINE, INK, MUTED, RULE, bare, short, thin

_SPACING_SD = 5.0


def draw_traces(
    axes: Axes,
    *,
    time_s: npt.NDArray[np.float64],
    values: npt.NDArray[np.floating],
    names: Sequence[str],
    unit: str,
    common_scale: bool,
    events_s: Sequence[float] = (),
) -> None:
    """Draw each channel on its own baseline.

    Parameters
    ----------
    time_s
        [time]
    values
        [time, channel]
    names
        [channel]
    unit
        Of `values`, for the scale bar.
    common_scale
        True: all channels share one scale, given by a bar. False: each is drawn in its own SDs.
    events_s
        Where to draw a faint vertical line.
    """
    centred = values - np.median(values, axis=0)
    sd = centred.std(axis=0)
    sd[sd == 0] = 1.0
    scale = np.full_like(sd, np.median(sd)) if common_scale else sd
    for event in events_s:
        axes.axvline(event, color=RULE, linewidth=0.7, zorder=0)
    for row in range(values.shape[1]):
        x, y = thin(time_s, centred[:, row] / scale[row])
        axes.plot(x, y - row * _SPACING_SD, color=BASELINE if row % 2 else INK, linewidth=0.6)
    axes.set_yticks([-row * _SPACING_SD for row in range(len(names))], [short(n, limit=10) for n in names], fontsize=7)
    axes.set_xlim(time_s[0], time_s[-1])
    axes.set_ylim(-(len(names) - 0.2) * _SPACING_SD, _SPACING_SD)
    bare(axes)
    axes.set_xlabel("time (s)")
    length = _round_length(float(scale[0]) * _SPACING_SD) if common_scale else 0.0
    if length:
        foot = -(len(names) - 1) * _SPACING_SD
        _scale_bar(axes, foot=foot, height=length / float(scale[0]), label=f"{length:g} {unit}")


def _round_length(about: float) -> float:
    """Return the 1, 2 or 5 times a power of ten just below `about`."""
    power = 10.0 ** np.floor(np.log10(about))
    return float(max(step * power for step in (1, 2, 5) if step * power <= about))


def _scale_bar(axes: Axes, *, foot: float, height: float, label: str) -> None:
    place = axes.get_yaxis_transform()
    axes.plot([1.01, 1.01], [foot, foot + height], color=INK, linewidth=1.4, transform=place, clip_on=False)
    axes.text(1.02, foot, label, transform=place, va="bottom", fontsize=7.5, rotation=90, color=MUTED)


def draw_rois(
    axes: Axes, *, position: npt.NDArray[np.floating], shade: npt.NDArray[np.floating], unit: str, label: str
) -> None:
    """Draw where the regions of interest lie in the imaging plane.

    Parameters
    ----------
    position
        [channel, 2 or more]; x and y are used.
    shade
        [channel] drawn as colour, between its 2nd and 98th percentile.
    unit
        Of `position`.
    label
        What the colour says.
    """
    low, high = np.percentile(shade, [2, 98])  # one odd region must not take the colour from all others
    points = axes.scatter(
        position[:, 0], position[:, 1], c=shade, s=16, cmap="viridis", linewidths=0, vmin=low, vmax=high
    )
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xlabel(f"x ({unit})")
    axes.set_ylabel(f"y ({unit})")
    bar = axes.figure.colorbar(points, ax=axes, shrink=0.7, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label(label)
