"""Motion drawn: framewise displacement, what it leaves in the signal, and what cleaning takes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, RULE, bare, new_figure, thin

Floats = npt.NDArray[np.float64]

_CARPET_SD = 2.5
_DASHED = (0, (4, 3))
_COLUMNS = 90
"""Columns into which dots of a strip are sorted, so that none hides another."""


@dataclass(frozen=True, kw_only=True)
class Carpet:
    """One recording's volumes."""

    time_s: Floats
    """[time], evenly spaced."""
    signals: Mapping[str, npt.NDArray[np.float32]]
    """[time, parcel] by name, one scale for all; the first is what SDs are taken of."""
    valid: npt.NDArray[np.bool_]
    """[time] False: left out, by scrubbing, before the steady state, or for want of numbers."""
    fd_mm: Floats | None
    """[time] framewise displacement; NaN in the first volume."""
    limit_mm: float | None
    """From which a volume counts as moved."""


def draw_strip(axes: Axes, *, fd_mm: Floats, used: npt.NDArray[np.bool_], limits: Mapping[str, float]) -> None:
    """Draw one dot per recording at its mean framewise displacement; those left out are hollow.

    Parameters
    ----------
    fd_mm
        [recording] finite.
    used
        [recording]
    limits
        Lines to draw, by what they are, mm.
    """
    top = 1.08 * max(float(fd_mm.max()), *limits.values(), 0.0) if limits else 1.08 * float(fd_mm.max())
    top = top or 1.0
    column = np.floor(fd_mm / top * _COLUMNS).astype(np.int64)
    height = np.zeros(len(fd_mm))
    for one in np.unique(column):
        (members,) = np.nonzero(column == one)
        height[members[np.argsort(fd_mm[members], kind="stable")]] = np.arange(len(members))
    for chosen, face, colour in ((used, BASELINE, BASELINE), (~used, "none", OURS)):
        axes.scatter(fd_mm[chosen], height[chosen], s=22, facecolors=face, edgecolors=colour, linewidths=1.0, zorder=2)
    most = max(float(height.max()), 1.0)
    for place, (name, value) in enumerate(sorted(limits.items(), key=lambda item: item[1])):
        axes.axvline(value, color=MUTED, linewidth=0.8, linestyle=_DASHED, zorder=1)
        axes.annotate(
            f"{name} {value:g} mm", (value, 1.0 - 0.16 * place), xycoords=("data", "axes fraction"),
            xytext=(-3, 0) if value > top / 2 else (3, 0), textcoords="offset points",
            ha="right" if value > top / 2 else "left", va="top", fontsize=7.5, color=MUTED,
        )  # fmt: skip
    axes.set_xlim(0, top)
    axes.set_ylim(-0.8, most * 1.35 + 0.5)
    axes.set_yticks([])
    bare(axes)
    axes.set_xlabel("mean framewise displacement (mm)")


def draw_carpets(carpet: Carpet) -> Figure:
    """Draw displacement, which volumes are left out, and parcels by time for every signal, one below the other.

    After Power (2017), NeuroImage 154:150-158, doi:10.1016/j.neuroimage.2016.08.009. All signals are in SDs that each
    parcel has in the valid volumes of the first of them, so that what cleaning takes out makes the image paler.
    """
    some_out = bool((~carpet.valid).any())
    heights = [0.75] * (carpet.fd_mm is not None) + [0.12] * some_out + [1.5] * len(carpet.signals)
    figure = new_figure(height_in=sum(heights) + 0.75)
    rows = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    step = float(carpet.time_s[1] - carpet.time_s[0]) if len(carpet.time_s) > 1 else 1.0
    if carpet.fd_mm is not None:
        _draw_trace(rows.pop(0), carpet)
    if some_out:
        _draw_marks(rows.pop(0), carpet.time_s[~carpet.valid] + step / 2)

    sd = _fit(next(iter(carpet.signals.values())), carpet).std(axis=0)
    sd[sd == 0] = 1.0
    for axes, (name, values) in zip(rows, carpet.signals.items(), strict=True):
        image = axes.imshow(
            ((values - _fit(values, carpet).mean(axis=0)) / sd).T,
            aspect="auto",
            cmap="gray",
            vmin=-_CARPET_SD,
            vmax=_CARPET_SD,
            interpolation="nearest",
            extent=(float(carpet.time_s[0]), float(carpet.time_s[-1]) + step, values.shape[1] + 0.5, 0.5),
        )
        axes.set_ylabel(f"{name}\nparcel")
    rows[-1].set_xlabel("time (s)")
    bar = figure.colorbar(image, ax=rows, pad=0.02, aspect=30, ticks=[-2, 0, 2])
    bar.outline.set_visible(False)
    bar.set_label("SD from the mean")
    return figure


def _fit(values: npt.NDArray[np.float32], carpet: Carpet) -> Floats:
    """Return the valid volumes; all of them where none is."""
    return np.asarray(values[carpet.valid] if carpet.valid.any() else values, dtype=np.float64)


def _draw_marks(axes: Axes, at_s: Floats) -> None:
    axes.vlines(at_s, 0, 1, color=OURS, linewidth=0.9)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    bare(axes)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False)
    axes.set_ylabel("left out", rotation=0, ha="right", va="center", fontsize=7.5, color=OURS)


def _draw_trace(axes: Axes, carpet: Carpet) -> None:
    assert carpet.fd_mm is not None
    axes.plot(*thin(carpet.time_s, np.nan_to_num(carpet.fd_mm)), color=INK, linewidth=0.8)
    top = float(np.nanmax(carpet.fd_mm, initial=0.0))
    if carpet.limit_mm is not None:
        axes.axhline(carpet.limit_mm, color=MUTED, linewidth=0.8, linestyle=_DASHED)
        top = max(top, carpet.limit_mm)
    axes.set_ylim(0, 1.1 * top or 1.0)
    axes.tick_params(bottom=False)
    axes.spines["bottom"].set_color(RULE)
    axes.set_ylabel("FD (mm)")


def draw_connectomes(matrices: Mapping[str, npt.NDArray[np.float32]]) -> Figure:
    """Draw correlation matrices side by side on one scale; edges that nobody has are grey.

    Parameters
    ----------
    matrices
        [parcel, parcel] by name.
    """
    figure = new_figure(height_in=2.7 if len(matrices) > 1 else 3.6)
    drawn = list(figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0])
    for axes, (name, matrix) in zip(drawn, matrices.items(), strict=True):
        n = len(matrix)
        axes.set_facecolor(RULE)
        image = axes.imshow(
            np.ma.masked_invalid(matrix),
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            interpolation="nearest",
            extent=(0.5, n + 0.5, n + 0.5, 0.5),
        )
        axes.set_title(name)
        axes.set_xlabel("parcel")
    drawn[0].set_ylabel("parcel")
    bar = figure.colorbar(image, ax=drawn, pad=0.02, shrink=0.8, ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    bar.set_label("correlation")
    return figure


def draw_qcfc(
    axes: Axes, *, bins: npt.NDArray[np.float32], null: npt.NDArray[np.float32], sides: Sequence[tuple[str, Floats]]
) -> None:
    """Draw how QC-FC is distributed over edges: the null filled, each side as a line.

    Parameters
    ----------
    bins
        [bin + 1]
    null
        [bin] edges per permutation.
    sides
        Name and [edge] r, finite; the last is drawn in the colour of what we make.
    """
    colours = [BASELINE] * (len(sides) - 1) + [OURS]
    axes.stairs(null, bins, fill=True, color=RULE, label="motion dealt out at random")
    reach = _reach(bins, null)
    for (name, r), colour in zip(sides, colours, strict=True):
        counts, _ = np.histogram(r, bins=bins.astype(np.float64))
        axes.stairs(counts, bins, color=colour, linewidth=1.3, label=name)
        reach = max(reach, _reach(bins, counts))
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=_DASHED, zorder=0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("correlation of edge and mean FD over recordings")
    axes.set_ylabel("edges")
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", borderaxespad=0.0, handlelength=1.4)


def _reach(bins: npt.NDArray[np.float32], counts: npt.NDArray[np.generic]) -> float:
    """Return the largest |r| that at least a thousandth as many edges have as the fullest bin."""
    full = np.asarray(counts, dtype=np.float64)
    (some,) = np.nonzero(full > full.max(initial=0.0) / 1000)
    return float(max(abs(bins[some[0]]), abs(bins[some[-1] + 1]))) if len(some) else 1.0
