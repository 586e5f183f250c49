"""Taking an atlas to the grid of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.parcels.atlas import Atlas
from neurofm.parcels.volumes import Grid, same_grid

_HALF = 0.5
"""A voxel reaches so far to each side of its centre."""


def on_grid(atlas: Atlas, *, grid: Grid) -> Atlas:
    """Give each voxel of another grid the label that lies nearest to its centre.

    Whether that is wanted is the caller's to say: the run must be in the atlas's space, which no grid tells. The labels
    are resampled and the BOLD never is, so that no voxel's signal is mixed with another's.

    Parameters
    ----------
    atlas
        Its space, digest, ids and names are kept: it is the same atlas.
    grid
        Shape and affine of the run.

    Returns
    -------
    Atlas
        A parcel of which no voxel is left (a small one on a coarse grid) keeps its place and its position. What lies
        beyond the edge of the grid counts among the voxels of the parcel, so that its coverage shows it. The atlas
        itself if it is on that grid already.
    """
    if same_grid(atlas.grid, grid):
        return atlas
    import nibabel as nib  # noqa: PLC0415  # both are heavy, and few runs need them
    from nilearn.image import resample_img  # noqa: PLC0415

    shape, affine = grid
    image: Any = nib.Nifti1Image  # untyped in nibabel
    there = resample_img(
        image(atlas.labels, atlas.affine), target_affine=affine, target_shape=shape, interpolation="nearest"
    )
    return replace(
        atlas,
        labels=np.ascontiguousarray(np.asanyarray(there.dataobj), dtype=np.int32),
        affine=np.asarray(affine, dtype=np.float64),
        centres_mm=atlas.position_mm,
        beyond=_beyond(atlas, grid),
    )


def _beyond(atlas: Atlas, grid: Grid) -> npt.NDArray[np.int64]:
    """[parcel] how many voxels of the size of this grid the atlas has beyond its edge."""
    shape, affine = grid
    voxels = np.argwhere(atlas.labels > 0)
    to_grid = np.linalg.inv(affine) @ atlas.affine
    at = voxels @ to_grid[:3, :3].T + to_grid[:3, 3]
    outside = voxels[((at < -_HALF) | (at > np.array(shape) - _HALF)).any(axis=1)]
    columns = np.searchsorted(atlas.ids, atlas.labels[tuple(outside.T)])
    counts = np.bincount(columns, minlength=len(atlas)) + (0 if atlas.beyond is None else atlas.beyond)
    return np.asarray(np.rint(counts * abs(np.linalg.det(to_grid[:3, :3]))), dtype=np.int64)
