"""The mean signal of each parcel of a CIFTI run (``*_bold.dtseries.nii``).

Its values lie grayordinate by grayordinate, time fastest. So it is read a block of grayordinates at a time, each with
all of its time points: once from beginning to end, and never as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from neurofm.parcels.average import Counts, Floats, ParcelMeans
from neurofm.parcels.surfaces import SurfaceAtlas, cifti_of
from neurofm.parcels.volumes import same_grid
from neurofm.recording import Unreadable, reading

_BLOCK_BYTES = 1 << 23
"""Of series as float64; a few copies of one block are what is in memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grayordinates:
    """A CIFTI run."""

    path: Path
    tr_s: float
    """Seconds between volumes."""
    length: int
    """Number of volumes."""
    models: Any
    """nibabel's `BrainModelAxis`: structure, and vertex or voxel, of each grayordinate."""
    stored: Any
    """nibabel's `ArrayProxy` [volume, grayordinate]."""


def grayordinates_of(path: Path) -> Grayordinates:
    """Look at the header of a CIFTI run.

    Raises
    ------
    Unreadable
        For a missing or damaged file, one that is no series over grayordinates (scalars, labels, parcels), a single
        volume, or a header that does not give the TR in seconds.
    """
    try:
        image, models = cifti_of(path, rows="SERIES", expected="a series over grayordinates (.dtseries.nii)")
    except Unreadable as error:
        if isinstance(error.__cause__, TypeError | AttributeError):  # nibabel calculates with what is not there
            raise Unreadable(f"{error}; its header may have no step or unit of its series (the TR)") from None
        raise
    series: Any = image.header.matrix.get_index_map(0)
    length = image.shape[0]
    if series.number_of_series_points != length:
        raise Unreadable(
            f"{path.name}: {length} volumes, but {series.number_of_series_points} time points in its header"
        )
    if series.series_unit != "SECOND":
        raise Unreadable(f"{path.name}: it has no TR, the unit of its series is {series.series_unit}")
    tr_s = series.series_step * 10.0**series.series_exponent
    if not (np.isfinite(tr_s) and tr_s > 0):
        raise Unreadable(f"{path.name}: it has no TR, the step of its series is {series.series_step}")
    if length < 2:
        raise Unreadable(f"{path.name}: one volume, expected a run of them")
    return Grayordinates(path=path, tr_s=float(tr_s), length=length, models=models, stored=image.dataobj)


def parcel_means_cifti(bold: Path | Grayordinates, *, atlas: SurfaceAtlas) -> ParcelMeans:
    """Average BOLD over the grayordinates of each parcel that carry signal.

    They are what `neurofm.parcels.parcel_means` calls voxels: `voxels` are the vertices and voxels of the parcel, and
    `outside_mask` are those of them that the file has not got (its medial wall; none in a usual one).

    Parameters
    ----------
    bold
        The run.
    atlas
        The parcels. Its surfaces have to be of the run's density; which of their vertices either file has need not be
        the same.

    Raises
    ------
    Unreadable
        As `grayordinates_of`, and for surfaces with another number of vertices than the atlas's, voxels on another
        grid, or a run in which no parcel carries signal.
    """
    run = bold if isinstance(bold, Grayordinates) else grayordinates_of(bold)
    with reading(run.path):  # a header may name vertices and voxels that are not there
        columns = _columns(run, atlas)
    in_file = np.bincount(columns[columns >= 0], minlength=len(atlas)).astype(np.int64)
    whole = np.isin(atlas.ids, list(atlas.structures.values()))
    voxels = np.where(whole, in_file, atlas.voxels)
    sums = _sums(run, columns, parcels=len(atlas))
    counts = in_file - sums.not_finite - sums.constant
    if not counts.any():
        raise Unreadable(f"{run.path.name}: no parcel of atlas {atlas.name} carries signal")
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which is what an absent parcel shall be
        values = sums.values / counts
    return ParcelMeans(
        values=values,
        coverage=np.where(~whole & (voxels == 0), np.nan, counts / np.maximum(voxels, 1)),
        voxels=voxels,
        outside_mask=voxels - in_file,
        not_finite=sums.not_finite,
        constant=sums.constant,
        position_mm=np.where(whole[:, None], _centres(run, columns, parcels=len(atlas)), atlas.position_mm),
    )


def _columns(run: Grayordinates, atlas: SurfaceAtlas) -> npt.NDArray[np.int64]:
    """[grayordinate] number of the parcel; -1 for none."""
    columns = np.full(len(run.models), -1, dtype=np.int64)
    for structure, part, model in run.models.iter_structures():
        if structure in run.models.nvertices:
            labels = atlas.vertices.get(structure)
            if labels is None:
                continue
            vertices = run.models.nvertices[structure]
            if len(labels) != vertices:
                raise Unreadable(
                    f"{run.path.name}: its {structure} is a surface of {vertices} vertices, that of atlas "
                    f"{atlas.name} has {len(labels)}"
                )
            columns[part] = atlas.columns_of(labels[model.vertex])
        elif structure in atlas.structures:
            columns[part] = atlas.ids.index(atlas.structures[structure])
        elif atlas.volume is not None and atlas.grid is not None:
            if not same_grid((tuple(run.models.volume_shape), run.models.affine), atlas.grid):
                raise Unreadable(
                    f"{run.path.name}: its voxels are not on the grid of atlas {atlas.name} (shape or affine differ)"
                )
            columns[part] = atlas.columns_of(atlas.volume[tuple(model.voxel.T)])
    return columns


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    values: Floats
    """[volume, parcel] sum over grayordinates that carry signal."""
    not_finite: Counts
    constant: Counts
    """[parcel] grayordinates left out."""


def _sums(run: Grayordinates, columns: npt.NDArray[np.int64], *, parcels: int) -> _Sums:
    values = np.zeros((parcels, run.length))
    not_finite, constant = np.zeros(parcels, dtype=np.int64), np.zeros(parcels, dtype=np.int64)
    at_once = max(1, _BLOCK_BYTES // (8 * run.length))
    for begin in range(0, len(columns), at_once):
        of_block = columns[begin : begin + at_once]
        wanted = of_block >= 0
        with reading(run.path):  # all of it, wanted or not: a file that was cut off is refused wherever it ends
            stored = np.asarray(run.stored[:, begin : begin + at_once]).T
        series, of_block = stored[wanted].astype(np.float64), of_block[wanted]  # [grayordinate, volume]
        finite = np.isfinite(series).all(axis=1)
        still = finite & (series == series[:, :1]).all(axis=1)
        not_finite += np.bincount(of_block[~finite], minlength=parcels)
        constant += np.bincount(of_block[still], minlength=parcels)
        carrying = np.flatnonzero(finite & ~still)
        one_each = (np.ones(len(carrying)), (of_block[carrying], np.arange(len(carrying))))
        values += np.asarray(csr_array(one_each, shape=(parcels, len(carrying))) @ series[carrying])
    return _Sums(values=values.T, not_finite=not_finite, constant=constant)


def _centres(run: Grayordinates, columns: npt.NDArray[np.int64], *, parcels: int) -> Floats:
    """[parcel, 3] mean of the voxels that the run has of each parcel, mm; NaN where it has none."""
    voxels = np.flatnonzero((columns >= 0) & run.models.volume_mask)
    centres = np.full((parcels, 3), np.nan)
    if not len(voxels):
        return centres
    at = run.models.voxel[voxels] @ run.models.affine[:3, :3].T + run.models.affine[:3, 3]
    counts = np.bincount(columns[voxels], minlength=parcels)
    sums = np.stack([np.bincount(columns[voxels], weights=along, minlength=parcels) for along in at.T], axis=1)
    centres[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return centres
