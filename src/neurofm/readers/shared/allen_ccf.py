"""Allen Mouse Brain Common Coordinate Framework (2017): acronyms of structures by their numbers.

The table beside this module, ``allen_ccf_2017.csv``, holds number and acronym of the 1327 structures of the Allen
Institute's adult mouse ontology (Wang 2020, 10.1016/j.cell.2020.04.007), taken from ``allen_structure_tree.csv`` of
the package iblatlas 1.3.0 (MIT).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

_TABLE = Path(__file__).with_name("allen_ccf_2017.csv")


def acronyms(ids: npt.ArrayLike) -> tuple[str, ...]:
    """Return the acronym of each structure number.

    Parameters
    ----------
    ids
        [n] numbers of structures; negative ones are those of the left hemisphere, which has the same acronyms.

    Returns
    -------
    tuple of str
        Empty for 0 (outside of the brain) and for what is no number; ``CCF:<number>`` for one that the ontology
        does not have, so that nothing is invented.
    """
    known = _by_id()
    numbers = np.nan_to_num(np.asarray(ids, dtype=np.float64).ravel()).astype(np.int64)
    return tuple("" if number == 0 else known.get(number, f"CCF:{number}") for number in np.abs(numbers).tolist())


@cache
def _by_id() -> Mapping[int, str]:
    with _TABLE.open(encoding="utf-8", newline="") as lines:
        return {int(row["id"]): row["acronym"] for row in csv.DictReader(lines)}
