"""`cloud/train.sh` on machines that are taken away: a real S3 server, a bucket mounted as SkyPilot mounts it."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from neurofm.catalog import read_yaml
from tests.integration.test_pipeline import Project
from tests.servers.fixtures import missing_part, s3_fixture
from tests.servers.seaweed import SeaweedServer

__all__ = ["s3_fixture"]

pytestmark = pytest.mark.long
PROJECT = Path(__file__).resolve().parents[2]
STATE = "lab-state"
STEPS = 240
MOUNT = (
    *("--vfs-cache-mode", "full"),
    *("--dir-cache-time", "10s"),
    *("--vfs-cache-poll-interval", "10s"),
    "--vfs-fast-fingerprint",
    *("--vfs-write-back", "1s"),
)
"""As sky/data/mounting_utils.py (0.14.1) has it for MOUNT_CACHED."""


def run(folder: Path, *command: str) -> str:
    binaries = str(Path(sys.executable).parent)
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, sample_raw: Any, s3: SeaweedServer) -> Iterator[Path]:
    """A project whose shards and splits are on its remote, and whose lock is committed; nothing is trained yet."""
    root = tmp_path_factory.mktemp("home") / "neurofm"
    for name in ("src", "stages", "data/catalog", "cloud"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml", "requirements.lock"):
        shutil.copy(PROJECT / name, root / name)
    project = Project(root)
    project.set(["streamed"], {})
    project.set(["datasets"], {"gw-rest": read_yaml(root / "params.yaml")["datasets"]["gw-rest"]})
    project.set(["split", "folds"], 1)
    for key, value in (
        ("steps", STEPS),
        ("validate_every_steps", 60),
        ("batch_windows", 48),
        ("validation_windows", 2),
        ("patience", 1000),
    ):
        project.set(["pretrain", key], value)
    project.set(["pretrain", "core", "smoothing_samples"], [0.0, 2.0])
    sample_raw("gw-rest")
    shutil.copytree(PROJECT / ".neurofm" / "packages", root / ".neurofm" / "packages")
    for bucket in ("lab", STATE):
        s3.make_bucket(bucket, versioned=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, text in s3.environment.items():
            patch.setenv(name, text)
        run(root, "git", "init", "--quiet", ".")
        run(root, "dvc", "init", "--quiet")
        run(root, "dvc", "remote", "add", "--default", "lab", "s3://lab/neurofm")
        assert project.repro("split")[-1] == "split"
        run(root, "dvc", "push", "--quiet", "preprocess", "split")
        run(root, "git", "add", "--all")
        run(root, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "As is")
        yield root


@contextmanager
def machine(folder: Path, home: Path, s3: SeaweedServer) -> Iterator[tuple[Path, Path]]:
    """A fresh machine: a copy of what git has (without .git, as SkyPilot uploads it), and the state bucket mounted."""
    programs = [shutil.which(name) for name in ("rclone", "fusermount3")]
    if None in programs or not os.access("/dev/fuse", os.W_OK):
        missing_part("no rclone, fuse3 or /dev/fuse on this machine; to run this test: apt-get install rclone fuse3")
    run(folder.parent, "git", "clone", "--quiet", f"file://{home}", str(folder))
    shutil.rmtree(folder / ".git")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    state = folder.with_name(f"{folder.name}-state")
    state.mkdir()
    config = folder.with_name(f"{folder.name}.conf")
    config.write_text(f"[s3]\ntype = s3\nprovider = Other\nendpoint = {s3.url}\nenv_auth = true\n")
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    cached = folder.with_name(f"{folder.name}-cache")
    mounting = subprocess.Popen(
        ["rclone", "--config", str(config), "mount", f"s3:{STATE}", str(state), *MOUNT, "--cache-dir", str(cached)],
        env=environment | s3.environment,
    )
    try:
        until = time.monotonic() + 30
        while not os.path.ismount(state):
            assert time.monotonic() < until, "rclone did not mount the bucket"
            time.sleep(0.1)
        yield folder, state
    finally:
        # Taken away: what was not uploaded yet is lost.
        mounting.kill()
        mounting.wait()
        subprocess.run(["fusermount3", "-u", "-z", str(state)], check=False)
        shutil.rmtree(cached, ignore_errors=True)


def train(folder: Path, state: Path, s3: SeaweedServer, log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Start what the task files start."""
    command = read_yaml(PROJECT / "cloud" / "aws.yaml")["run"].split()
    told = {"NEUROFM_REMOTE": "s3://lab/neurofm", "NEUROFM_STATE": str(state), "PYTHONPATH": str(folder / "src")}
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | s3.environment | told | settings,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def states(s3: SeaweedServer) -> list[int]:
    """Return the steps of all training states that ever reached the bucket, in their order."""
    steps = []
    for version in _stored(s3):
        answer = s3._client.get_object(Bucket=STATE, Key=version["Key"], VersionId=version["VersionId"])
        steps.append(torch.load(io.BytesIO(answer["Body"].read()), weights_only=True)["step"])
    return steps


def _stored(s3: SeaweedServer) -> list[dict[str, Any]]:
    versions = s3._client.list_object_versions(Bucket=STATE, Prefix="runs/").get("Versions", [])
    found = [version for version in versions if version["Key"].endswith("/last.pt")]
    return sorted(found, key=lambda version: version["LastModified"])


def test_a_machine_that_is_taken_away_costs_what_came_after_its_last_validation(
    home: Path, s3: SeaweedServer, tmp_path: Path
) -> None:
    with machine(tmp_path / "first", home, s3) as (folder, state):
        running = train(folder, state, s3, tmp_path / "first.log")
        until = time.monotonic() + 400
        while not _stored(s3):
            assert running.poll() is None, (tmp_path / "first.log").read_text()[-3000:]
            assert time.monotonic() < until, (tmp_path / "first.log").read_text()[-3000:]
            time.sleep(0.5)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    before = states(s3)
    assert 0 < before[-1] < STEPS

    with machine(tmp_path / "second", home, s3) as (folder, state):
        spent = next(state.glob("spent-*"))
        running = train(folder, state, s3, tmp_path / "second.log")
        assert running.wait(600) == 0, (tmp_path / "second.log").read_text()[-3000:]
        until = time.monotonic() + 60
        while not _has(s3, "handback/dvc.lock"):  # What is written goes to the bucket a few seconds later.
            assert time.monotonic() < until
            time.sleep(0.5)
        assert int(spent.read_text()) > 0
        # What is spent is spent: the same training is not tried beyond its budget.
        shutil.copy(home / "dvc.lock", folder / "dvc.lock")
        again = train(folder, state, s3, tmp_path / "third.log", NEUROFM_HOURS="0.0001")
        assert again.wait(60) == 75
        assert "The budget is spent" in (tmp_path / "third.log").read_text()
    log = (tmp_path / "second.log").read_text()
    assert "data/raw" not in log  # Raw files were not pulled.
    steps = states(s3)
    assert steps == sorted(set(steps))  # None was made twice: the second machine went on from the first's last.
    assert steps[-1] == STEPS

    # At home, by the page.
    page = (PROJECT / "docs" / "cloud.md").read_text()
    afterwards = page[page.index("## Afterwards") :]
    commands = re.findall(r"^    (\S.+)$", afterwards, re.MULTILINE)
    assert commands[-1] == "dvc repro"
    for command in commands[:-2]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            run(home, *command.replace("BUCKET-state", STATE).split())
    assert (home / "models" / "pretrained" / "fold-0" / "model.safetensors").is_file()
    assert "didn't change" in run(home, "dvc", "repro", "--single-item", "pretrain")


def _has(s3: SeaweedServer, key: str) -> bool:
    with suppress(Exception):
        s3._client.head_object(Bucket=STATE, Key=key)
        return True
    return False
