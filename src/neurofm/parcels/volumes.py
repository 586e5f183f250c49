"""A NIfTI image, one volume after the other: a compressed file is read once, from its beginning to its checksum."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy

from neurofm.recording import Unreadable, reading

_SAME_GRID_MM = 1e-3
_AT_ONCE = 32
"""Volumes taken together from an array whose fastest axis may be time: neighbours there come with one look-up."""
_REST_BYTES = 1 << 20

_SECONDS_PER = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_LONGEST_TR_S = 60.0
"""A repetition time without a unit that is longer than this is not in seconds."""

Grid = tuple[tuple[int, ...], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Volumes:
    """A NIfTI image that is iterated volume by volume, as often as needed.

    Each volume is [voxel], the values as they are stored, first axis fastest. What they mean is
    ``slope * stored + inter``; both are linear, so that they may be applied to means.
    """

    name: str
    """File name, for messages."""
    shape: tuple[int, ...]
    """Voxels along x, y and z."""
    length: int
    """Number of volumes."""
    affine: npt.NDArray[np.float64]
    """[4, 4] voxel to mm."""
    slope: float
    inter: float
    stored: Path | npt.NDArray[Any]
    """The file, or [x, y, z, volume] in memory."""
    dtype: np.dtype[Any]
    """As stored, with its byte order."""
    offset: int = 0
    """Where the first volume begins in the (uncompressed) file, bytes."""

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        return self.shape, self.affine

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        if isinstance(self.stored, Path):
            return self._from_file(self.stored)
        return (volume.ravel(order="F") for volume in np.moveaxis(self.stored, -1, 0))

    def of(self, voxels: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        """Yield these voxels of each volume.

        Parameters
        ----------
        voxels
            Their numbers in a volume, first axis fastest.
        """
        stored = self.stored
        if isinstance(stored, Path) or stored.flags.f_contiguous:
            yield from (volume[voxels] for volume in self)
            return
        x, y, z = np.unravel_index(voxels, self.shape, order="F")
        for begin in range(0, self.length, _AT_ONCE):
            yield from np.ascontiguousarray(stored[x, y, z, begin : begin + _AT_ONCE].T)

    def _from_file(self, path: Path) -> Iterator[npt.NDArray[Any]]:
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        with reading(path), _opened(path) as file:
            file.seek(self.offset)
            for number in range(self.length):
                content = file.read(size)
                if len(content) < size:
                    raise Unreadable(f"{path.name}: the file ends in volume {number + 1} of {self.length}")
                yield np.frombuffer(content, self.dtype)
            while file.read(_REST_BYTES):  # gzip compares its checksum when it comes to the end
                pass


def volumes_of(image: Path | nib.Nifti1Image, *, dimensions: int) -> Volumes:
    """Look at the header of an image.

    Parameters
    ----------
    image
        A ``.nii`` or ``.nii.gz``, or an image in memory.
    dimensions
        3 for labels and masks, 4 for BOLD.

    Raises
    ------
    Unreadable
        For a missing or damaged file, one that is not a single NIfTI file, another number of dimensions, or
        values that are not real numbers.
    """
    if not isinstance(image, Path) and isinstance(image.dataobj, ArrayProxy) and (file := image.get_filename()):
        image = Path(file)  # its values are not in memory yet, and need not come there as a whole
    if not isinstance(image, Path):
        return _checked(image, np.asanyarray(image.dataobj), Path(image.get_filename() or "image"), dimensions)
    with reading(image), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Any = nib.load(image)
    # CIFTI and the pairs of .hdr and .img are other classes.
    if not isinstance(loaded, nib.Nifti1Image):
        raise Unreadable(f"{image.name}: {type(loaded).__name__}, expected one NIfTI file of volumes")
    return _checked(loaded, loaded.dataobj, image, dimensions)


def _checked(image: Any, data: Any, path: Path, dimensions: int) -> Volumes:
    shape = tuple(int(length) for length in image.shape)
    if len(shape) != dimensions:
        raise Unreadable(f"{path.name}: {len(shape)}-D image of shape {shape}, expected {dimensions}-D")
    if min(shape) < 1:
        raise Unreadable(f"{path.name}: image of shape {shape} has no voxel")
    if data.dtype.kind not in "biuf":
        raise Unreadable(f"{path.name}: values of type {data.dtype}, expected real numbers")
    if image.affine is None or not np.isfinite(image.affine).all():
        raise Unreadable(f"{path.name}: its header does not say where its voxels lie")
    in_memory = isinstance(data, np.ndarray)
    return Volumes(
        name=path.name,
        shape=shape[:3],
        length=shape[3] if dimensions == 4 else 1,
        affine=np.asarray(image.affine, dtype=np.float64),
        slope=1.0 if in_memory else float(data.slope),
        inter=0.0 if in_memory else float(data.inter),
        stored=data.reshape(*shape[:3], -1) if in_memory else path,
        dtype=data.dtype,
        offset=0 if in_memory else int(data.offset),
    )


def header_tr_s(path: Path) -> float | None:
    """Return the repetition time in a NIfTI header, seconds; None where it has none.

    Raises
    ------
    Unreadable
        For a missing or damaged file.
    """
    with reading(path):
        header: Any = nib.load(path).header
        unit, zooms = header.get_xyzt_units()[1], header.get_zooms()
    if len(zooms) < 4 or (unit == "unknown" and zooms[3] > _LONGEST_TR_S):
        return None  # milliseconds, most likely, but the file does not say so
    # Through text, because the header's single precision 2.2 would become 2.2000000477.
    tr_s = float(str(zooms[3])) * _SECONDS_PER.get(unit, 0.0)
    return tr_s if tr_s > 0 else None


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two images have the same voxels, to a thousandth of a millimetre."""
    return one[0] == other[0] and np.allclose(one[1], other[1], atol=_SAME_GRID_MM)


def _opened(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
