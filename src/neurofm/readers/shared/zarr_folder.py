"""Arrays of a Zarr v2 group that lies as a folder, checked for missing chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from neurofm.recording import Unreadable

_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class NamedArray:
    """An array and what its axes are called."""

    values: npt.NDArray[Any]
    dims: tuple[str, ...]
    """Empty where the file does not say."""


def read_zarr_array(folder: Path, name: str) -> NamedArray | None:
    """Read array `name` of the Zarr v2 group at `folder` (``C.zarr``); None if the group has no such array.

    Zarr itself takes a chunk that is not there for one full of the fill value: a copy that was cut short would read as
    cells that are silent, so the chunks are counted.

    Raises
    ------
    Unreadable
        If the array is damaged or a chunk is missing; the text names the group's folder.
    """
    where = f"{folder.name}/{name}"
    if not (folder / name / ".zarray").is_file():
        return None
    try:
        array = zarr.open_array(store=folder / name, mode="r", zarr_format=2)
        missing = _missing_chunks(array, folder / name)
        values = np.asarray(array[...])
        named = array.attrs.asdict().get("_ARRAY_DIMENSIONS")
        dims = tuple(str(dim) for dim in named) if isinstance(named, list) else ()
    except MemoryError:
        raise
    # What zarr and its codecs raise on foreign bytes is not documented.
    except Exception as error:
        said = " ".join(str(error).split())[:_LONGEST]
        raise Unreadable(f"{where}: not readable, {type(error).__name__}: {said}") from error
    if missing:
        raise Unreadable(f"{where}: {missing} chunks are missing")
    return NamedArray(values=values, dims=dims)


def _missing_chunks(array: zarr.Array[Any], folder: Path) -> int:
    if not np.issubdtype(array.dtype, np.floating):
        # A chunk of whole numbers that are all 0, as the id of a single cell is, may have been left out on purpose.
        return 0
    expected = math.prod(math.ceil(size / chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))
    return expected - sum(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*"))
