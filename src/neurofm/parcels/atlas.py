"""An atlas: which parcel each voxel of a space belongs to, and what the parcels are called."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.parcels.volumes import Grid, volumes_of
from neurofm.recording import Unreadable

_LARGEST = np.iinfo(np.int32).max
_MOST_DIGITS = 20
"""Of a label in a table: Python reads no number of thousands."""
_WHOLE = 1e-3
"""How far a label may lie from a whole number: some atlases are stored as float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Atlas:
    """Parcels of a brain as an image of labels. Two atlases are the same if their digests are."""

    name: str
    space: str
    """Coordinate space of the image: ``MNI152NLin2009cAsym``, ``MNI152NLin6Asym``, ``scanner``."""
    digest: str
    """Hex SHA-256 of the image's file."""
    labels: npt.NDArray[np.int32]
    """[x, y, z]; 0 is background."""
    affine: npt.NDArray[np.float64]
    """[4, 4] voxel to mm."""
    ids: tuple[int, ...]
    """The label of each parcel, ascending; a table of names may list some that have no voxel on this grid."""
    names: tuple[str, ...]
    """The name of each parcel; its label in digits where nothing names it."""
    centres_mm: npt.NDArray[np.float64] | None = None
    """[parcel, 3] for an atlas that was taken to another grid: the centres on its own. They say which parcel it is, and
    may not move with the field of view of a run."""
    beyond: npt.NDArray[np.int64] | None = None
    """[parcel] for an atlas that was taken to another grid: how many voxels of that size lie beyond its edge."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        return self.labels.shape, self.affine

    @cached_property
    def columns(self) -> npt.NDArray[np.int64]:
        """[voxel] number of the parcel in `ids`, first axis fastest; -1 is background."""
        labels = self.labels.ravel(order="F")
        return np.where(labels == 0, -1, np.searchsorted(self.ids, labels)).astype(np.int64)

    @cached_property
    def voxels(self) -> npt.NDArray[np.int64]:
        """[parcel] number of voxels, with those beyond the edge of the grid."""
        return self.in_grid if self.beyond is None else self.in_grid + self.beyond

    @cached_property
    def in_grid(self) -> npt.NDArray[np.int64]:
        """[parcel] number of voxels that the grid has."""
        return np.bincount(self.columns[self.columns >= 0], minlength=len(self)).astype(np.int64)

    @cached_property
    def position_mm(self) -> npt.NDArray[np.float64]:
        """[parcel, 3] centre of each parcel, mean of its voxels; NaN for one without a voxel."""
        if self.centres_mm is not None:
            return self.centres_mm
        inside = np.flatnonzero(self.columns >= 0)
        at = np.unravel_index(inside, self.labels.shape, order="F")
        columns = self.columns[inside]
        sums = [np.bincount(columns, weights=along, minlength=len(self)) for along in at]
        with np.errstate(invalid="ignore"):
            centres = np.stack(sums, axis=1) / self.in_grid[:, None]
        return np.asarray(centres @ self.affine[:3, :3].T + self.affine[:3, 3], dtype=np.float64)


def load_atlas(path: Path, *, space: str, names: Path | None = None, name: str = "") -> Atlas:
    """Read an image of labels and, where there is one, its table of names.

    Parameters
    ----------
    path
        ``.nii`` or ``.nii.gz``, 3-D, whole numbers, 0 is background.
    space
        The space of the image. NIfTI cannot name it; TemplateFlow's file names do (``tpl-...``).
    names
        TemplateFlow's ``dseg.tsv`` (columns ``index`` and ``name``), or AAL's text in either form that it is
        given away in (``1 Precentral_L 2001`` and ``FAG Precentral_L 2001``). It must name every label of the
        image.
    name
        What to call the atlas; the file's name without its ending by default.

    Raises
    ------
    UserError
        If a file is missing or damaged, the image is not 3-D, has no label, or values that are no labels,
        or the table does not fit.
    """
    try:
        labels = _labels(path)
        digest = sha256_of(path)
    except Unreadable as error:
        raise UserError(f"atlas {error}.", mend="give a whole 3-D NIfTI image of labels") from None
    values = [int(label) for label in np.unique(labels.stored) if label != 0]
    table = {} if names is None else label_names(names)
    lacking = [label for label in values if label not in table]
    if names is not None and lacking:
        some = ", ".join(map(str, lacking[:3])) + (", ..." if len(lacking) > 3 else "")
        problem = (
            f"atlas {path.name}: {names.name} has no name for {len(lacking)} of its {len(values)} labels ({some})."
        )
        raise UserError(problem, mend="give the table that belongs to this image")
    ids = sorted(set(values) | set(table))
    return Atlas(
        name=name or path.name.removesuffix(".gz").removesuffix(".nii"),
        space=space,
        digest=digest,
        labels=labels.stored,
        affine=labels.affine,
        ids=tuple(ids),
        names=tuple(table.get(label, str(label)) for label in ids),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labels:
    stored: npt.NDArray[np.int32]
    affine: npt.NDArray[np.float64]


def _labels(path: Path) -> _Labels:
    image = volumes_of(path, dimensions=3)
    (stored,) = image
    values = stored * image.slope + image.inter
    if not np.isfinite(values).all():
        raise Unreadable(f"{path.name}: it has values that are no number")
    labels = np.rint(values)
    if np.abs(values - labels).max() > _WHOLE:
        raise Unreadable(f"{path.name}: its values are no whole numbers, so it is no image of labels")
    if labels.min() < 0 or labels.max() > _LARGEST:
        raise Unreadable(f"{path.name}: its labels lie between {labels.min():.0f} and {labels.max():.0f}")
    if labels.max() == 0:
        raise Unreadable(f"{path.name}: it has no label, every voxel is 0")
    return _Labels(stored=labels.astype(np.int32).reshape(image.shape, order="F"), affine=image.affine)


def label_names(path: Path) -> Mapping[int, str]:
    """Read the name of each label, background left out.

    Raises
    ------
    UserError
        If it is no table of labels and names.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"names of an atlas: {path.name} cannot be read: {said}.", mend="give its table") from None
    if not lines:
        _refuse(path, "it is empty")
    header = lines[0].split("\t")
    if {"index", "name"} <= set(header):
        rows = [(row["index"], row["name"]) for row in csv.DictReader(lines, delimiter="\t")]
    else:
        rows = [_row(path, number, line.split()) for number, line in enumerate(lines, start=1)]
    found: dict[int, str] = {}
    for label, name in rows:
        if not (label or "").isdecimal() or not (name or "").strip():
            _refuse(path, f"a row has the label {label!r} and the name {name!r}")
        if len(label) > _MOST_DIGITS or int(label) > _LARGEST:
            _refuse(path, f"label {label[:_MOST_DIGITS]} is beyond {_LARGEST}")
        if int(label) in found:
            _refuse(path, f"label {int(label)} occurs twice")
        found[int(label)] = name.strip()
    found.pop(0, None)
    return found


def _row(path: Path, number: int, fields: list[str]) -> tuple[str, str]:
    """Take label and name from a row of AAL's: the label comes first, or after a code and the name."""
    if len(fields) in {2, 3} and fields[0].isdecimal():
        return fields[0], fields[1]
    if len(fields) != 3 or not fields[2].isdecimal():
        _refuse(path, f"line {number} is neither a label and a name nor a code, a name and a label")
    return fields[2], fields[1]


def _refuse(path: Path, why: str) -> NoReturn:
    mend = "give TemplateFlow's dseg.tsv (columns index and name) or AAL's text"
    raise UserError(f"names of an atlas: {path.name}: {why}.", mend=mend)
