"""Spikes whose rates are known: simulated, since no recording tells its rates (Pandarinath 2018 did the same)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

WINDOW = 50
UNITS = 30
_TRAIN, _VALIDATION, _TEST = 240, 40, 40
_STEP = 0.02
_MEAN_COUNT = 0.25

Floats = npt.NDArray[np.float64]


def lorenz_spikes() -> tuple[RecordingView, Floats]:
    """Return 30 units that fire by a Lorenz system's state, in windows of 50 bins, and their rates [time, unit].

    The system (sigma 10, rho 28, beta 8/3) is integrated with steps of 0.02 in its own time, one bin each; each unit's
    log rate is a random weighting of the three standardised coordinates, about 0.25 spikes per bin; spikes are Poisson.
    """
    rng = np.random.default_rng(0)
    samples = (_TRAIN + _VALIDATION + _TEST) * WINDOW
    state, states = np.array([1.0, 1.0, 25.0]), np.empty((samples, 3))
    for sample in range(-500, samples):
        for _ in range(4):
            x, y, z = state
            state = state + _STEP / 4 * np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])
        if sample >= 0:
            states[sample] = state
    weights = rng.uniform(0.4, 0.8, size=(3, UNITS)) * rng.choice([-1, 1], size=(3, UNITS))
    drive = (states - states.mean(axis=0)) / states.std(axis=0) @ weights
    rates = _MEAN_COUNT * np.exp(drive) / np.exp(drive).mean(axis=0)
    ends = [int(end) * WINDOW for end in np.cumsum([_TRAIN, _VALIDATION, _TEST])]
    roles: Roles = {"train": [(0, ends[0])], "validation": [(ends[0], ends[1])], "test": [(ends[1], ends[2])]}
    return view_of(rng.poisson(rates).astype(np.float64), modality=Modality.SPIKES, **roles), rates
