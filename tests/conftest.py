"""Fixtures shared by all tests: where the real recordings are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of shared real recordings (`NEUROFM_TEST_DATA`, default ``../shared/data``)."""
    folder = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the shared recordings; {folder} is missing")
        pytest.skip(f"shared recordings are not at {folder}; set NEUROFM_TEST_DATA")
    return folder
