"""Read catalogue entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from neurofm.catalog.entry import CatalogEntry
from neurofm.errors import UserError


def read_yaml(path: Path) -> Any:
    """Read one YAML file as plain data.

    Raises
    ------
    UserError
        If the file is missing or is not YAML; the line is named.
    """
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = f"{path}: no such file."
        raise UserError(problem, mend="create it, or correct the name that leads to it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        problem = f"{path}: not readable as YAML: {' '.join(str(error).split())}."
        raise UserError(problem, mend="correct the file at the place named") from None


def load_entry(dataset: str, *, root: Path = Path()) -> CatalogEntry:
    """Read and validate ``data/catalog/<dataset>.yaml`` under the project's root.

    Raises
    ------
    UserError
        For a missing file, an unknown or missing key (such as ``licence``), or an id that is not the file's name.
    """
    path = root / "data" / "catalog" / f"{dataset}.yaml"
    entry = CatalogEntry.parse(
        read_yaml(path), where=str(path), mend="correct that key; docs/catalog.md lists all of them"
    )
    if entry.id != dataset:
        problem = f"{path}: `id` is {entry.id!r}, the file's name says {dataset!r}."
        raise UserError(problem, mend="make them equal")
    return entry
