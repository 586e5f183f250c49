"""Parcels whose covariance is known: simulated, since no recording tells how much of it can be known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

PARCELS, WINDOW, PATCH = 16, 32, 8
_FACTORS, _SMOOTH, _NOISE = 3, 5.0, 0.2
_VOLUMES = 6 * WINDOW
_PEOPLE = {"train": 8, "validation": 2, "test": 3}


def smooth_parcels() -> tuple[list[RecordingView], npt.NDArray[np.float64]]:
    """Return people of 16 parcels that mix 3 slow factors (Gaussian, smoothed by 5 volumes), and [parcel, parcel].

    A fifth of the variance is white noise of each parcel. What is returned beside is their covariance.
    """
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(_FACTORS, PARCELS))
    mixing *= np.sqrt((1 - _NOISE) / (mixing**2).sum(axis=0))
    kernel = np.exp(-0.5 * (np.arange(-15, 16) / _SMOOTH) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    views = []
    for role, people in _PEOPLE.items():
        for number in range(people):
            white = rng.normal(size=(_FACTORS, _VOLUMES + len(kernel) - 1))
            factors = np.stack([np.convolve(one, kernel, "valid") for one in white], axis=1)
            values = factors @ mixing + np.sqrt(_NOISE) * rng.normal(size=(_VOLUMES, PARCELS))
            roles: Roles = {role: [(0, _VOLUMES)]}
            views.append(
                view_of(
                    values,
                    modality=Modality.FMRI,
                    name=f"{role}{number}",
                    channel_set="fmri-atlas",
                    kind="subject",
                    calibration=[(0, _VOLUMES)],
                    **roles,
                )
            )
    return views, mixing.T @ mixing + _NOISE * np.eye(PARCELS)
