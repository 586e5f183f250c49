"""Volumes: 4-D BOLD in NIfTI, averaged over the parcels of a labels image on the same grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from neurofm.errors import UserError
from neurofm.parcels import Atlas, header_tr_s, load_atlas, parcel_means
from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.bold import agreed_tr_s, parcel_channels
from neurofm.readers.shared.common import build
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "2"
LIBRARIES = ("nibabel", "numpy", "scipy")


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
        `signal` [volume, parcel] float64 in the scanner's arbitrary unit, NaN for parcels that carry none; positions
        are the parcels' centres in mm; quality columns ``voxels`` (size) and ``coverage`` (share that carries signal).

    Raises
    ------
    Unreadable
        For a damaged image, one that is not 4-D, grids that differ (nothing is resampled), or an unknown
        repetition time.
    """
    path = source.path()
    atlas = _parcels(source, options)
    means = parcel_means(path, atlas=atlas, space=options.space)
    tr_s = agreed_tr_s(path.name, {"the header": header_tr_s(path), "the catalogue": options.tr_s})
    return build(
        source,
        channels=parcel_channels(means, atlas=atlas, name=options.atlas, space=options.space),
        signal=Signal(values=means.values, sampling_rate_hz=1 / tr_s, units="a.u."),
        scalars=participant_scalars(source),
    )


def _parcels(source: ReaderInput, options: Options) -> Atlas:
    """Return the recording's own labels, without those that are excluded."""
    try:
        atlas = load_atlas(source.path("labels"), space=options.space)
    except UserError as error:  # here the labels are a file of the recording
        raise Unreadable(error.problem) from None
    kept = [at for at, label in enumerate(atlas.ids) if label not in options.exclude_labels]
    return replace(
        atlas,
        labels=np.where(np.isin(atlas.labels, options.exclude_labels), 0, atlas.labels),
        ids=tuple(atlas.ids[at] for at in kept),
        names=tuple(atlas.names[at] for at in kept),
    )
