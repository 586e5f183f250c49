"""What somebody asks about: a path of the project and, behind ``#``, a part of it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from neurofm.errors import UserError
from neurofm.params import Params


class Kind(StrEnum):
    """What an artefact is."""

    CATALOGUE = "catalogue entry"
    MANIFEST = "manifest"
    RAW = "raw file"
    SHARD = "shard"
    RECEIPTS = "receipts"
    QUALITY = "quality of recordings"
    SPLIT = "split"
    MODEL = "model"
    SCORES = "scores"
    CONNECTIVITY = "connectivity"
    TRAINING = "training curves"
    REPORT = "report"
    FOLDER = "folder of several stages' outputs"
    OTHER = "file"


_KINDS = (
    (Kind.CATALOGUE, r"data/catalog/(?P<dataset>[^/]+)\.yaml"),
    (Kind.MANIFEST, r"data/manifests/(?P<dataset>[^/]+)\.json"),
    (Kind.RAW, r"data/raw/(?P<dataset>[^/]+)(/(?P<file>.+))?"),
    (Kind.SHARD, r"data/shards/(?P<dataset>[^/]+)(/(?P<recording>[^/]+)\.zarr\.zip)?"),
    (Kind.RECEIPTS, r"data/receipts/(?P<dataset>[^/]+)\.jsonl"),
    (Kind.QUALITY, r"metrics/quality/(?P<dataset>[^/]+)\.json"),
    (Kind.SPLIT, r"data/splits\.json"),
    (Kind.MODEL, r"models/[^/]+(/fold-(?P<fold>\d+)(/.+)?)?"),
    (Kind.SCORES, r"metrics/(scoreboard\.(json|csv)|(summary|differences|timings)\.json)"),
    (Kind.CONNECTIVITY, r"data/connectivity(/.+)?|metrics/connectivity\.json"),
    (Kind.TRAINING, r"metrics/(pretrain\.json|dvclive(/.+)?)"),
    (Kind.REPORT, r"reports/.+"),
)

_NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is asked about."""

    path: str
    """Relative to the project's root, with ``/``."""
    row: str
    """What stands behind ``#``; empty for the whole."""
    kind: Kind
    dataset: str = ""
    """Whose it is; empty if it is of all."""
    file: str = ""
    """Of a raw file: its path in the manifest."""
    recording: str = ""
    fold: int | None = None


def subject_of(address: str, *, root: Path, params: Params) -> Subject:
    """Read ``PATH[#row]``. A ``#`` that is part of a file's name stays there if such a file exists.

    Parameters
    ----------
    address
        What was typed.
    root
        The project's root.
    params
        For folders of the user's own, which lie outside the project.

    Raises
    ------
    UserError
        If the path does not lie in the project, nor in the folder of a local dataset.
    """
    typed, row = (address, "") if os.path.lexists(address) else (address.partition("#")[0], address.partition("#")[2])
    # Not resolved: DVC may have linked the file to its cache.
    path = Path(os.path.abspath(typed))  # noqa: PTH100
    if path.is_relative_to(root.absolute()):
        return _described(path.relative_to(root.absolute()).as_posix(), row=row)
    for dataset, chosen in params.local.items():
        folder = (root / chosen.path).resolve()
        if path.resolve().is_relative_to(folder):
            file = path.resolve().relative_to(folder).as_posix()
            there = Path(chosen.path, file).as_posix()
            return Subject(path=there, row=row, kind=Kind.RAW, dataset=dataset, file="" if file == "." else file)
    raise UserError(
        f"{printable(typed)} lies outside this project ({printable(str(root.absolute()))}).",
        mend="name a file of the project, such as metrics/scoreboard.json",
    )


def _described(path: str, *, row: str) -> Subject:
    for kind, pattern in _KINDS:
        if match := re.fullmatch(pattern, path, flags=re.DOTALL):
            parts = {name: value for name, value in match.groupdict().items() if value is not None}
            fold = int(parts.pop("fold")) if "fold" in parts else None
            return Subject(path=path, row=row, kind=kind, fold=fold, **parts)
    return Subject(path=path, row=row, kind=Kind.OTHER)


def nearest(word: str, known: Iterable[str]) -> str:
    """Advise the names that are most like `word`."""
    found = difflib.get_close_matches(word, sorted(set(known)), n=_NEAREST, cutoff=0.4)
    return f"did you mean {' or '.join(printable(name) for name in found)}?" if found else ""


def printable(text: str) -> str:
    """Escape what a terminal would obey: names come from other people's files."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )
