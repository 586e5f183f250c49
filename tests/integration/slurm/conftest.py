"""A Slurm cluster of its own for every test: starting one takes a fifth of a second."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.slurm import PROJECT, SlurmCluster, missing_program


@pytest.fixture
def memory_mb() -> int:
    """What each node says it has; a module may say otherwise."""
    return 8192


@pytest.fixture
def cluster(memory_mb: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A cluster of two nodes, which this test's processes find."""
    if name := missing_program():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have Slurm; {name} is missing (apt-get install slurm-wlm munge)")
        pytest.skip(f"no {name} on this machine; to run these tests: apt-get install slurm-wlm munge")
    # Not pytest's folder: munge refuses sockets below folders that others may write into, and paths are bounded.
    folder = Path(tempfile.mkdtemp(prefix="neurofm-slurm-"))
    made = SlurmCluster(folder, memory_mb=memory_mb)
    for variable in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(variable, made.env[variable])
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}:{PROJECT / 'src'}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(PROJECT)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
