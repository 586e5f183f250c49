"""CaImAn: the HDF5 file of ``CNMF.save`` or of the online algorithm, ``estimates/{C,S,F_dff,A}`` and ``params``.

Layout: `CNMF.save` writes the object's dictionary (Giovannucci 2019, 10.7554/eLife.38173): sparse matrices as groups of
``data, indices, indptr, shape``, what is None as the text ``NoneType``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.frame_times import frame_clock
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.roi import FloatArray, cell_channels, sparse_centroids, time_by_roi
from neurofm.recording import Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("h5py", "numpy", "pandas", "scipy")

_QUALITY = {"SNR_comp": "snr", "r_values": "spatial_correlation", "cnn_preds": "cnn_probability"}
"""Arrays of ``estimates`` that say how good a component is, and the columns that they become."""


class Options(Settings):
    """What of a CaImAn file is wanted."""

    signal: Literal["C", "F_dff", "S"] = "C"
    """Denoised traces, dF/F (where CaImAn was asked to compute it), or deconvolved activity."""
    accepted_only: bool = True
    """Take the components in ``idx_components`` alone, where the components were evaluated."""
    rate_hz: float | None = Field(default=None, gt=0)
    """Frames per second, where ``params/data/fr`` is wrong: CaImAn's default of 30 stands where nobody set it."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one file's components.

    Parameters
    ----------
    source
        ``main`` is the HDF5 file; ``timestamps``, or a side file ``timeStamps.csv``, has the frames' times.
    options
        Which signal, which components.

    Returns
    -------
    Recording
        `signal` [time, cell] in ``a.u.`` or ``dF/F``, centroids in pixels, ``snr``, ``spatial_correlation`` and
        ``cnn_probability`` in `quality`; `sample_time_s` where frames were stamped.

    Raises
    ------
    Unreadable
        For a damaged file, a signal that was not computed, or if no component was accepted.
    """
    path = source.path()
    with opening(path), h5py.File(path) as file:
        if not isinstance(file.get("estimates"), h5py.Group):
            raise Unreadable(f"{path.name}: no group 'estimates': not a result of CaImAn (CNMF.save)")
        estimates = file["estimates"]
        footprints = _sparse(estimates)
        stored = _array(estimates, options.signal)
        accepted = _array(estimates, "idx_components")
        found = {new: _array(estimates, old) for old, new in _QUALITY.items()}
        dims = _array(estimates, "dims")
        if dims is None:
            dims = _array(file, "params/data/dims")
        rate_hz = options.rate_hz or _rate_hz(file, path)
    measured = {name: one.astype(np.float64) for name, one in found.items() if one is not None}
    if footprints is None:
        raise Unreadable(
            f"{path.name}: estimates/A has no footprints, so it is not known how many components there are"
        )
    if stored is None:
        raise Unreadable(f"{path.name}: estimates/{options.signal} was not computed (reader option `signal`)")
    n = footprints.shape[1]
    values = time_by_roi(stored, cells=n, where=f"{path.name}: estimates/{options.signal}", listed_in="estimates/A")
    kept = np.arange(n)
    if accepted is not None and options.accepted_only:
        kept = accepted.astype(np.int64).ravel()
        if len(kept) == 0:
            raise Unreadable(f"{path.name}: none of {n} components was accepted (reader option `accepted_only`)")
        if kept.max() >= n or kept.min() < 0:
            raise Unreadable(f"{path.name}: idx_components names component {kept.max()}, but there are {n}")
    clock = frame_clock(source, frames=values, where=path.name)
    return build(
        source,
        channels=cell_channels(
            [f"component-{i}" for i in kept],
            position=_centroids(footprints, dims, kept),
            quality={name: one[kept] for name, one in measured.items() if one.shape == (n,)},
        ),
        signal=Signal(
            values=values[:, kept],
            sampling_rate_hz=clock.rate_hz if clock else rate_hz,
            units="dF/F" if options.signal == "F_dff" else "a.u.",
        ),
        sample_time_s=clock.time_s if clock else None,
        scalars=participant_scalars(source),
    )


def _array(group: h5py.Group, name: str) -> npt.NDArray[np.number] | None:
    """Return an array; None where it is missing or CaImAn had None (saved as the text ``NoneType``)."""
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or item.ndim == 0 or not np.issubdtype(item.dtype, np.number):
        return None
    return np.asarray(item[()])


def _sparse(estimates: h5py.Group) -> sparse.csc_array | None:
    parts = [_array(estimates, f"A/{name}") for name in ("data", "indices", "indptr", "shape")]
    data, indices, indptr, shape = parts
    if data is None or indices is None or indptr is None or shape is None:
        return None
    pixels, cells = (int(size) for size in shape)
    return sparse.csc_array(
        (data.astype(np.float64), indices.astype(np.int64), indptr.astype(np.int64)), shape=(pixels, cells)
    )


def _rate_hz(file: h5py.File, path: Path) -> float:
    rate = file["params/data/fr"][()] if "params/data/fr" in file else None
    if not isinstance(rate, int | float | np.number) or not 0 < float(rate) < np.inf:
        raise Unreadable(f"{path.name}: params/data/fr is no frame rate (reader option `rate_hz`)")
    return float(rate)


def _centroids(
    footprints: sparse.csc_array, dims: npt.NDArray[np.number] | None, kept: npt.NDArray[np.int64]
) -> FloatArray | None:
    """Return [cell, 3] centres; None for volumes and where the image's size is not known."""
    size = [] if dims is None else [int(one) for one in dims]
    if len(size) != 2 or size[0] * size[1] != footprints.shape[0]:
        return None
    return sparse_centroids(footprints, height=size[0])[kept]
