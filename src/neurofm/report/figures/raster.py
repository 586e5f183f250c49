"""Spikes: the raster, what was measured beside it, and tuning to an angle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, short

_TUNING_BINS = 24
_MOST_NAMED = 24


def draw_raster(
    axes: Axes,
    *,
    time_s: npt.NDArray[np.float64],
    channel: npt.NDArray[np.int64],
    names: Sequence[str],
    span_s: tuple[float, float],
) -> None:
    """Draw one row of ticks per unit.

    Parameters
    ----------
    time_s, channel
        [spike] seconds, and row of the channel table.
    names
        [channel]
    span_s
        First and last second drawn.
    """
    inside = (time_s >= span_s[0]) & (time_s < span_s[1])
    time_s, channel = time_s[inside], channel[inside]
    for unit in range(len(names)):
        times = time_s[channel == unit]
        # One line with gaps per unit: far smaller in the page than one element per spike.
        x = np.column_stack([times, times, np.full_like(times, np.nan)]).ravel()
        y = np.tile([unit - 0.38, unit + 0.38, np.nan], len(times))
        axes.plot(x, y, color=INK, linewidth=0.5, solid_capstyle="butt")
    axes.set_xlim(*span_s)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _name_rows(axes, names)
    axes.set_ylabel("unit")
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    step = -(-len(names) // _MOST_NAMED)
    rows = range(0, len(names), step)
    axes.set_yticks(list(rows), [short(names[row], limit=10) for row in rows], fontsize=7)


def angle_of(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Turn (cos, sin) columns [time, 2] into degrees [time] in [0, 360); NaN stays NaN."""
    return np.asarray(np.rad2deg(np.arctan2(values[:, 1], values[:, 0])) % 360.0, dtype=np.float64)


def draw_angle(axes: Axes, *, time_s: npt.NDArray[np.float64], degrees: npt.NDArray[np.float64], name: str) -> None:
    """Draw an angle over time, without a line where it wraps around.

    Parameters
    ----------
    time_s, degrees
        [time]
    name
        Label of the axis.
    """
    drawn = degrees.copy()
    drawn[1:][np.abs(np.diff(degrees)) > 180.0] = np.nan
    axes.plot(time_s, drawn, color=OURS)
    axes.set_ylim(0, 360)
    axes.set_yticks([0, 180, 360])
    axes.set_ylabel(f"{short(name, limit=18)} (°)")


def draw_target(
    axes: Axes,
    *,
    time_s: npt.NDArray[np.float64],
    values: npt.NDArray[np.floating],
    columns: Sequence[str],
    name: str,
) -> None:
    """Draw the columns of a measured variable over time.

    Parameters
    ----------
    time_s
        [time]
    values
        [time, k]
    columns
        [k]
    name
        Label of the axis, with its unit.
    """
    colours = (OURS, BASELINE, MUTED)
    for column, colour in zip(range(values.shape[1]), colours, strict=False):
        axes.plot(time_s, values[:, column], color=colour, label=short(columns[column]))
    axes.set_ylabel(short(name, limit=18))
    if values.shape[1] > 1:
        axes.legend(frameon=False, ncols=3, fontsize=7.5, loc="upper right", borderpad=0, handlelength=1.2)


def tuning(
    counts: npt.NDArray[np.floating], degrees: npt.NDArray[np.float64], *, rate_hz: float
) -> npt.NDArray[np.float64]:
    """Mean firing rate in each of 24 bins of an angle.

    Parameters
    ----------
    counts
        [time, unit] spikes per sample.
    degrees
        [time]; samples that are NaN are left out.
    rate_hz
        Samples per second.

    Returns
    -------
    [bin, unit] spikes per second; NaN for angles that never occurred.
    """
    known = np.isfinite(degrees)
    place = (degrees[known] / 360.0 * _TUNING_BINS).astype(np.int64) % _TUNING_BINS
    samples = np.bincount(place, minlength=_TUNING_BINS).astype(np.float64)
    spikes = np.stack(
        [np.bincount(place, weights=column, minlength=_TUNING_BINS) for column in counts[known].T], axis=1
    )
    samples[samples == 0] = np.nan
    return np.asarray(spikes / samples[:, np.newaxis] * rate_hz, dtype=np.float64)


def draw_tuning(figure: Figure, *, rates_hz: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    """Draw one small polar curve per unit, each scaled to its own peak, which is written above it.

    Parameters
    ----------
    rates_hz
        [bin, unit] from `tuning`.
    names
        [unit]
    """
    shown = min(rates_hz.shape[1], 20)
    columns = 5
    rows = -(-shown // columns)
    grid = figure.subplots(rows, columns, subplot_kw={"projection": "polar"}, squeeze=False)
    centre = (np.arange(_TUNING_BINS) + 0.5) / _TUNING_BINS * 2 * np.pi
    for place, axes in enumerate(grid.flat):
        if place >= shown:
            axes.set_axis_off()
            continue
        curve = np.nan_to_num(rates_hz[:, place])
        peak = float(curve.max())
        closed = np.append(curve, curve[0]) / (peak or 1.0)
        angle = np.append(centre, centre[0])
        axes.fill(angle, closed, color=BASELINE, alpha=0.25, linewidth=0)
        axes.plot(angle, closed, color=BASELINE)
        axes.set_ylim(0, 1.05)
        axes.set_xticks([0, np.pi / 2, np.pi, 3 * np.pi / 2], [])
        axes.set_yticks([])
        axes.grid(visible=True, linewidth=0.4)
        axes.spines["polar"].set_linewidth(0.4)
        axes.set_title(f"{short(names[place], limit=8)} · {peak:.3g} Hz", fontsize=7, pad=2, loc="center")
