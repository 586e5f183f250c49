"""The mean signal of each parcel, volume by volume, and how much of each parcel it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from neurofm.parcels.atlas import Atlas
from neurofm.parcels.volumes import Volumes, same_grid, volumes_of
from neurofm.recording import Unreadable

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class ParcelMeans:
    """One run averaged over an atlas; every parcel of the atlas keeps its place, whether the run has it or not.

    The voxels of a CIFTI run are its grayordinates: vertices of the cortex, and voxels below it.
    """

    values: Floats
    """[volume, parcel] in the unit of the run; NaN in parcels that are absent."""
    coverage: Floats
    """[parcel] share of its voxels that carry signal, 0 to 1: in the mask, finite, and not constant. NaN for a parcel
    that the atlas only names and has no voxel of: no run can be said to lack it."""
    voxels: Counts
    """[parcel] voxels in the atlas: the sum of those that carry signal and of the three kinds left out."""
    outside_mask: Counts
    """[parcel] voxels left out since the brain mask has not got them, or the run's grid ends before them."""
    not_finite: Counts
    """[parcel] voxels left out since they are NaN or infinite in some volume."""
    constant: Counts
    """[parcel] voxels left out since they never change: outside the field of view, or zeroed."""
    position_mm: Floats
    """[parcel, 3] centre of the parcel in the atlas, mm in its space."""

    @property
    def present(self) -> Flags:
        """[parcel] whether any voxel of it carries signal."""
        return self.coverage > 0


def parcel_means(
    bold: Path | nib.Nifti1Image, *, atlas: Atlas, space: str, mask: Path | nib.Nifti1Image | None = None
) -> ParcelMeans:
    """Average BOLD over the voxels of each parcel that carry signal.

    A ``.nii.gz`` is read once from beginning to end, a volume at a time, and its checksum is compared. (It is
    read once more, without them, if voxels stop being finite after the first volume.) Each volume is one
    product of a sparse matrix [parcel, voxel] with what has changed in it since the first one: a constant
    voxel then adds nothing, whatever its value, and the means of the first volume over the others are added
    at the end. Where every voxel carries signal this is what `nilearn.maskers.NiftiLabelsMasker` gives with
    ``standardize=None``; else, what it gives with the voxels that carry signal as ``mask_img``.

    Parameters
    ----------
    bold
        4-D BOLD, integers or floats, on the grid of the atlas.
    atlas
        The parcels.
    space
        The space of the BOLD: NIfTI cannot name it, fMRIPrep's file names do (``space-...``).
    mask
        Brain mask of the run, 3-D, not 0 inside. Without it the whole field of view counts.

    Raises
    ------
    Unreadable
        For a damaged image, one that is not 4-D, a single volume, another space or grid than the atlas's
        (nothing is resampled), or a run in which no parcel carries signal.
    """
    run = volumes_of(bold, dimensions=4)
    if len(run) < 2:
        raise Unreadable(f"{run.name}: one volume, expected a run of them")
    if space != atlas.space:
        raise Unreadable(f"{run.name}: it is in space {space}, atlas {atlas.name} in {atlas.space}")
    if not same_grid(run.grid, atlas.grid):
        raise Unreadable(f"{run.name}: its grid is not that of atlas {atlas.name} (shape or affine differ)")
    labelled = atlas.columns >= 0
    inside = labelled if mask is None else labelled & _inside(mask, run)
    first = next(iter(run))
    finite = inside & np.isfinite(first)
    changes = _changes(run, finite, first=first, atlas=atlas)
    if not changes.finite.all():
        finite[np.flatnonzero(finite)[~changes.finite]] = False
        changes = _changes(run, finite, first=first, atlas=atlas)
    carrying = finite.copy()
    carrying[np.flatnonzero(finite)[~changes.varying]] = False
    counts = _count(carrying, atlas)
    if not counts.any():
        raise Unreadable(f"{run.name}: no parcel of atlas {atlas.name} carries signal")
    begin = np.bincount(atlas.columns[carrying], weights=first[carrying], minlength=len(atlas))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which is what an absent parcel shall be
        means = (changes.sums + begin) / counts
    return ParcelMeans(
        values=run.slope * means + run.inter,
        coverage=np.where(np.isnan(atlas.position_mm[:, 0]), np.nan, counts / np.maximum(atlas.voxels, 1)),
        voxels=atlas.voxels,
        outside_mask=_count(labelled & ~inside, atlas) + atlas.voxels - atlas.in_grid,
        not_finite=_count(inside & ~finite, atlas),
        constant=_count(finite & ~carrying, atlas),
        position_mm=atlas.position_mm,
    )


def _inside(mask: Path | nib.Nifti1Image, run: Volumes) -> Flags:
    """[voxel] whether the brain mask has it."""
    image = volumes_of(mask, dimensions=3)
    if not same_grid(image.grid, run.grid):
        raise Unreadable(f"{image.name}: its grid is not that of {run.name} (shape or affine differ)")
    (stored,) = image
    values = stored * image.slope + image.inter
    return np.asarray(np.isfinite(values) & (values != 0), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Changes:
    sums: Floats
    """[volume, parcel] sum over voxels of what differs from the first volume."""
    finite: Flags
    """[voxel among those asked for] whether it is finite in every volume."""
    varying: Flags
    """[voxel among those asked for] whether it ever differs from the first volume."""


def _changes(run: Volumes, wanted: Flags, *, first: npt.NDArray[np.generic], atlas: Atlas) -> _Changes:
    voxels = np.flatnonzero(wanted)
    one_per_voxel = (np.ones(len(voxels)), (atlas.columns[voxels], np.arange(len(voxels))))
    parcels = csr_array(one_per_voxel, shape=(len(atlas), len(voxels)))
    begin = first[voxels].astype(np.float64)
    sums: list[Floats] = []
    finite, constant = np.ones(len(voxels), dtype=np.bool_), np.arange(len(voxels))
    for volume in run.of(voxels):
        change = volume - begin
        of_parcels = np.asarray(parcels @ change)
        sums.append(of_parcels)
        if not np.isfinite(of_parcels).all():  # some voxel is not, which is rare: look which
            finite &= np.isfinite(change)
        constant = constant[change[constant] == 0]  # soon few are left to look at
    varying = np.ones(len(voxels), dtype=np.bool_)
    varying[constant] = False
    return _Changes(sums=np.stack(sums), finite=finite, varying=varying)


def _count(voxels: Flags, atlas: Atlas) -> Counts:
    """[parcel] how many of these voxels it has."""
    return np.bincount(atlas.columns[voxels], minlength=len(atlas)).astype(np.int64)
