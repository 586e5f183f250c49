"""The repetition time of a run, from its header and the JSON files that apply to it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurofm.parcels.volumes import header_tr_s
from neurofm.recording import Unreadable

_TOLERANCE = 0.01


def repetition_time_s(path: Path, *, bids: Path) -> float:
    """Return the time between volumes, seconds.

    Raises
    ------
    Unreadable
        If neither header nor sidecar has it, or they differ by more than a hundredth.
    """
    in_header = header_tr_s(path)
    stated = metadata(path, bids=bids).get("RepetitionTime")
    if stated is None and in_header is not None:
        return in_header
    # Python's JSON reads NaN and Infinity.
    if not isinstance(stated, int | float) or isinstance(stated, bool) or not 0 < stated < math.inf:
        said = "no repetition time in header or sidecar" if stated is None else f"repetition time {stated!r}"
        raise Unreadable(f"{path.name}: {said}")
    if in_header is not None and abs(in_header - stated) > _TOLERANCE * stated:
        raise Unreadable(f"{path.name}: repetition time {in_header} s in the header, {stated} s in the sidecar")
    return float(stated)


def metadata(path: Path, *, bids: Path) -> dict[str, Any]:
    """Return what the JSON files of an image say, the nearest one last, by BIDS's rule of inheritance.

    Raises
    ------
    Unreadable
        If one of them is no JSON.
    """
    said: dict[str, Any] = {}
    for sidecar in _sidecars(path, bids):
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Unreadable(f"{sidecar.name}: not readable: {' '.join(str(error).split())}") from None
        said |= content if isinstance(content, dict) else {}
    return said


def _sidecars(path: Path, bids: Path) -> Iterator[Path]:
    parts = set(path.name.removesuffix(".gz").removesuffix(".nii").split("_"))
    inside = [folder for folder in path.parents if folder == bids or bids in folder.parents]
    for folder in reversed(inside):
        found = [one for one in folder.glob("*.json") if set(one.name.removesuffix(".json").split("_")) <= parts]
        suffix = path.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
        matching = [one for one in found if one.name.removesuffix(".json").rpartition("_")[2] == suffix]
        yield from sorted(matching, key=lambda one: (len(one.name.split("_")), one.name))
