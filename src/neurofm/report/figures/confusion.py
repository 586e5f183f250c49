"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from neurofm.report.figures.style import short

_DARK = 0.55


def draw_confusion(
    axes: Axes, *, counts: npt.NDArray[np.float64], classes: Sequence[str], title: str, named: bool
) -> None:
    """Draw what was taken for what: shares of each true class as shade, and written with their counts.

    Parameters
    ----------
    counts
        [truth, predicted]
    classes
        [class]
    title
        Whose.
    named
        Whether the rows are named, which is enough once beside a second matrix.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
    size = 8.0 if len(classes) <= 3 else 6.5
    for row in range(len(classes)):
        for column in range(len(classes)):
            axes.text(
                column,
                row,
                f"{share[row, column]:.0%}\n{counts[row, column]:,.0f}",
                ha="center",
                va="center",
                fontsize=size,
                # On the shade itself, whatever the page's colours are.
                color="#fefefe" if share[row, column] > _DARK else "#1c2025",
            )
    limit = 12 if len(classes) > 2 else 16
    names = [short(name, limit=limit) for name in classes]
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(range(len(classes)), names if named else [])
    axes.set_xlabel("taken for")
    if named:
        axes.set_ylabel("truth")
    axes.set_title(short(title, limit=30))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
