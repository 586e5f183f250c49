"""Forest plot: differences with their intervals, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from neurofm.report.figures.style import INK, MUTED, OURS, PAPER, RULE, short

ROW_IN = 0.36
"""Height of a row."""
_REACH = 3.0
"""How many times farther than the median end the axis may reach: beyond it an interval is cut by an arrow."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One difference."""

    name: str
    """Upper line of the label."""
    against: str
    """Lower line of the label."""
    value: float
    low: float
    high: float
    p: float
    clear: bool
    """Whether it is drawn filled."""


def draw_forest(axes: Axes, *, branches: Sequence[Branch], label: str) -> None:
    """Draw one difference a row, top down; right of zero ours is better.

    At the right stand the difference and its p. A mark is filled where the difference is clear, hollow elsewhere.

    Parameters
    ----------
    branches
        At least one.
    label
        What the difference is of, with its unit.
    """
    low, high = _limits(branches)
    axes.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for row, branch in enumerate(branches):
        axes.axhline(row, color=RULE, linewidth=0.4, zorder=0)
        axes.plot([max(branch.low, low), min(branch.high, high)], [row, row], color=OURS, linewidth=1.4)
        for end, mark, beyond in ((low, "<", branch.low < low), (high, ">", branch.high > high)):
            if beyond:
                axes.plot(end, row, mark, color=OURS, markersize=3.5)
        if low <= branch.value <= high:
            face = OURS if branch.clear else PAPER
            axes.plot(branch.value, row, "D", color=OURS, markerfacecolor=face, markersize=5)
        written = f"{branch.value:+.3f}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{_p(branch.p)}".replace(
            "-", "\N{MINUS SIGN}"
        )
        axes.text(1.02, row, written, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    axes.set_yticks(
        range(len(branches)), [f"{short(b.name, limit=38)}\n{short(b.against, limit=42)}" for b in branches]
    )
    axes.tick_params(axis="y", labelsize=7, left=False)
    axes.set_ylim(len(branches) - 0.5, -0.5)
    margin = 0.04 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(label)
    axes.set_title(
        "difference\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}p", loc="right", fontsize=7.5, color=MUTED, x=1.32, pad=3
    )
    axes.spines["left"].set_visible(False)


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _limits(branches: Sequence[Branch]) -> tuple[float, float]:
    """Show every difference, and every interval whole that does not take the room from all others."""
    ends = sorted(max(abs(branch.low), abs(branch.high)) for branch in branches)
    reach = max(_REACH * ends[len(ends) // 2], *(abs(branch.value) for branch in branches)) or 1.0
    low = max(min(0.0, *(branch.low for branch in branches)), -reach)
    high = min(max(0.0, *(branch.high for branch in branches)), reach)
    return low, high
