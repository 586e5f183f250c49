"""What readers of BOLD share: one repetition time of several, and parcels as channels."""

from __future__ import annotations

import numpy as np

from neurofm.parcels import Atlas, ParcelMeans, SurfaceAtlas
from neurofm.recording import Channels, Unreadable

_AGREE = 0.01
"""Two statements of one repetition time may differ by this share of it."""


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
