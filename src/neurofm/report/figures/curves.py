"""Training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def draw_curves(figure: Figure, *, curves: Sequence[Curve]) -> None:
    """Draw the training loss of every fold, and beneath how its validation loss changed.

    Folds are validated on different data, so their losses lie far apart; the change since the first
    measurement, in percent, is what can be compared. A dot stands at the step that was kept.
    """
    upper, lower = figure.subplots(2, 1, sharex=True)
    lower.axhline(0.0, color=MUTED, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    for curve in curves:
        change = validation_change(curve)
        upper.plot(curve.step, curve.train, color=BASELINE, linewidth=0.8)
        lower.plot(curve.step, change, color=OURS)
        kept = curve.step == curve.best_step
        lower.plot(curve.step[kept], change[kept], "o", color=OURS, markersize=4, clip_on=False)
    upper.set_ylabel("training loss")
    lower.set_ylabel("validation (%)")
    lower.set_xlabel("optimiser step")
    lower.margins(x=0.02)
    figure.align_ylabels()


def validation_change(curve: Curve) -> npt.NDArray[np.float64]:
    """Return by how many percent the validation loss differs from its first finite value, [point]."""
    finite = curve.validation[np.isfinite(curve.validation)]
    first = float(finite[0]) if len(finite) else float("nan")
    return np.asarray((curve.validation - first) / (abs(first) or 1.0) * 100.0, dtype=np.float64)
