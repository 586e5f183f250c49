"""Few-shot curves: scores over the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from neurofm.report.figures.classes import style_of
from neurofm.report.figures.style import INK, MUTED, OURS, short

Floats = npt.NDArray[np.float64]
_OTHERS = (0, 2, 3, 4, 5, 6, 7)
"""Classes' colours that are not ours."""
_COLOURS = 8
"""All that there are."""
_LOWEST = -1.0
"""Where the axis ends: R2 or bits far below the null say no more than that they are, and would squash all else."""
_NEAR = 1.15
"""Times as many labels whose names would lie on one another."""


@dataclass(frozen=True, kw_only=True)
class Rise:
    """One model's curve."""

    name: str
    model: str
    """Whose features: curves of one model share a colour and a mark."""
    dotted: bool
    """Another read-out of the same features than the first: dotted, with hollow marks."""
    shown: Floats
    """[point] how many labels, ascending."""
    value: Floats
    low: Floats
    high: Floats
    ours: bool
    """The model that pretraining made; drawn on top."""
    null: bool


def draw_rises(
    axes: Axes,
    *,
    rises: Sequence[Rise],
    ticks: Sequence[tuple[float, str]],
    label: str,
    over: str = "labels",
    others: Sequence[str] = (),
) -> None:
    """Draw each curve with a bar for its interval at every point, on a logarithmic axis of labels.

    Parameters
    ----------
    rises
        At least one.
    ticks
        How many labels, and what stands there, in the order of their names; those of places that lie on one another
        stand in one line.
    label
        Metric in words.
    over
        What the axis counts in place of labels.
    others
        Models that are neither ours nor the null, of all figures that stand together: each has one colour in all.
    """
    others = list(dict.fromkeys([*others, *(rise.model for rise in rises if not (rise.ours or rise.null))]))
    for place, rise in enumerate(sorted(rises, key=lambda rise: (rise.ours, not rise.null))):
        if rise.ours or rise.null:
            colour, mark = (OURS, "D") if rise.ours else (MUTED, ".")
        else:
            index = others.index(rise.model)
            # Where colours come again, marks do not.
            colour, mark = style_of(_OTHERS[index % len(_OTHERS)] + _COLOURS * (index // len(_OTHERS)))
        # Side by side, so that bars at one number of labels can be told apart.
        x = rise.shown * 1.03 ** (place - (len(rises) - 1) / 2)
        axes.vlines(x, rise.low, rise.high, color=colour, linewidth=0.9, alpha=0.7)
        axes.plot(
            *(x, rise.value),
            color=colour,
            marker=mark,
            markersize=4,
            markerfacecolor="none" if rise.dotted else colour,
            linestyle="dashed" if rise.null else "dotted" if rise.dotted else "solid",
            label=short(rise.name, limit=34),
        )
    worst = min(float(np.nanmin(rise.value)) for rise in rises)
    if worst < _LOWEST:
        axes.set_ylim(bottom=_LOWEST)
        axes.text(
            *(0.99, 0.02, f"\N{DOWNWARDS ARROW} down to {worst:.1f}".replace("-", "\N{MINUS SIGN}")),
            transform=axes.transAxes,
            horizontalalignment="right",
            color=MUTED,
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    apart = _apart(ticks)
    axes.set_xticks(list(apart), list(apart.values()))
    axes.set_xlabel(over)
    axes.set_ylabel(label)
    axes.figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=7.5, labelcolor=INK, borderpad=0)


def _apart(ticks: Sequence[tuple[float, str]]) -> dict[float, str]:
    """Join the first lines of ticks that lie on one another: 1 % and 5 % of few windows are the same number of them."""
    apart: dict[float, str] = {}
    for at, name in ticks:
        near = next((other for other in apart if other / _NEAR < at < _NEAR * other), None)
        if near is None:
            apart[at] = name
        else:
            first, _, rest = apart[near].partition("\n")
            second, _, _ = name.partition("\n")
            apart[near] = f"{first}, {second}\n{rest}"
    return apart
