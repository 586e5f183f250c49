"""Files of GitLab CI, held against GitLab's own schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def check_schema(*paths: Path) -> None:
    """Fail if one of the files is no pipeline that GitLab's schema allows."""
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.gitlab-ci", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
