"""The scoreboard drawn: one dot and interval per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, RULE, short


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One model's score."""

    model: str
    value: float
    ci_low: float
    ci_high: float
    ours: bool


def draw_dots(axes: Axes, *, dots: Sequence[Dot], null: float, higher_is_better: bool, label: str) -> None:
    """Draw the scores of one dataset and metric, in the order given, top down.

    A score so far below the null that the others could not be told apart is drawn as an arrow at the edge;
    every score is also written out at the right.

    Parameters
    ----------
    dots
        At least one.
    null
        Drawn as a dashed line.
    higher_is_better
        Which side of the null is the better one.
    label
        Metric in words.
    """
    low, high = _limits(dots, null, higher_is_better=higher_is_better)
    axes.axvline(null, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for row, dot in enumerate(dots):
        colour = OURS if dot.ours else BASELINE
        axes.axhline(row, color=RULE, linewidth=0.4, zorder=0)
        if dot.value < low or dot.value > high:
            axes.plot(low if dot.value < low else high, row, "<" if dot.value < low else ">", color=colour)
        else:
            axes.plot([max(dot.ci_low, low), min(dot.ci_high, high)], [row, row], color=colour, linewidth=1.4)
            axes.plot(dot.value, row, "D" if dot.ours else "o", color=colour, markersize=5)
        axes.text(
            1.01,
            row,
            f"{dot.value:.3f}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=OURS if dot.ours else INK,
        )
    axes.set_yticks(range(len(dots)), [short(dot.model) for dot in dots])
    for tick, dot in zip(axes.get_yticklabels(), dots, strict=True):
        tick.set_color(OURS if dot.ours else INK)
    axes.set_ylim(len(dots) - 0.5, -0.5)
    margin = 0.04 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def _limits(dots: Sequence[Dot], null: float, *, higher_is_better: bool) -> tuple[float, float]:
    """Show what is better than the null whole, and as much again on its other side."""
    distances = [dot.value - null if higher_is_better else null - dot.value for dot in dots]
    span = max(distances)
    if span <= 0:
        span = max(map(abs, distances)) or 1.0
    ends = [null]
    for dot, distance in zip(dots, distances, strict=True):
        if abs(distance) <= span:
            ends += [dot.value, dot.ci_low, dot.ci_high]
    low, high = max(min(ends), null - 4 * span), min(max(ends), null + 4 * span)
    # Room beyond the null for the arrows of scores that are far off.
    room = 0.08 * (high - low)
    low -= room if any(dot.value < low for dot in dots) else 0.0
    high += room if any(dot.value > high for dot in dots) else 0.0
    return low, high
