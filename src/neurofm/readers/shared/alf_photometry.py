"""Fibre photometry of IBL in ALF files: the fluorescence of a few fibres, each of a region, not of a cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.readers.shared.alf_tree import SessionTree
from neurofm.readers.shared.common import unknown_positions
from neurofm.readers.shared.sorted_spikes import check_rising
from neurofm.recording import Channels, Signal, Target, Unreadable

_ISOSBESTIC = "Isosbestic"
_FACTS = frozenset({"times", "valid", "wavelength", "name", "color", "include"})


@dataclass(frozen=True, kw_only=True)
class Photometry:
    """What the fibres gave."""

    channels: Channels
    signal: Signal
    """[time, fibre] fluorescence of the indicator."""
    time_s: npt.NDArray[np.float64]
    """[time] seconds on the session's clock."""
    valid: npt.NDArray[np.bool_]
    """[time]"""
    noise: dict[str, Target]
    """``isosbestic``: excited where the indicator does not depend on calcium, half a sample later."""


def read_photometry(tree: SessionTree, *, collection: str, indicator: str) -> Photometry:
    """Read the indicator's frames of ``photometry.signal``, whose rows alternate between the exciting wavelengths.

    Parameters
    ----------
    tree
        The session.
    collection
        Where it lies: ``alf/photometry``.
    indicator
        The word in the column ``name`` of its frames: ``GCaMP``.

    Raises
    ------
    Unreadable
        If there is no such frame, or times go back.
    """
    table = tree.one("photometry", "signal", collections=[collection])
    name = f"{collection}/photometry.signal.pqt"
    if not isinstance(table, pd.DataFrame) or not {"times", "name"} <= set(table.columns):
        raise Unreadable(f"{name}: no table with `times` and `name` of each frame")
    fibres = [str(column) for column in table.columns if str(column) not in _FACTS]
    frames = _measured(table[table["name"] == indicator])
    if len(frames) < 2 or not fibres:
        seen = ", ".join(sorted(set(map(str, table["name"].dropna())) - {""}))
        raise Unreadable(f"{name}: no frames of {indicator!r} (it has {seen or 'none'}; reader option `indicator`)")
    time_s = frames["times"].to_numpy(dtype=np.float64)
    check_rising(time_s, name=name, what="times of the frames")
    period_s = float(np.median(np.diff(time_s)))
    if not period_s > 0:
        raise Unreadable(f"{name}: most frames have the time of the one before them")
    values = frames[fibres].to_numpy(dtype=np.float64)
    control = table[table["name"] == _ISOSBESTIC]
    noise = {}
    if len(control):
        noise["isosbestic"] = Target(
            values=control[fibres].to_numpy(dtype=np.float64),
            unit="a.u.",
            columns=tuple(fibres),
            time_s=control["times"].to_numpy(dtype=np.float64),
        )
    return Photometry(
        channels=_fibres(tree, collection, fibres),
        signal=Signal(values=values, sampling_rate_hz=1 / period_s, units="a.u.", start_s=float(time_s[0])),
        time_s=time_s,
        valid=frames["valid"].to_numpy(dtype=bool) if "valid" in frames else np.ones(len(frames), dtype=bool),
        noise=noise,
    )


def _measured(frames: pd.DataFrame) -> pd.DataFrame:
    """Return the frames from the first valid one to the last: before and after, light or task were not yet on."""
    if "valid" not in frames.columns or not frames["valid"].any():
        return frames
    at = np.flatnonzero(frames["valid"])
    return frames.iloc[at[0] : at[-1] + 1]


def _fibres(tree: SessionTree, collection: str, fibres: list[str]) -> Channels:
    places = tree.one("photometryROI", "locations", collections=[collection])
    region = {}
    if isinstance(places, pd.DataFrame) and "brain_region" in places.columns:
        region = {str(fibre): str(where) for fibre, where in places["brain_region"].items()}
    return Channels(
        id=tuple(fibres),
        position=unknown_positions(len(fibres)),
        position_unit="",
        region=tuple(region.get(fibre, "") for fibre in fibres),
    )
