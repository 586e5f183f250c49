"""What readers of BOLD share: the repetition time, and parcels as channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from neurofm.parcels import Atlas, ParcelMeans, SurfaceAtlas
from neurofm.readers.shared.common import opening
from neurofm.recording import Channels, Unreadable

_SECONDS_PER = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_LONGEST_TR_S = 60.0
"""A repetition time without a unit that is longer than this is not in seconds."""
_AGREE = 0.01
"""Two statements of one repetition time may differ by this share of it."""


def header_tr_s(path: Path) -> float | None:
    """Return the repetition time in a NIfTI header, seconds; None where it has none."""
    with opening(path):
        header: Any = nib.load(path).header
        unit, zooms = header.get_xyzt_units()[1], header.get_zooms()
    if unit == "unknown" and len(zooms) > 3 and zooms[3] > _LONGEST_TR_S:
        return None  # milliseconds, most likely, but the file does not say so
    # Through text, because the header's single precision 2.2 would become 2.2000000477.
    tr_s = float(str(zooms[3])) * _SECONDS_PER.get(unit, 0.0) if len(zooms) > 3 else 0.0
    return tr_s if tr_s > 0 else None


def agreed_tr_s(name: str, said: dict[str, float | None]) -> float:
    """Return the repetition time on which all agree who state one, seconds; of the first of them.

    Parameters
    ----------
    name
        The file, for the error.
    said
        What each says, by its name in words ("the header").

    Raises
    ------
    Unreadable
        If nobody states it, or two statements differ.
    """
    stated = {who: tr_s for who, tr_s in said.items() if tr_s is not None and np.isfinite(tr_s)}
    if not stated:
        asked = " nor ".join(said)
        raise Unreadable(f"{name}: no repetition time in {asked}; state it with the reader option `tr_s`")
    (first, tr_s), *others = stated.items()
    for who, other in others:
        if not abs(other - tr_s) <= _AGREE * tr_s:
            raise Unreadable(f"{name}: repetition time {tr_s} s in {first}, {other} s in {who}")
    return tr_s


def parcel_channels(means: ParcelMeans, *, atlas: Atlas | SurfaceAtlas, name: str, space: str) -> Channels:
    """Return the parcels as channels.

    Their quality columns: ``coverage`` (share of the parcel that carries signal, 0 to 1) and ``voxels`` (its size).
    """
    named = any(one != str(label) for one, label in zip(atlas.names, atlas.ids, strict=True))
    return Channels(
        id=tuple(f"{name}-{label:03d}" for label in atlas.ids),
        position=means.position_mm,
        position_unit="mm",
        space=space,
        region=atlas.names if named else (),
        quality={"coverage": means.coverage, "voxels": means.voxels.astype(np.float64)},
    )
