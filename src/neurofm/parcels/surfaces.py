"""An atlas of grayordinates: which parcel each vertex of the cortex and each voxel below it belongs to."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.parcels.volumes import Grid
from neurofm.recording import Unreadable, reading

_PREFIX = "CIFTI_STRUCTURE_"
_CORTEX = (f"{_PREFIX}CORTEX_LEFT", f"{_PREFIX}CORTEX_RIGHT")
_SIDED = (
    "ACCUMBENS",
    "AMYGDALA",
    "CAUDATE",
    "CEREBELLUM",
    "DIENCEPHALON_VENTRAL",
    "HIPPOCAMPUS",
    "PALLIDUM",
    "PUTAMEN",
    "THALAMUS",
)
SUBCORTEX = tuple(sorted([f"{name}_{side}" for name in _SIDED for side in ("LEFT", "RIGHT")] + ["BRAIN_STEM"]))
"""The 19 structures below the cortex that the HCP's grayordinates have, in their order
(doi:10.1016/j.neuroimage.2013.04.127)."""

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceAtlas:
    """Parcels of the grayordinates of a CIFTI file. Two atlases are the same if their digests are.

    It is looked up by structure and number of the vertex, or by voxel, never by the place in a file: files of labels
    often have the medial wall, those of data do not.
    """

    name: str
    digest: str
    """Hex SHA-256 of the file of labels; with the file's own structures, of that and their names."""
    vertices: Mapping[str, Labels]
    """[vertex] label of each vertex of a surface, by CIFTI's name of the structure; 0 is none."""
    volume: Labels | None
    """[x, y, z] label of each voxel; None if the file of labels has only surfaces."""
    affine: npt.NDArray[np.float64] | None
    """[4, 4] voxel to mm, of `volume`."""
    structures: Mapping[str, int]
    """Label of each structure that is one parcel as a whole, whatever voxels a file has of it."""
    ids: tuple[int, ...]
    """The label of each parcel, ascending."""
    names: tuple[str, ...]
    vertex_position_mm: Mapping[str, npt.NDArray[np.float64]]
    """[vertex, 3] where each vertex of a surface lies; empty if no surfaces were given."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def grid(self) -> Grid | None:
        """Shape and affine of `volume`."""
        return None if self.volume is None or self.affine is None else (self.volume.shape, self.affine)

    def columns_of(self, labels: Labels) -> npt.NDArray[np.int64]:
        """Return the numbers of the parcels in `ids`; -1 for label 0."""
        return np.where(labels == 0, -1, np.searchsorted(self.ids, labels)).astype(np.int64)

    @cached_property
    def voxels(self) -> npt.NDArray[np.int64]:
        """[parcel] number of vertices and voxels; 0 for whole structures, which each file has its own of."""
        parts = [*self.vertices.values(), *([] if self.volume is None else [self.volume])]
        counts = np.zeros(len(self), dtype=np.int64)
        for labels in parts:
            columns = self.columns_of(labels[labels > 0])
            counts += np.bincount(columns, minlength=len(self))
        return counts

    @cached_property
    def position_mm(self) -> npt.NDArray[np.float64]:
        """[parcel, 3] centre of each parcel, mean of its vertices and voxels.

        NaN for whole structures, for parcels without a grayordinate, and for those of the cortex if no surfaces were
        given: CIFTI says which vertex a value belongs to, not where it lies.
        """
        sums = np.zeros((len(self), 3))
        for structure, labels in self.vertices.items():
            at = self.vertex_position_mm.get(structure)
            _add(sums, self.columns_of(labels), np.full((len(labels), 3), np.nan) if at is None else at)
        if self.volume is not None and self.affine is not None:
            inside = np.argwhere(self.volume > 0)
            columns = self.columns_of(self.volume[tuple(inside.T)])
            _add(sums, columns, inside @ self.affine[:3, :3].T + self.affine[:3, 3])
        with np.errstate(invalid="ignore"):
            return sums / self.voxels[:, None]


def _add(sums: npt.NDArray[np.float64], columns: npt.NDArray[np.int64], at: npt.NDArray[np.float64]) -> None:
    inside = columns >= 0
    np.add.at(sums, columns[inside], at[inside])


def structures_alone(name: str) -> SurfaceAtlas:
    """Return the atlas whose parcels are the 19 structures below the cortex."""
    return SurfaceAtlas(
        name=name,
        digest=_digest_with_structures(""),
        vertices={},
        volume=None,
        affine=None,
        structures={_PREFIX + structure: label for label, structure in enumerate(SUBCORTEX, start=1)},
        ids=tuple(range(1, len(SUBCORTEX) + 1)),
        names=SUBCORTEX,
        vertex_position_mm={},
    )


def load_surface_atlas(
    path: Path, *, name: str = "", structures: bool = False, midthickness: tuple[Path, Path] | None = None
) -> SurfaceAtlas:
    """Read a ``.dlabel.nii``.

    Parameters
    ----------
    path
        CIFTI-2, one map of labels over the cortex, with or without its medial wall, and over voxels if it likes.
    name
        What to call the atlas; the file's name without its ending by default.
    structures
        Take the 19 structures below the cortex as a parcel each.
    midthickness
        Surfaces of the left and right hemisphere (``.surf.gii``), for the positions of the parcels.

    Raises
    ------
    UserError
        If a file is missing or damaged, it has no labels or more than one map, a label has no name, it labels voxels
        although `structures` are wanted, or a surface has another number of vertices.
    """
    try:
        digest = sha256_of(path) if path.is_file() else ""
        content = _content(path)
    except Unreadable as error:
        raise UserError(f"atlas {error}.", mend="give a whole CIFTI-2 file of labels (.dlabel.nii)") from None
    if structures and content.volume is not None:
        problem = (
            f"atlas {path.name}: it has labels below the cortex, and the structures of the data were asked for too."
        )
        raise UserError(problem, mend="leave out `+subcortex`")
    table = dict(content.names)
    whole: dict[str, int] = {}
    if structures:
        above = max(table)
        whole = {_PREFIX + structure: above + number for number, structure in enumerate(SUBCORTEX, start=1)}
        table |= {above + number: structure for number, structure in enumerate(SUBCORTEX, start=1)}
        digest = _digest_with_structures(digest)
    ids = sorted(table)
    positions = {} if midthickness is None else dict(zip(_CORTEX, map(_vertices_of, midthickness), strict=True))
    for structure, labels in content.vertices.items():
        if structure in positions and len(positions[structure]) != len(labels):
            found = len(positions[structure])
            problem = f"atlas {path.name}: its {structure} has {len(labels)} vertices, the surface {found}."
            raise UserError(problem, mend="give the midthickness surfaces of the atlas's density")
    return SurfaceAtlas(
        name=name or path.name.removesuffix(".nii").removesuffix(".dlabel"),
        digest=digest,
        vertices=content.vertices,
        volume=content.volume,
        affine=content.affine,
        structures=whole,
        ids=tuple(ids),
        names=tuple(table[label] for label in ids),
        vertex_position_mm=positions,
    )


def _digest_with_structures(digest: str) -> str:
    return hashlib.sha256("\n".join((digest, *SUBCORTEX, "")).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Content:
    """What a file of labels has."""

    names: Mapping[int, str]
    vertices: Mapping[str, Labels]
    volume: Labels | None
    affine: npt.NDArray[np.float64] | None


def cifti_of(path: Path, *, rows: str, expected: str) -> tuple[Any, Any]:
    """Open a CIFTI-2 file whose columns are grayordinates.

    Parameters
    ----------
    path
        The file.
    rows
        What its rows have to be, in CIFTI's word: ``LABELS``, ``SERIES``.
    expected
        The same in ours, for the error.

    Returns
    -------
    nibabel's image and its `BrainModelAxis`, which says of each column which grayordinate it is.

    Raises
    ------
    Unreadable
        If it is no such file.
    """
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image: Any = nib.load(path)
        if not isinstance(image, nib.Cifti2Image):
            raise Unreadable(f"{path.name}: {type(image).__name__}, expected {expected}")
        header: Any = image.header
        maps = [header.matrix.get_index_map(axis) for axis in range(len(image.shape))]
        kinds = [one.indices_map_to_data_type.removeprefix("CIFTI_INDEX_TYPE_") for one in maps]
        if kinds != [rows, "BRAIN_MODELS"]:
            raise Unreadable(f"{path.name}: CIFTI of {' by '.join(kinds)}, expected {expected}")
        models = header.get_axis(1)
    if image.shape[1] != len(models):
        raise Unreadable(f"{path.name}: {image.shape[1]} values a row, but {len(models)} grayordinates in its header")
    data: Any = image.dataobj
    if data.dtype.kind not in "iuf":
        raise Unreadable(f"{path.name}: values of type {data.dtype}, expected real numbers")
    return image, models


def _content(path: Path) -> _Content:
    image, models = cifti_of(path, rows="LABELS", expected="a map of labels over grayordinates (.dlabel.nii)")
    maps = image.header.get_axis(0)
    if len(maps) != 1:
        raise Unreadable(f"{path.name}: {len(maps)} maps of labels, expected one")
    with reading(path):
        values = np.asarray(image.dataobj[0, :], dtype=np.float64)
    labels = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - labels).max() > 0 or labels.min() < 0:
        raise Unreadable(f"{path.name}: its values are no labels (whole numbers from 0)")
    labels = labels.astype(np.int32)
    names = {int(label): name for label, (name, _) in maps.label[0].items() if label > 0}
    lacking = sorted(set(labels[labels > 0].tolist()) - set(names))
    if not labels.any():
        raise Unreadable(f"{path.name}: it has no label, every grayordinate is 0")
    if lacking:
        raise Unreadable(f"{path.name}: label {lacking[0]} has no name in it")
    vertices: dict[str, Labels] = {}
    for structure, part, model in models.iter_structures():
        if structure in models.nvertices:
            vertices.setdefault(structure, np.zeros(models.nvertices[structure], dtype=np.int32))
            vertices[structure][model.vertex] = labels[part]
    voxels = models.volume_mask
    if not labels[voxels].any():
        return _Content(names=names, vertices=vertices, volume=None, affine=None)
    volume = np.zeros(models.volume_shape, dtype=np.int32)
    volume[tuple(models.voxel[voxels].T)] = labels[voxels]
    return _Content(names=names, vertices=vertices, volume=volume, affine=np.asarray(models.affine, dtype=np.float64))


def _vertices_of(path: Path) -> npt.NDArray[np.float64]:
    """[vertex, 3] of a surface, mm."""
    try:
        with reading(path):
            surface: Any = nib.load(path)
            points = surface.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
            return np.asarray(points[0].data, dtype=np.float64).reshape(-1, 3)
    except Unreadable as error:
        raise UserError(f"surface {error}.", mend="give a whole midthickness surface (.surf.gii)") from None
