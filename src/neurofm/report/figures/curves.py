"""Training curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from neurofm.report.figures.style import BASELINE, OURS


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


def draw_curves(axes: Axes, *, curves: Sequence[Curve]) -> None:
    """Draw training and validation loss of every fold, with a dot at the step that was kept."""
    for number, curve in enumerate(curves):
        first = number == 0
        axes.plot(curve.step, curve.train, color=BASELINE, linewidth=0.8, label="training" if first else None)
        axes.plot(curve.step, curve.validation, color=OURS, linewidth=0.9, label="validation" if first else None)
        kept = np.flatnonzero(curve.step == curve.best_step)
        if len(kept):
            axes.plot(
                curve.step[kept],
                curve.validation[kept],
                "o",
                color=OURS,
                markersize=4,
                clip_on=False,
                label="step kept" if first else None,
            )
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss")
    axes.margins(x=0.02)
    axes.legend(frameon=False, fontsize=7.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderpad=0)
