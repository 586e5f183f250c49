"""fMRIPrep's table of confounds, and the file beside it that describes its columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from neurofm.readers.shared.common import opening
from neurofm.recording import Confounds, Unreadable

_MISSING = ["n/a", "N/A", "NaN", "nan", ""]
_MOST_COLUMNS = 20_000
"""fMRIPrep's have some hundreds, a few thousand at most; far more is another file, and takes minutes."""


def read_confounds(path: Path, *, described: Path | None, volumes: int) -> Confounds:
    """Read ``*_desc-confounds_timeseries.tsv`` (or ``_regressors.tsv``, as it was called before fMRIPrep 20.2).

    Parameters
    ----------
    path
        The table, tabulators between columns, ``n/a`` where a value is not defined.
    described
        The JSON file beside it, if there is one.
    volumes
        Of the run: one row each.

    Raises
    ------
    Unreadable
        For a damaged file, rows longer than the header, a column that is no number, one that occurs twice, or another
        number of rows.
    """
    with opening(path):
        with path.open(encoding="utf-8-sig") as lines:
            columns = lines.readline().count("\t") + 1
        if columns > _MOST_COLUMNS:
            raise Unreadable(f"{path.name}: {columns} columns, more than {_MOST_COLUMNS}: no table of confounds")
        table = pd.read_csv(path, sep="\t", na_values=_MISSING, keep_default_na=False, encoding="utf-8-sig")
    # pandas takes what comes first in rows longer than the header for their names, and moves each value by a column.
    if not isinstance(table.index, pd.RangeIndex):
        raise Unreadable(f"{path.name}: rows have more fields than the header has columns")
    words = [str(name) for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    # A column without any value comes as text or as numbers, as pandas sees fit.
    words = [name for name in words if table[name].notna().any()]
    if words:
        raise Unreadable(f"{path.name}: column {words[0]!r} is no column of numbers")
    # pandas calls the second of two columns of one name `name.1`.
    twice = [str(name) for name in table.columns if str(name).endswith(".1") and str(name)[:-2] in table.columns]
    if twice:
        raise Unreadable(f"{path.name}: column {twice[0][:-2]!r} occurs twice")
    if len(table) != volumes:
        raise Unreadable(f"{path.name}: {len(table)} rows, the run has {volumes} volumes")
    content: object = {}
    if described is not None:
        with opening(described):
            content = json.loads(described.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise Unreadable(f"{described.name}: no JSON object")
    return Confounds(
        columns=tuple(str(name) for name in table.columns),
        values=table.to_numpy(dtype=np.float64, na_value=np.nan),
        described=content if isinstance(content, dict) else {},
    )
