"""The task files, read by SkyPilot itself; their scripts, read by the shell and by shellcheck."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers.clients import client_python
from tests.servers.fixtures import missing_part

PROJECT = Path(__file__).resolve().parents[2]
CLOUD = PROJECT / "cloud"
ENVS = ("env=NEUROFM_REMOTE=s3://lab/neurofm", "env=NEUROFM_STATE_BUCKET=lab-state")
SECRETS = {"aws": (), "gcp": ("secret=AWS_ACCESS_KEY_ID=x", "secret=AWS_SECRET_ACCESS_KEY=y")}
PAGE = (PROJECT / "docs" / "cloud.md").read_text()


def sky(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run SkyPilot's Python in a home of its own; nothing of the clouds is there, and nothing is asked of them."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    environment |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    return subprocess.run(
        [str(client_python("skypilot")), *command],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def parsed(home: Path, cloud: str, *settings: str) -> dict[str, Any]:
    done = sky(home, "tests/cloud/parse_task.py", f"cloud/{cloud}.yaml", *settings)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_skypilot_accepts_the_task(cloud: str, tmp_path: Path) -> None:
    task = parsed(tmp_path, cloud, *ENVS, *SECRETS[cloud])
    assert task["cloud"] == cloud.upper()
    assert task["spot"]
    assert task["recovery"]["strategy"] == "EAGER_NEXT_REGION"
    assert task["recovery"].get("max_restarts_on_errors", 0) == 0  # A spent budget is not to be tried again.
    assert (task["down"], task["idle_minutes"]) == (True, 10)
    assert task["accelerators"] is None  # Training is the processor's.
    assert task["envs"]["NEUROFM_REMOTE"] == "s3://lab/neurofm"
    assert float(task["envs"]["NEUROFM_HOURS"]) > 0
    assert (task["mount"], task["bucket"]) == (task["envs"]["NEUROFM_STATE"], "lab-state")
    assert task["mode"] == "MOUNT_CACHED"
    assert task["secrets"] == sorted(secret.split("=")[1] for secret in SECRETS[cloud])
    for script in (task["setup"], task["run"]):
        assert (PROJECT / script.removeprefix("bash ")).is_file()
    assert (PROJECT / task["workdir"]).is_dir()


def test_a_remote_that_is_not_named_is_refused(tmp_path: Path) -> None:
    done = sky(tmp_path, "tests/cloud/parse_task.py", "cloud/aws.yaml", "env=NEUROFM_STATE_BUCKET=lab-state")
    assert done.returncode != 0
    assert "NEUROFM_REMOTE" in done.stderr


def test_the_commands_of_the_page_are_skypilots(tmp_path: Path) -> None:
    """Parsed by its own command line, and not run."""
    code = (
        "import shlex, sys\n"
        "from sky.client.cli.command import cli\n"
        "for line in sys.argv[1:]:\n"
        "    words, command = shlex.split(line)[1:], cli\n"
        "    while hasattr(command, 'get_command'):\n"
        "        command = command.get_command(None, words.pop(0))\n"
        "    command.make_context('sky', words)\n"
    )
    lines = re.findall(r"^(sky .+?)(?: {2,}#.*)?$", PAGE, re.MULTILINE)
    lines += [line.replace(" ...", "") for line in re.findall(r"`(sky [a-z]+ [^`]*cloud/[^`]+)`", PAGE)]
    assert len(lines) >= 4
    done = sky(tmp_path, "-c", code, *lines)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in CLOUD.glob("*.sh")))
def test_scripts_are_sound(script: str) -> None:
    subprocess.run(["bash", "-n", str(CLOUD / script)], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        missing_part("no shellcheck on this machine; to run this test: apt-get install shellcheck")
        return
    done = subprocess.run([shellcheck, str(CLOUD / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_setup_makes_the_environment_of_the_lock(tmp_path: Path) -> None:
    """Its last command is given to make, which says what it would do."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(CLOUD, tmp_path / "cloud")
    done = subprocess.run(
        ["bash", "cloud/setup.sh"],
        cwd=tmp_path,
        env=os.environ | {"MAKEFLAGS": "--dry-run"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install --quiet --compile-bytecode --python .venv/bin/python -r requirements.lock" in done.stdout
