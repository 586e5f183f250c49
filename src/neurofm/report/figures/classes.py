"""Colours and marks of classes: told apart without seeing colours, since each mark has one shape for eight classes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from neurofm.report.figures.style import BASELINE, INK, OURS, THIRD, short

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/); its yellow is too light for a mark on white.
_COLOURS = (BASELINE, OURS, THIRD, "#cc79a7", "#56b4e9", "#a6761d", INK, "#e69f00")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_NAMED = 12
"""Classes that a legend names; of more it would be larger than the drawing."""


def style_of(index: int) -> tuple[str, str]:
    """Return colour and mark of a class; the first sixteen have both of their own pairing."""
    return _COLOURS[index % len(_COLOURS)], _MARKS[(index + index // len(_COLOURS)) % len(_MARKS)]


def add_legend(axes: Axes, names: tuple[str, ...]) -> None:
    """Name the classes beside the drawing; nothing where there are too many of them."""
    if len(names) > MOST_NAMED:
        return
    handles = [
        Line2D([], [], color=colour, marker=mark, linestyle="", markersize=4.5, label=short(name, limit=20))
        for name, (colour, mark) in zip(names, map(style_of, range(len(names))), strict=True)
    ]
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=7.5,
        handletextpad=0.2,
        labelcolor=INK,
        borderaxespad=0.0,
    )
