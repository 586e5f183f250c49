"""Head motion along a run, as fMRIPrep's confounds table has it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.recording import Target
from neurofm.recording.recording import Confounds, JsonScalar

HEAD_RADIUS_MM = 50.0
"""A rotation moves a point of the cortex about this far per radian (Power 2012)."""

_TRANSLATIONS = ("trans_x", "trans_y", "trans_z")
_ROTATIONS = ("rot_x", "rot_y", "rot_z")
_KEPT_NOISE = {"std_dvars": "1", "dvars": "a.u.", "global_signal": "a.u."}
"""Unit of each column that is kept, beside the displacement; DVARS only where it is not standardised."""


def framewise_displacement(table: Confounds) -> npt.NDArray[np.float64] | None:
    """Return [volume] how far the head moved since the volume before, mm.

    The table's own column, else the sum of the absolute differences of the six motion parameters with rotations
    as arcs on a sphere of 50 mm (Power 2012, 10.1016/j.neuroimage.2011.10.018), which is how fMRIPrep computes
    it. NaN in the first volume. None where the table has neither.
    """
    column = {name: table.values[:, i] for i, name in enumerate(table.columns)}
    if "framewise_displacement" in column:
        return column["framewise_displacement"]
    if not set(_TRANSLATIONS + _ROTATIONS) <= set(column):
        return None
    mm = [column[name] for name in _TRANSLATIONS] + [column[name] * HEAD_RADIUS_MM for name in _ROTATIONS]
    steps = np.abs(np.diff(np.column_stack(mm), axis=0)).sum(axis=1)
    return np.concatenate([np.full(min(1, len(table.values)), np.nan), steps])


def noise_series(table: Confounds, *, time_s: npt.NDArray[np.float64]) -> dict[str, Target]:
    """Return the measured noise to keep beside the signal: displacement (mm), DVARS and global signal."""
    found: dict[str, tuple[npt.NDArray[np.float64], str]] = {}
    displacement = framewise_displacement(table)
    if displacement is not None:
        found["framewise_displacement"] = (displacement, "mm")
    for name, unit in _KEPT_NOISE.items():
        if name in table.columns and not (name == "dvars" and "std_dvars" in found):
            found[name] = (table.values[:, table.columns.index(name)], unit)
    return {
        name: Target(values=values[:, None].astype(np.float32), unit=unit, columns=(name,), time_s=time_s)
        for name, (values, unit) in found.items()
    }


def motion_quality(table: Confounds, *, fd_threshold_mm: float) -> dict[str, JsonScalar]:
    """Return mean and greatest framewise displacement, and the share of volumes beyond the threshold.

    The mean goes into quality control against connectivity (Satterthwaite 2013, 10.1016/j.neuroimage.2012.08.052;
    Ciric 2017, 10.1016/j.neuroimage.2017.03.020). Volumes without a number, as the first, do not count.
    """
    displacement = framewise_displacement(table)
    if displacement is None:
        return {}
    measured = displacement[np.isfinite(displacement)]
    if len(measured) == 0:
        return {}
    return {
        "fd_mean_mm": float(measured.mean()),
        "fd_max_mm": float(measured.max()),
        "fd_outlier_fraction": float(np.mean(measured > fd_threshold_mm)),
    }
