"""The real allensdk, in the environment that neurofm makes for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.isolated import isolated_python

PROJECT = Path(__file__).resolve().parents[2]


def in_allensdk(code: str, *, variables: dict[str, str] | None = None, **names: str) -> Any:
    """Run `code` there, with `names` defined as text, and return what it puts into ``answer`` (through JSON)."""
    head = "import json, sys\n" + "".join(f"{name} = {value!r}\n" for name, value in names.items())
    tail = "\nprint('\\n' + json.dumps(answer, default=str))\n"
    done = subprocess.run(
        [str(isolated_python("allensdk")), "-I", "-c", head + code + tail],
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
    isolated_python("allensdk")
    work = folder / ".neurofm"
    work.mkdir()
    (folder / "containers").symlink_to(PROJECT / "containers")
    (work / "envs").symlink_to(PROJECT / ".neurofm" / "envs")
    return work
