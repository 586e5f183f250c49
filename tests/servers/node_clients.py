"""Programs of npm's, each in an environment of its own, as `clients` has those of PyPI."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def node_program(name: str) -> Path:
    """Return the program that ``tests/clients/<name>/package-lock.json`` installs; done on first use.

    It lies in ``.neurofm/envs/<name>`` and is made anew when the lock changes. Where it cannot be made, the test is
    skipped, and fails if CI runs it.
    """
    source = _PROJECT / "tests" / "clients" / name
    folder = _PROJECT / ".neurofm" / "envs" / name
    program, ready = folder / "node_modules" / ".bin" / name, folder / ".neurofm-lock"
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{name}.lock").open("wb") as file:
        # Test processes run side by side: one makes it, the others wait.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (ready.is_file() and ready.read_text() == digest):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for file_name in ("package.json", "package-lock.json"):
                shutil.copy(source / file_name, folder)
            if complaint := _npm_ci(folder):
                missing = f"{name} cannot be installed here: {complaint}"
                if os.environ.get("CI"):
                    pytest.fail(missing)
                pytest.skip(missing)
            ready.write_text(digest)
    return program


def _npm_ci(folder: Path) -> str:
    """Install what the lock names, and run no package's scripts; returns npm's complaint."""
    if shutil.which("npm") is None:
        return "there is no npm; apt-get install nodejs npm"
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"npm ended with {done.returncode}"
