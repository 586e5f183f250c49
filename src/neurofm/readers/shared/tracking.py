"""Positions that a tracker of body parts found in a behaviour video (DeepLabCut's table)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where one body part was, frame by frame."""

    frame: npt.NDArray[np.int64]
    """[frame] numbers of the video's frames."""
    xy: npt.NDArray[np.float64]
    """[frame, 2] pixels; NaN where it was not found."""


def read_tracking(path: Path, *, bodypart: str, min_likelihood: float) -> Tracked:
    """Read a table with three header rows: scorer, body part, and ``x``, ``y``, ``likelihood``.

    Parameters
    ----------
    path
        The ``.csv`` file.
    bodypart
        Which part; may be empty where there is one.
    min_likelihood
        Positions less likely are NaN.

    Raises
    ------
    Unreadable
        If the table has another layout, or several parts and none is named.
    """
    with opening(path):
        table = pd.read_csv(path, header=[0, 1, 2], index_col=0)
    parts = sorted({str(column[1]) for column in table.columns})
    if not bodypart and len(parts) != 1:
        raise Unreadable(f"{path.name}: tracks {', '.join(parts)}; name one with the reader option `bodypart`")
    columns = {str(column[2]): column for column in table.columns if str(column[1]) == (bodypart or parts[0])}
    if not {"x", "y"} <= set(columns):
        raise Unreadable(f"{path.name}: no columns x and y of body part {bodypart or parts[0]!r}")
    numbers = {name: pd.to_numeric(table[column], errors="coerce").to_numpy() for name, column in columns.items()}
    xy = np.stack([numbers["x"], numbers["y"]], axis=1).astype(np.float64)
    if "likelihood" in numbers:
        xy[~(numbers["likelihood"] >= min_likelihood)] = np.nan
    return Tracked(frame=table.index.to_numpy().astype(np.int64), xy=xy)
