"""Mouse A2929 awake: counts of its 15 units in bins of 20 ms, and where its head points."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import Roles, view_of

_BIN_S = 0.02
_ROLES: Roles = {"train": [(0, 10_000)], "validation": [(10_100, 12_000)], "test": [(12_100, 16_000)]}


def awake_mouse(shared_data: Path) -> RecordingView:
    """Return 320 s of it: 200 s to learn from, 38 s to judge by, 78 s to be scored."""
    with h5py.File(shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb") as file:
        heading = file["acquisition/CompassDirection/ry"]
        angle, time_s = np.unwrap(heading["data"][()]), heading["timestamps"][()]
        spikes_s = np.split(file["units/spike_times"][()], file["units/spike_times_index"][:-1])
    edges = time_s[0] + _BIN_S * np.arange(_ROLES["test"][0][1] + 1)
    counts = np.stack([np.histogram(each, edges)[0] for each in spikes_s], axis=1).astype(np.float64)
    turned = np.interp(edges[:-1] + _BIN_S / 2, time_s, angle)
    direction = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    return view_of(counts, modality=Modality.SPIKES, targets={"head_direction": direction}, **_ROLES)
