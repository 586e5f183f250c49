"""What may be regressed out of a run, under fMRIPrep's names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neurofm.light.images import Flags, Floats, Singles
from neurofm.light.motion import PARAMETERS, framewise_displacement

HIGH_PASS_S = 128.0
_SCALE = 1000.0
"""The brain's median is brought to it before DVARS, as nipype does."""
_IQR_OF_NORMAL = 1.349


def confounds(
    parameters: pd.DataFrame,
    volumes: Singles,
    *,
    masks: Mapping[str, Flags],
    brain: Flags,
    repetition_time_s: float,
) -> pd.DataFrame:
    """Return one row for each volume, with NaN where a difference has no volume before it.

    Parameters
    ----------
    parameters
        Six parameters of motion, [volume] each.
    volumes
        [volume, x, y, z] after resampling.
    masks
        Name of a column to the voxels whose mean it is, [x, y, z].
    brain
        [x, y, z] voxels that DVARS looks at.
    repetition_time_s
        Between volumes.
    """
    inside = np.stack([volume[brain] for volume in volumes])
    plain, standardised = dvars(inside)
    columns: dict[str, Floats] = {}
    for name, mask in masks.items():
        columns |= _expanded(name, np.array([volume[mask].mean(dtype=np.float64) for volume in volumes]))
    columns |= {
        "dvars": plain,
        "std_dvars": standardised,
        "framewise_displacement": np.asarray(framewise_displacement(parameters), dtype=np.float64),
    }
    for name in PARAMETERS:
        columns |= _expanded(name, parameters[name].to_numpy())
    columns |= {
        f"cosine{number:02d}": drift for number, drift in enumerate(cosines(len(parameters), repetition_time_s).T)
    }
    return pd.DataFrame(columns)


def as_tsv(table: pd.DataFrame) -> bytes:
    """Return a table as BIDS has it: tabs, ``n/a`` for NaN."""
    text: str = table.to_csv(sep="\t", na_rep="n/a", index=False, float_format="%.9g", lineterminator="\n")
    return text.encode()


def cosines(volumes: int, repetition_time_s: float) -> Floats:
    """Return slow cosines up to 1/128 Hz, [volume, cosine], without the constant; none for a run that is too short.

    nilearn's, as SPM's, are all that are slow enough; nipype, and so fMRIPrep, leaves the fastest of them out.
    """
    from nilearn.signal import create_cosine_drift  # noqa: PLC0415  # heavy

    times = np.arange(volumes) * repetition_time_s
    return np.asarray(create_cosine_drift(1 / HIGH_PASS_S, times)[:, :-1], dtype=np.float64)


def dvars(voxels: Singles) -> tuple[Floats, Floats]:
    """Return how much the image changes from one volume to the next, plain and standardised, [volume]; first NaN.

    Power et al. (2012), 10.1016/j.neuroimage.2011.10.018, and Nichols (2017), arXiv:1704.01469, as nipype computes
    them: the median over voxels and volumes brought to 1000; constant voxels left out; standardised by what
    autoregressive noise of each voxel's robust spread would give.

    Parameters
    ----------
    voxels
        [volume, voxel].
    """
    series = voxels.astype(np.float64)
    series *= _SCALE / np.median(series)
    quarter, three = (np.percentile(series, q, axis=0, method="lower") for q in (25, 75))
    spread = (three - quarter) / _IQR_OF_NORMAL
    varying = spread > 1e-7
    series, spread = series[:, varying], spread[varying]
    changes = np.sqrt(np.square(np.diff(series, axis=0)).mean(axis=1))
    series -= series.mean(axis=0)
    lag = (series[1:] * series[:-1]).sum(axis=0) / np.square(series).sum(axis=0)
    expected = (np.sqrt(2 * (1 - lag)) * spread).mean()
    return np.append(np.nan, changes), np.append(np.nan, changes / expected)


def _expanded(name: str, values: Floats) -> dict[str, Floats]:
    """Return a column with its difference and the squares of both."""
    change = np.append(np.nan, np.diff(values))
    return {
        name: values,
        f"{name}_derivative1": change,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": change**2,
    }
