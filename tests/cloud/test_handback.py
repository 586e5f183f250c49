"""What `cloud/train.sh` keeps of its budget and hands back; neurofm and DVC are stood in for, the script is real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from neurofm.catalog import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
STAGES = ("pretrain", "evaluate")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose programs do nothing, with the metrics of both stages."""
    root = tmp_path / "neurofm"
    for name in ("cloud", ".venv/bin", "metrics"):
        (root / name).mkdir(parents=True)
    shutil.copy(PROJECT / "cloud" / "train.sh", root / "cloud")
    for name in ("dvc", "neurofm", "python"):
        program = root / ".venv" / "bin" / name
        program.write_text("#!/bin/sh\n" + ("echo data/splits.json\n" if name == "python" else ""))
        program.chmod(0o755)
    for name in ("dvc.lock", "params.yaml", *(f"metrics/{name}" for name in metrics_of("pretrain", "evaluate"))):
        (root / name).write_text(name)
    return root


def metrics_of(*stages: str) -> set[str]:
    """What these stages write for git: DVC has no copy of it, so that it must be handed back."""
    known = read_yaml(PROJECT / "dvc.yaml")["stages"]
    named = [out for stage in stages for kind in ("outs", "metrics") for out in known[stage].get(kind, [])]
    return {
        Path(path).name for out in named if isinstance(out, dict) for path, facts in out.items() if not facts["cache"]
    }


def train(root: Path) -> subprocess.CompletedProcess[str]:
    told = {"NEUROFM_REMOTE": "s3://lab/neurofm", "NEUROFM_STATE": str(root.parent), "NEUROFM_STAGES": " ".join(STAGES)}
    return subprocess.run(
        ["bash", "cloud/train.sh"], cwd=root, env=os.environ | told, capture_output=True, text=True, check=False
    )


def test_all_that_git_has_of_the_stages_is_handed_back_and_named_on_the_page(root: Path) -> None:
    done = train(root)
    assert done.returncode == 0, done.stderr
    handed = {path.name for path in (root.parent / "handback").iterdir()}
    assert handed == {"dvc.lock"} | metrics_of(*STAGES)
    page = (PROJECT / "docs" / "cloud.md").read_text().partition("## Afterwards")[2]
    (further,) = re.findall(r"^for name in (.+); do ", page, re.MULTILINE)
    assert set(re.findall(r"handback/(\S+) ", page)) - {"$name"} | set(further.split()) == handed


@pytest.mark.parametrize("content", ["", "many\n", "-1", "08"])
def test_a_budget_that_cannot_be_read_is_not_begun_anew(root: Path, content: str) -> None:
    assert train(root).returncode == 0
    (spent,) = root.parent.glob("spent-*")
    assert int(spent.read_text()) >= 0
    assert not list(root.parent.glob(".spent*"))
    spent.write_text(content)
    done = train(root)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {spent} holds no number of seconds. Mend: ")
    assert spent.read_text() == content
