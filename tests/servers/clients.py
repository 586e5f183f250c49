"""The archives' official clients, each in an environment of its own: they judge the stand-in servers."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def client_python(name: str) -> Path:
    """Return the Python that has the packages of ``tests/clients/<name>.lock``; its environment is made on first use.

    It lies in ``.neurofm/envs/<name>`` and is made anew when the lock changes. Where it cannot be made, the test is
    skipped, and fails if CI runs it.
    """
    lock = _PROJECT / "tests" / "clients" / f"{name}.lock"
    folder = _PROJECT / ".neurofm" / "envs" / name
    python, ready = folder / "bin" / "python", folder / ".neurofm-lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{name}.lock").open("wb") as file:
        # Test processes run side by side: one makes it, the others wait.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (ready.is_file() and ready.read_text() == digest):
            shutil.rmtree(folder, ignore_errors=True)
            # A lock names all that is to be there.
            complaint = _uv("venv", "--python", sys.executable, str(folder)) or _uv(
                "pip", "install", "--no-deps", "--python", str(python), "--requirement", str(lock)
            )
            if complaint:
                missing = f"{name}'s environment cannot be made here: {complaint}"
                if os.environ.get("CI"):
                    pytest.fail(missing)
                pytest.skip(missing)
            ready.write_text(digest)
    return python


def _uv(*arguments: str) -> str:
    """Run uv, with pip's own wheels and index; returns its complaint."""
    variables = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    for own, pips in (("UV_FIND_LINKS", "PIP_FIND_LINKS"), ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")):
        if variables.get(pips):
            variables.setdefault(own, variables[pips])
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [str(uv), "--quiet", "--no-python-downloads", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"uv ended with {done.returncode}"
