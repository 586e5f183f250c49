"""Spikes of units tuned to a known direction: simulated, since no recording tells what its units are tuned to."""

from __future__ import annotations

import numpy as np

from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

UNITS = 16
_ENDS = 3_000, 3_600, 4_800
_STEP_SD = 0.15
_MOST = 1.5


def tuned_units(*, jumps: float = 0.0) -> RecordingView:
    """Return units that fire by a direction on a random walk, at most 1.5 spikes per bin, peaks all around.

    In that share of bins the direction jumps to any other besides.
    """
    rng = np.random.default_rng(0)
    angle = np.cumsum(_STEP_SD * rng.normal(size=_ENDS[-1]))
    unforeseen = np.random.default_rng(1)
    jumped = unforeseen.random(_ENDS[-1]) < jumps
    angle += np.cumsum(jumped * unforeseen.uniform(-np.pi, np.pi, size=_ENDS[-1]))
    peaks = np.linspace(0, 2 * np.pi, UNITS, endpoint=False)
    rates = _MOST * np.exp(2 * (np.cos(angle[:, None] - peaks) - 1))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    fit, judge, test = _ENDS
    roles: Roles = {"train": [(0, fit)], "validation": [(fit, judge)], "test": [(judge, test)]}
    counts = rng.poisson(rates).astype(np.float64)
    return view_of(counts, modality=Modality.SPIKES, targets={"direction": direction}, **roles)
