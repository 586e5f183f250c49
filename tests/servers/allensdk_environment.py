"""The real allensdk, in the environment that neurofm makes for it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neurofm.environments import python_of
from neurofm.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def allensdk_python() -> Path:
    """Return its interpreter; the environment is made on first need, in the project's own ``.neurofm``."""
    try:
        return python_of("allensdk", work=PROJECT / ".neurofm", root=PROJECT)
    except UserError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must be able to make allensdk's environment: {error}")
        pytest.skip(f"allensdk's environment cannot be made here: {error}")


def in_allensdk(code: str, *, variables: dict[str, str] | None = None, **names: str) -> Any:
    """Run `code` there, with `names` defined as text, and return what it puts into ``answer`` (through JSON)."""
    head = "import json, sys\n" + "".join(f"{name} = {value!r}\n" for name, value in names.items())
    tail = "\nprint('\\n' + json.dumps(answer, default=str))\n"
    done = subprocess.run(
        [str(allensdk_python()), "-I", "-c", head + code + tail],
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def project_with_allensdk(folder: Path) -> Path:
    """Make a project's root in `folder` whose environment of allensdk is the shared one; returns its ``.neurofm``."""
    allensdk_python()
    work = folder / ".neurofm"
    work.mkdir()
    (folder / "containers").symlink_to(PROJECT / "containers")
    (work / "envs").symlink_to(PROJECT / ".neurofm" / "envs")
    return work
