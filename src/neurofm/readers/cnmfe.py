"""CNMF-E for MATLAB: the struct ``results`` (or ``neuron``) with ``C, C_raw, S, A, Fs, options``, v5 or v7.3.

Layout: ``results = neuron.obj2struct(); save(..., 'results')`` ends its demos (Zhou 2018, 10.7554/eLife.28728).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build
from neurofm.readers.shared.frame_times import frame_clock
from neurofm.readers.shared.matlab_struct import read_struct
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.roi import FloatArray, cell_channels, sparse_centroids, time_by_roi
from neurofm.recording import Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("h5py", "numpy", "pandas", "scipy")


class Options(Settings):
    """What of a CNMF-E result is wanted, and what it may not say of itself."""

    signal: Literal["C", "C_raw", "S"] = "C"
    """Denoised traces, traces before denoising, or deconvolved activity."""
    variable: str = ""
    """Name of the struct, where it is neither ``results`` nor ``neuron``."""
    rate_hz: float | None = Field(default=None, gt=0)
    """Frames per second, where ``Fs`` is missing or wrong and there are no timestamps."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one result's cells.

    Parameters
    ----------
    source
        ``main`` is the ``.mat`` file; ``timestamps``, or a side file ``timeStamps.csv``, has the frames' times.
    options
        Which signal; the frame rate.

    Returns
    -------
    Recording
        `signal` [time, cell] in ``a.u.``, centroids in pixels; `sample_time_s` where frames were stamped.

    Raises
    ------
    Unreadable
        For a damaged file, an object of a MATLAB class, a field that is missing, or shapes that do not fit.
    """
    path = source.path()
    result = read_struct(path, (options.variable,) if options.variable else ("results", "neuron"))
    stored, footprints = result.get(options.signal), result.get("A")
    if isinstance(stored, sparse.csc_array):
        # Deconvolved activity is mostly zeros.
        stored = stored.toarray()
    if not isinstance(stored, np.ndarray) or stored.size == 0:
        raise Unreadable(f"{path.name}: no field {options.signal} (reader option `signal`)")
    if footprints is None or isinstance(footprints, Mapping):
        raise Unreadable(f"{path.name}: no field A, so it is not known how many cells there are")
    pixels = sparse.csc_array(footprints)
    where = f"{path.name}: {options.signal}"
    values = time_by_roi(stored, cells=pixels.shape[1], where=where, listed_in="A")
    clock = frame_clock(source, frames=values, where=where)
    rate_hz = clock.rate_hz if clock else options.rate_hz or _rate_hz(result)
    if rate_hz is None:
        raise Unreadable(
            f"{path.name}: Fs is no frame rate, and there are no timestamps (reader option `rate_hz`, or "
            "`recordings.roles.timestamps`)"
        )
    return build(
        source,
        channels=cell_channels([f"cell-{i}" for i in range(pixels.shape[1])], position=_centroids(result, pixels)),
        signal=Signal(values=values, sampling_rate_hz=rate_hz, units="a.u."),
        sample_time_s=clock.time_s if clock else None,
        scalars=participant_scalars(source),
    )


def _options(result: Mapping[str, Any]) -> Mapping[str, Any]:
    inside = result.get("options")
    return inside if isinstance(inside, Mapping) else {}


def _scalar(value: Any) -> float | None:
    """Return a positive number; None for anything else."""
    if not isinstance(value, np.ndarray) or value.size != 1 or not 0 < float(value.ravel()[0]) < np.inf:
        return None
    return float(value.ravel()[0])


def _rate_hz(result: Mapping[str, Any]) -> float | None:
    return _scalar(result.get("Fs")) or _scalar(_options(result).get("Fs"))


def _centroids(result: Mapping[str, Any], footprints: sparse.csc_array) -> FloatArray | None:
    """Return [cell, 3] centres; None where the image's size is not told or is not that of the footprints."""
    height, width = (_scalar(_options(result).get(name)) for name in ("d1", "d2"))
    if height is None or width is None or height * width != footprints.shape[0]:
        return None
    return sparse_centroids(footprints, height=int(height))
