"""Images on their way through the engine: BOLD read and checked, grids in ITK's terms, NIfTI written."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neurofm.files import sync_folder
from neurofm.parcels.volumes import volumes_of
from neurofm.recording import Unreadable

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_LEAST_VOXELS = 8
"""Along each axis: with fewer, rotations are not determined."""
_RIGHT_ANGLE = 1e-3
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI counts mm to the right, front and top, ITK to the left, back and top. It is its own inverse."""
_COMPRESSION = 6
_ALIGNED, _STANDARD = 2, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of an image lie."""

    shape: tuple[int, int, int]
    affine: Floats
    """[4, 4] voxel to mm (RAS+)."""

    def itk(self) -> dict[str, Any]:
        """Return it in ITK's terms, for the worker."""
        affine = _LPS @ self.affine
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        return {
            "shape": list(self.shape),
            "origin": affine[:3, 3].tolist(),
            "spacing": spacing.tolist(),
            "direction": (affine[:3, :3] / spacing).tolist(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Bold:
    """One run, laid out by volumes."""

    name: str
    """File name, for messages."""
    grid: Grid
    array: Path
    """``.npy`` [volume, x, y, z] float32, to be mapped; values that are not finite are 0."""
    length: int

    def volumes(self) -> Singles:
        """Map the volumes into memory, [volume, x, y, z]."""
        mapped: Singles = np.load(self.array, mmap_mode="r")
        return mapped


def lay_out_bold(path: Path, *, folder: Path) -> Bold:
    """Read a run once, from beginning to checksum, into a file that can be mapped.

    Raises
    ------
    Unreadable
        For a damaged file, one that is not 4-D, a single volume, an image that never changes, less than 8
        voxels along an axis, or axes that are not at right angles.
    """
    run = volumes_of(path, dimensions=4)
    if len(run) < 2:
        raise Unreadable(f"{run.name}: one volume, expected a run of them")
    x, y, z = run.shape
    grid = checked_grid(Grid(shape=(x, y, z), affine=run.affine), name=run.name)
    array = folder / "bold.npy"
    laid = np.lib.format.open_memmap(array, mode="w+", dtype=np.float32, shape=(len(run), *grid.shape))
    for number, stored in enumerate(run):
        values = run.slope * stored.astype(np.float64) + run.inter
        laid[number] = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).reshape(grid.shape, order="F")
    if not any((volume != laid[0]).any() for volume in laid[1:]):
        raise Unreadable(f"{run.name}: all volumes are the same")
    laid.flush()
    return Bold(name=run.name, grid=grid, array=array, length=len(run))


def load_volume(path: Path) -> tuple[Singles, Grid]:
    """Read a 3-D image.

    Returns
    -------
    tuple
        [x, y, z] float32, not finite values as 0, and its grid.

    Raises
    ------
    Unreadable
        For a damaged file or one that is not 3-D, or as `checked_grid`.
    """
    image = volumes_of(path, dimensions=3)
    (stored,) = image
    values = np.nan_to_num(image.slope * stored.astype(np.float64) + image.inter, nan=0.0, posinf=0.0, neginf=0.0)
    x, y, z = image.shape
    grid = checked_grid(Grid(shape=(x, y, z), affine=image.affine), name=image.name)
    return values.reshape(grid.shape, order="F").astype(np.float32), grid


def checked_grid(grid: Grid, *, name: str) -> Grid:
    """Refuse a grid that registration cannot work on.

    Raises
    ------
    Unreadable
        For less than 8 voxels along an axis, or axes that are not at right angles.
    """
    if min(grid.shape) < _LEAST_VOXELS:
        raise Unreadable(
            f"{name}: {grid.shape} voxels; with less than {_LEAST_VOXELS} along an axis nothing is aligned"
        )
    direction = np.array(grid.itk()["direction"])
    if not np.allclose(direction.T @ direction, np.eye(3), atol=_RIGHT_ANGLE):
        raise Unreadable(f"{name}: its axes are not at right angles, or have no length")
    return grid


def saved(values: npt.NDArray[Any], grid: Grid, *, path: Path) -> dict[str, Any]:
    """Write an array [x, y, z] for the worker, and return how a question names it."""
    np.save(path, values.astype(np.float32))
    return {"array": str(path), **grid.itk()}


def nifti(values: npt.NDArray[Any], grid: Grid) -> Any:
    """Return nibabel's image of an array."""
    return nib.Nifti1Image(values, grid.affine)  # type: ignore[no-untyped-call]


def write_nifti(
    path: Path,
    volumes: Iterable[npt.NDArray[Any]],
    *,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    affine: Floats,
    repetition_time_s: float | None = None,
    standard: bool = True,
) -> None:
    """Write a ``.nii.gz`` volume by volume; it is whole or not there, and the same bytes each time.

    Parameters
    ----------
    path
        Its folder is made.
    volumes
        Each [x, y, z].
    shape
        Of the image, 3-D or 4-D.
    dtype
        Type to store.
    affine
        [4, 4] voxel to mm.
    repetition_time_s
        Of a run.
    standard
        Whether the affine leads to a template's space, and not to that of another image.
    """
    header: Any = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    header.set_sform(affine, code=_STANDARD if standard else _ALIGNED)
    header.set_qform(affine, code=_STANDARD if standard else _ALIGNED)
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1.0, 0.0)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    if repetition_time_s is not None:
        header.set_zooms((*header.get_zooms()[:3], repetition_time_s))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        with part.open("wb") as file:
            # Neither name nor time in it: the same values are the same bytes.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=file, mtime=0) as packed:
                packed.write(header.binaryblock + b"\0" * 4)
                for volume in volumes:
                    packed.write(np.asarray(volume, dtype=dtype).tobytes(order="F"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
