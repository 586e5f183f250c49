"""Inscopix: cell traces that its Data Processing Software (IDPS) or ``isx`` exported as CSV.

Layout (isxCellSetExporter): a row of cell names after one blank field, a row ``Time(s)/Cell Status`` with ``accepted``,
``rejected`` or ``undecided`` per cell, then a row per frame. A second file, ``*-props.csv``, has a row per cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.frame_times import refuse_unrising
from neurofm.readers.shared.nwb_ophys import nominal_rate_hz
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.roi import FloatArray, cell_channels, time_by_roi
from neurofm.recording import Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "pandas")

HEADER = "Time(s)/Cell Status"
"""What the second row of an exported table of traces begins with."""


class Options(Settings):
    """Which cells are wanted."""

    statuses: tuple[Literal["accepted", "undecided", "rejected"], ...] = Field(default=("accepted",), min_length=1)
    """Cells of these statuses; where nobody went through the cells all are ``undecided``."""
    units: str = "a.u."
    """What the traces are in: ``dF/F`` after CNMF-E or a dF/F movie, SD where they were normalised."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one exported table.

    Parameters
    ----------
    source
        ``main`` is the table of traces; ``properties`` the ``-props.csv`` that is exported with it.
    options
        Which cells.

    Returns
    -------
    Recording
        `signal` [time, cell], time 0 at the first frame, `sample_time_s` as stamped (frames that the camera lost leave
        a gap); centroids in pixels and the number of components and size of each cell, where there are properties.

    Raises
    ------
    Unreadable
        For another layout or the binary ``.isxd``, times that are missing or go back, or if no cell has the statuses.
    """
    path = source.path()
    if path.suffix.lower() == ".isxd":
        raise Unreadable(
            f"{path.name}: the binary format of Inscopix, whose reader's licence forbids its use here; export the cell "
            "set as CSV (in IDPS: File, Export, or isx.export_cell_set_to_csv_tiff)"
        )
    with opening(path):
        table = pd.read_csv(path, header=None, skipinitialspace=True, dtype=str)
    if len(table) < 2 or str(table.iloc[1, 0]).strip() != HEADER:
        raise Unreadable(f"{path.name}: its second row does not begin with {HEADER!r}: no cell traces of Inscopix")
    names = [str(name).strip() for name in table.iloc[0, 1:]]
    statuses = [str(status).strip().lower() for status in table.iloc[1, 1:]]
    kept = [i for i, status in enumerate(statuses) if status in options.statuses]
    if not kept:
        counts = ", ".join(f"{statuses.count(one)} {one}" for one in sorted(set(statuses)))
        raise Unreadable(
            f"{path.name}: no cell is {' or '.join(options.statuses)} ({counts}; reader option `statuses`)"
        )
    numbers = table.iloc[2:].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    times = numbers[:, 0]
    refuse_unrising(times, where=path.name, what="times in column 'Time(s)'")
    rate_hz = nominal_rate_hz(times, path.name)
    traces = time_by_roi(numbers[:, 1:].T, cells=len(names), where=path.name, listed_in="its first row")
    properties = _properties(source, [names[i] for i in kept])
    return build(
        source,
        channels=cell_channels([names[i] for i in kept], position=properties[0], quality=properties[1]),
        signal=Signal(values=traces[:, kept], sampling_rate_hz=rate_hz, units=options.units),
        sample_time_s=times - times[0],
        scalars=participant_scalars(source),
    )


def _properties(source: ReaderInput, names: list[str]) -> tuple[FloatArray | None, dict[str, FloatArray]]:
    """Return the cells' [cell, 3] centroids and numbers; None and nothing without a table of properties."""
    path = _properties_file(source)
    if path is None:
        return None, {}
    with opening(path):
        table = pd.read_csv(path, skipinitialspace=True)
    table.columns = [str(column).strip() for column in table.columns]
    if "Name" not in table.columns or _missing(names, table):
        raise Unreadable(f"{path.name}: does not list cell {(_missing(names, table) or names)[0]} of the traces")
    rows = table.set_index(table["Name"].astype(str).str.strip()).loc[names]
    wanted = {"NumComponents": "components", "Size": "size_px"}
    quality = {new: rows[old].to_numpy(dtype=np.float64) for old, new in wanted.items() if old in rows.columns}
    if not {"CentroidX", "CentroidY"} <= set(rows.columns):
        return None, quality
    xy = rows[["CentroidX", "CentroidY"]].to_numpy(dtype=np.float64)
    return np.column_stack([xy, np.zeros(len(xy))]), quality


def _missing(names: list[str], table: pd.DataFrame) -> list[str]:
    """Return the cells that a table of properties does not list."""
    listed = set(table["Name"].astype(str).str.strip()) if "Name" in table.columns else set()
    return [name for name in names if name not in listed]


def _properties_file(source: ReaderInput) -> Path | None:
    if "properties" in source.entry.files:
        return source.path("properties")
    wanted = f"{source.entry.files['main'].removesuffix('.csv')}-props.csv"
    return source.root / wanted if wanted in source.entry.extra else None
