"""DVC's own classes, which have no types: the one place where they are imported."""

from __future__ import annotations

from dvc.config import ConfigError  # type: ignore[import-untyped]
from dvc.exceptions import DvcException, NotDvcRepoError  # type: ignore[import-untyped]
from dvc.repo import Repo  # type: ignore[import-untyped]
from dvc.scm import SCMError  # type: ignore[import-untyped]

__all__ = ["ConfigError", "DvcException", "NotDvcRepoError", "Repo", "SCMError"]
