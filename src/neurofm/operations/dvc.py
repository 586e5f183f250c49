"""DVC's own classes, which have no types: the one place where they are imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvc.config import ConfigError  # type: ignore[import-untyped]
from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.scm import SCMError  # type: ignore[import-untyped]

__all__ = ["ConfigError", "DvcException", "NotDvcRepoError", "Repo", "SCMError", "is_aside"]


def is_aside(stage: Any, *, root: Path) -> bool:
    """Whether a stage is of a pipeline in a folder of its own, as ablations are: `dvc repro` leaves it alone."""
    path = Path(stage.path)
    return path.name == "dvc.yaml" and path.resolve().parent != root.resolve()
