"""A judge of RO-Crates: roc-validator, in an environment of its own, without a network."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.servers.clients import client_python

_SCRIPT = Path(__file__).with_name("clients") / "validate_crate.py"


@dataclass(frozen=True)
class Verdict:
    """What the validator found."""

    checked: int
    issues: tuple[tuple[str, str], ...]
    """Check and what it says."""


def judge(crate: Path, *, profile: str, severity: Literal["REQUIRED", "RECOMMENDED"] = "REQUIRED") -> Verdict:
    """Judge a crate by a profile: ``ro-crate-1.1``, ``process-run-crate-0.5``, ``workflow-run-crate-0.5``."""
    command = [str(client_python("roc-validator")), str(_SCRIPT), str(crate), profile, severity]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return Verdict(said["checked"], tuple((check, text) for check, text in said["issues"]))
