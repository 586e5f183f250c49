"""What readers of extracted calcium traces share: which axis is time, where a cell lies, and the table of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from neurofm.readers.shared.common import unknown_positions
from neurofm.recording import Channels, Unreadable

FloatArray = npt.NDArray[np.float64]


def time_by_roi(values: npt.NDArray[np.generic], *, cells: int, where: str, listed_in: str) -> FloatArray:
    """Return stored [cell, time] numbers as [time, cell].

    Parameters
    ----------
    values
        As the file has them.
    cells
        How many cells the set's other file or array lists.
    where, listed_in
        The traces' and the list's names, for the errors.

    Raises
    ------
    Unreadable
        If the shape does not fit the list of cells, there is no cell or frame, or not one finite number.
    """
    shape = " x ".join(str(n) for n in values.shape)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise Unreadable(f"{where}: {values.dtype} array of shape {shape or 'one value'}, expected cell x time numbers")
    if values.shape[0] != cells:
        if values.shape[1] == cells:
            raise Unreadable(
                f"{where}: has shape {shape}, but {listed_in} lists {cells} cells: it is transposed, time x cell; "
                "save it cell x time"
            )
        raise Unreadable(f"{where}: has shape {shape}, but {listed_in} lists {cells} cells")
    if 0 in values.shape:
        raise Unreadable(f"{where}: has shape {shape}: no cell or no frame")
    if not np.isfinite(values).any():
        raise Unreadable(f"{where}: every trace is NaN from beginning to end")
    return np.ascontiguousarray(values.T, dtype=np.float64)


def refuse_other_frames(traces: FloatArray, *, times: int, where: str, listed_in: str) -> None:
    """Raise `Unreadable` if [time, cell] traces have not one sample per timestamp."""
    frames, cells = traces.shape
    if frames == times:
        return
    transposed = f"; it has {cells} cells: are cell and time transposed?" if cells == times else ""
    raise Unreadable(f"{where}: {frames} frames, but {listed_in} has {times} timestamps{transposed}")


def dense_centroids(footprints: npt.NDArray[np.generic]) -> FloatArray:
    """Return the [cell, 3] weighted centres (x, y, 0) in pixels of footprints [cell, height, width]; NaN if empty."""
    weights = np.nan_to_num(np.asarray(footprints, dtype=np.float64))
    _, height, width = weights.shape
    x = weights.sum(axis=1) @ np.arange(width)
    y = weights.sum(axis=2) @ np.arange(height)
    return _centres(x, y, weights.sum(axis=(1, 2)))


def sparse_centroids(footprints: sparse.csc_array, *, height: int) -> FloatArray:
    """Return the [cell, 3] weighted centres (x, y, 0) in pixels of footprints [pixel, cell]; NaN if empty.

    CaImAn and CNMF-E flatten the image column by column, as MATLAB does: pixel = y + x * height.
    """
    pixel = np.arange(footprints.shape[0])
    by_cell = footprints.T
    return _centres(by_cell @ (pixel // height), by_cell @ (pixel % height), by_cell @ np.ones(len(pixel)))


def _centres(x: FloatArray, y: FloatArray, mass: FloatArray) -> FloatArray:
    known = mass > 0
    divisor = np.where(known, mass, 1.0)
    centres = np.stack([x / divisor, y / divisor, np.zeros(len(mass))], axis=1)
    return np.where(known[:, None], centres, np.nan)


def cell_channels(
    ids: Sequence[str], *, position: FloatArray | None, quality: Mapping[str, FloatArray] | None = None
) -> Channels:
    """Return the table of cells; `position` [cell, 3] is in pixels, None or all NaN where not known."""
    known = position is not None and bool(np.isfinite(position).any())
    return Channels(
        id=tuple(ids),
        position=position if known and position is not None else unknown_positions(len(ids)),
        position_unit="px" if known else "",
        space="imaging-plane",
        quality=quality or {},
    )
