"""A project in git whose stages take no time: two make a shard by modality, one reads what both made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from neurofm.catalog import read_yaml

PROJECT = Path(__file__).resolve().parents[2]


class Repository:
    """A project of three quick stages in git: two by modality, and one that reads what both made."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
        }
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)

    def __call__(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def stages(self) -> dict[str, Any]:
        found: dict[str, Any] = read_yaml(self.root / "dvc.lock")["stages"]
        return found


DVC_YAML = """\
stages:
  shard:
    foreach: [eeg, fmri]
    do:
      cmd: mkdir -p data metrics && cp ${item}.txt data/${item} && cp ${item}.txt metrics/${item}.json
      deps:
        - ${item}.txt
      outs:
        - data/${item}:
            persist: true
      metrics:
        - metrics/${item}.json:
            cache: false
  score:
    cmd: cat data/eeg data/fmri > score && tail -qn1 data/eeg > metrics/summary.json
    deps:
      - data
    outs:
      - score
    metrics:
      - metrics/summary.json:
          cache: false
"""


def make_repository(root: Path) -> Repository:
    """Make the project in an empty folder: in git, with DVC, with nothing committed."""
    made = Repository(root)
    root.mkdir()
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / ".gitignore").write_text("/data\n/score\n")
    (root / ".gitattributes").write_text((PROJECT / ".gitattributes").read_text())
    made("git", "init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "Ada"), ("user.email", "ada@lab.example")):
        made("git", "config", key, value)
    made("dvc", "init", "--quiet")
    return made
