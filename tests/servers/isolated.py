"""Tools in environments of their own (allensdk, ANTs), as the project itself makes them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from neurofm.environments import python_of
from neurofm.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def isolated_python(name: str) -> Path:
    """Return its interpreter; the environment is made on first need, in the project's own ``.neurofm``."""
    try:
        return python_of(name, work=PROJECT / ".neurofm", root=PROJECT)
    except UserError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must be able to make {name}'s environment: {error}")
        pytest.skip(f"{name}'s environment cannot be made here: {error}")
