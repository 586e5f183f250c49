"""Training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, MUTED, OURS


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss of one modality in one fold."""

    step: npt.NDArray[np.float64]
    """[point]"""
    train: npt.NDArray[np.float64]
    """[point]; NaN where there is none."""
    validation: npt.NDArray[np.float64]
    """[point]; NaN where there is none."""
    best_step: int
    """The step whose weights were kept."""
    fold: int

    @property
    def kept(self) -> float:
        """Validation loss at the step that was kept; NaN if it was not measured there."""
        found = self.validation[self.step == self.best_step]
        return float(found[0]) if len(found) else float("nan")


_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.6, 1.4, 1.6)))
"""Of the folds, in turn: two colours say already which loss it is."""


def draw_curves(figure: Figure, *, curves: Sequence[Curve]) -> None:
    """Draw the training loss of every fold, and beneath how its validation loss changed.

    Folds are validated on different data, so their losses lie far apart; the change since the first
    measurement, in percent, is what can be compared. A dot stands at the step that was kept; the legend says the
    validation loss there. Losses are relative to predicting the mean: the null is 1, a dashed line where it is in
    sight, else an arrow that says on which side it lies.
    """
    upper, lower = figure.subplots(2, 1, sharex=True)
    lower.axhline(0.0, color=MUTED, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    for curve in curves:
        change = validation_change(curve)
        dashes = _DASHES[curve.fold % len(_DASHES)]
        # A step hides one kind of mask: a kind that is rare was not drawn at every step that is written.
        trained = np.isfinite(curve.train)
        upper.plot(curve.step[trained], curve.train[trained], color=BASELINE, linewidth=0.8, linestyle=dashes)
        lower.plot(curve.step, change, color=OURS, linestyle=dashes, label=legend_of(curve))
        kept = curve.step == curve.best_step
        lower.plot(curve.step[kept], change[kept], "o", color=OURS, markersize=4, clip_on=False)
    low, high = upper.get_ylim()
    if low < 1.0 < high:
        upper.axhline(1.0, color=MUTED, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    else:
        place = "\N{UPWARDS ARROW}" if high <= 1.0 else "\N{DOWNWARDS ARROW}"
        upper.set_title(f"null {place} 1", loc="right", fontsize=7.5, color=MUTED)
    figure.legend(loc="outside upper left", ncols=len(curves), frameon=False, fontsize=8, handlelength=2.4)
    upper.set_ylabel("training loss\n(null = 1)")
    lower.set_ylabel("validation (%)")
    lower.set_xlabel("optimiser step")
    lower.margins(x=0.02)
    figure.align_ylabels()


def legend_of(curve: Curve) -> str:
    """Return what the legend says of a fold: its number, and the validation loss that was kept."""
    return f"fold {curve.fold}" + (f": {curve.kept:.3f}" if np.isfinite(curve.kept) else "")


def validation_change(curve: Curve) -> npt.NDArray[np.float64]:
    """Return by how many percent the validation loss differs from its first finite value, [point]."""
    finite = curve.validation[np.isfinite(curve.validation)]
    first = float(finite[0]) if len(finite) else float("nan")
    return np.asarray((curve.validation - first) / (abs(first) or 1.0) * 100.0, dtype=np.float64)
