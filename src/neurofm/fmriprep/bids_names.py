"""Names of files in BIDS, as fMRIPrep's own queries read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.fmriprep.options import FILTER_ENTITIES, FilterValue

_NAME = re.compile(r"(?P<entities>[a-z]+-[a-zA-Z0-9+]+(?:_[a-z]+-[a-zA-Z0-9+]+)*)_(?P<suffix>[a-zA-Z0-9]+)\.nii(\.gz)?")
_PARTS = frozenset({"mag", None})
"""Magnitudes, or images of which it is not said: phases are not preprocessed."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """One image."""

    path: Path
    entities: Mapping[str, str]
    """As the name has them: ``sub``, ``ses``, ``task``..."""


def images_in(folder: Path, *, suffix: str) -> list[Named]:
    """Return a folder's images of one kind, magnitudes only, sorted by name; none where there is no such folder."""
    found = []
    for path in sorted(folder.glob(f"*_{suffix}.nii*")):
        match = _NAME.fullmatch(path.name)
        if match is None or match["suffix"] != suffix:
            continue
        entities = dict(pair.split("-", 1) for pair in match["entities"].split("_"))
        if entities.get("part") in _PARTS:
            found.append(Named(path=path, entities=entities))
    return found


def passes(named: Named, wanted: Mapping[str, FilterValue | tuple[FilterValue, ...]]) -> bool:
    """Say whether an image passes a BIDS filter, as pybids takes it: numbers by value, null for none, ``*`` for any."""
    return all(
        _is_one_of(named.entities.get(FILTER_ENTITIES[name]), value if isinstance(value, tuple) else (value,))
        for name, value in wanted.items()
    )


def _is_one_of(actual: str | None, values: tuple[FilterValue, ...]) -> bool:
    return any(
        actual is None if value is None else actual is not None and (value == "*" or _plain(actual) == _plain(value))
        for value in values
    )


def _plain(text: str) -> str:
    return str(int(text)) if text.isdigit() else text
