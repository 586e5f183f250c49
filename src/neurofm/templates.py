"""TemplateFlow's folder: templates of brains, and atlases in their spaces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TEMPLATEFLOW_HOME = "TEMPLATEFLOW_HOME"
"""Variable of the environment that names it."""


def templates_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return TemplateFlow's folder, whether it is there or not."""
    return Path(environment.get(TEMPLATEFLOW_HOME) or "~/.cache/templateflow").expanduser().absolute()
