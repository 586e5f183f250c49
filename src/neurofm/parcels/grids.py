"""Taking an atlas to the grid of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurofm.parcels.atlas import Atlas
from neurofm.parcels.volumes import Grid, same_grid


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
        A parcel of which no voxel is left (small ones on a coarse grid, those beyond its edge) keeps its place, with
        no voxel and no position. The atlas itself if it is on that grid already.
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
    labels = np.ascontiguousarray(np.asanyarray(there.dataobj), dtype=np.int32)
    return replace(atlas, labels=labels, affine=np.asarray(affine, dtype=np.float64))
