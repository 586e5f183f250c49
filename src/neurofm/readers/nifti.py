"""Volumes: 4-D BOLD in NIfTI, averaged over the parcels of a labels image on the same grid."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nilearn.image import coord_transform, new_img_like
from nilearn.maskers import NiftiLabelsMasker
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Channels, Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("nilearn", "nibabel", "numpy", "scipy")

_SAME_GRID_MM = 1e-3
_SECONDS_PER = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


class Options(Settings):
    """What the volumes do not say of themselves."""

    atlas: str = Field(min_length=1)
    """Names the parcellation; begins the channel ids."""
    space: str = "scanner"
    """Coordinate space of both images."""
    tr_s: float | None = Field(default=None, gt=0)
    """Repetition time, seconds, for files whose header lacks it."""
    exclude_labels: tuple[int, ...] = ()
    """Label values that are no grey matter (white matter, ventricles)."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Average the BOLD signal over each parcel, volume by volume.

    Parameters
    ----------
    source
        ``main`` is the BOLD image, ``labels`` the parcellation (0 is background); a ``participants.tsv``
        among the side files gives the scalars.
    options
        Names, and the repetition time where the header lacks it.

    Returns
    -------
    Recording
        `signal` [volume, parcel] float64 in the scanner's arbitrary unit; positions are the parcels'
        centres in mm; quality column ``voxels`` is their size.

    Raises
    ------
    Unreadable
        For a damaged image, one that is not 4-D, grids that differ (nothing is resampled), or an unknown
        repetition time.
    """
    path, labels_path = source.path(), source.path("labels")
    with opening(path):
        bold: Any = nib.load(path)  # declared by nibabel as the base class, which has no shape
        shape, affine = bold.shape, bold.affine
    with opening(labels_path):
        labels_image: Any = nib.load(labels_path)
        labels = np.rint(np.asarray(labels_image.dataobj)).astype(np.int64)
    if len(shape) != 4:
        raise Unreadable(f"{path.name}: {len(shape)}-D image of shape {shape}, expected 4-D BOLD")
    if labels.shape != shape[:3] or not np.allclose(labels_image.affine, affine, atol=_SAME_GRID_MM):
        raise Unreadable(f"{labels_path.name}: its grid is not that of {path.name} (shape or affine differ)")
    tr_s = _repetition_time_s(bold.header, options.tr_s, path.name)
    labels[np.isin(labels, options.exclude_labels)] = 0
    with opening(path):
        # Labels as integers on the BOLD's own affine: NIfTI stores affines in single precision, and the two
        # images may differ in the last digits, which nilearn would answer by resampling.
        parcels = new_img_like(bold, labels.astype(np.int32), affine)
        masker = NiftiLabelsMasker(parcels, standardize=None, resampling_target=None, reports=False)
        values = masker.fit_transform(bold)
    present = [int(label) for column, label in masker.region_ids_.items() if column != "background"]
    channels = Channels(
        id=tuple(f"{options.atlas}-{label:03d}" for label in present),
        position=np.array([_centre_mm(labels == label, affine) for label in present]).reshape(-1, 3),
        position_unit="mm",
        space=options.space,
        quality={"voxels": np.array([(labels == label).sum() for label in present], dtype=np.float64)},
    )
    signal = Signal(values=values.astype(np.float64), sampling_rate_hz=1 / tr_s, units="a.u.")
    return build(source, channels=channels, signal=signal, scalars=participant_scalars(source))


def _repetition_time_s(header: Any, stated_s: float | None, name: str) -> float:
    unit = header.get_xyzt_units()[1]
    # Through text, because the header's single precision 2.2 would become 2.2000000477.
    in_header_s = float(str(header.get_zooms()[3])) * _SECONDS_PER.get(unit, 0.0)
    if in_header_s > 0 and stated_s is not None and abs(in_header_s - stated_s) > 0.01 * stated_s:
        raise Unreadable(f"{name}: repetition time {in_header_s} s in the header, {stated_s} s in the catalogue")
    if in_header_s > 0:
        return in_header_s
    if stated_s is None:
        raise Unreadable(f"{name}: no repetition time in the header; state it with the reader option `tr_s`")
    return stated_s


def _centre_mm(inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array(coord_transform(*np.argwhere(inside).mean(axis=0), affine), dtype=np.float64)
