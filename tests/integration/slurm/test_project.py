"""The project's own stages on a real Slurm: docs/cluster.md word for word, and the same bytes wherever they run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurofm.catalog import read_yaml
from neurofm.sources import read_manifest
from tests.integration.test_pipeline import Project
from tests.servers.slurm import PROJECT, SlurmCluster

PAGE = PROJECT / "docs" / "cluster.md"
DATASETS = ("gw-rest", "tiny-bids-eeg")


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory, sample_raw: Callable[[str], Path]) -> Path:
    """A copy of the project with two of its datasets, downloaded and nothing more."""
    root = tmp_path_factory.mktemp("cluster") / "neurofm"
    for name in ("src", "stages", "data/catalog"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", "params.yaml"):
        shutil.copy(PROJECT / name, root / name)
    project = Project(root)
    assert project.dvc("init", "--no-scm").returncode == 0
    for dataset in DATASETS:
        sample_raw(dataset)
    for package in (PROJECT / ".neurofm" / "packages").iterdir():
        (root / ".neurofm" / "packages").mkdir(parents=True, exist_ok=True)
        shutil.copy(package, root / ".neurofm" / "packages")
    project.set(["streamed"], {})
    datasets = read_yaml(root / "params.yaml")["datasets"]
    project.set(["datasets"], {name: datasets[name] for name in DATASETS})
    assert len(project.repro("download")) == 2 * len(DATASETS)  # manifest and download
    return root


@pytest.fixture
def project(downloaded: Path, tmp_path: Path) -> Project:
    """A copy of that for one test."""
    return Project(shutil.copytree(downloaded, tmp_path / "neurofm"))


def recordings(project: Project, dataset: str) -> int:
    return len(read_manifest(project.root / "data" / "manifests" / f"{dataset}.json").recordings)


def run(project: Project, command: str) -> str:
    done = project.run(*shlex.split(command))
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_is_followed_word_for_word(project: Project, cluster: SlurmCluster) -> None:
    page = PAGE.read_text()
    commands = re.findall(r"^    (\S.+?)(?: +#.*)?$", page.split("```yaml")[0], re.MULTILINE)
    (site,) = re.findall(r"```yaml\n(.+?)```", page, re.DOTALL)
    after = re.findall(r"^    (\S.+?)(?: +#.*)?$", page.split("```")[2], re.MULTILINE)
    count = recordings(project, "gw-rest")

    said = {command: run(project, command) for command in commands}
    assert "main*" in said["sinfo"]
    once = "neurofm run preprocess --dataset gw-rest --executor slurm"
    assert f"gw-rest: {count} recordings preprocessed, 0 whole already" in said[once]
    shards = project.shards()
    assert len(shards) == count
    times = {path: path.stat().st_mtime_ns for path in shards}

    (project.root / "site.yaml").write_text(site)
    said = {command: run(project, command) for command in after}
    by_dvc = said["dvc repro preprocess"]
    assert f"gw-rest: 0 recordings preprocessed, {count} whole already" in by_dvc
    assert f"tiny-bids-eeg: {recordings(project, 'tiny-bids-eeg')} recordings preprocessed" in by_dvc
    assert f"gw-rest: 0 recordings preprocessed, {count} whole already" in said[once.replace("slurm", "local")]
    assert {path: path.stat().st_mtime_ns for path in shards} == times
    (facts,) = json.loads(said["neurofm status gw-rest --json"])
    assert facts["recordings"]["counts"]["succeeded"] == count
    assert list((project.root / ".neurofm" / "receipts" / "tiny-bids-eeg" / "slurm").rglob("*_log.out"))


def test_shards_are_the_same_to_the_byte_wherever_they_are_made(project: Project, cluster: SlurmCluster) -> None:
    made = {}
    for where in ("local", "slurm"):
        for dataset in DATASETS:
            run(project, f"neurofm run preprocess --dataset {dataset} --executor {where}")
        made[where] = project.shards()
        shutil.rmtree(project.root / "data" / "shards")
        shutil.rmtree(project.root / "data" / "receipts")
    (project.root / "site.yaml").write_text("executor: slurm\n")
    assert set(project.repro("preprocess")) == {f"preprocess@{name}" for name in DATASETS}
    made["dvc"] = project.shards()
    assert len(made["local"]) == sum(recordings(project, name) for name in DATASETS)
    assert made["local"] == made["slurm"] == made["dvc"]


def test_a_shard_changed_by_one_byte_is_found_and_built_again(project: Project, cluster: SlurmCluster) -> None:
    """DVC's persisted output would otherwise be recorded as right."""
    (project.root / "site.yaml").write_text("executor: slurm\n")
    project.repro("preprocess@gw-rest")
    before = project.shards()
    victim = sorted(before)[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    assert project.repro("preprocess@gw-rest") == ["preprocess@gw-rest"]
    assert project.shards() == before


def test_what_slurm_would_refuse_is_said_in_one_line(project: Project, cluster: SlurmCluster) -> None:
    (project.root / "site.yaml").write_text("executor: slurm\nslurm: {partition: nowhere}\n")
    for command, begins in (
        ("neurofm preflight", "error: site.yaml: Slurm would not take what `slurm` asks for eeg: "),
        ("neurofm run preprocess --dataset gw-rest", "error: Slurm refuses the jobs: "),
    ):
        done = project.run(*shlex.split(command))
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(begins)]
        assert "invalid partition" in line.lower()
        assert "Mend:" in line
    assert project.shards() == {}


def test_without_slurm_it_is_said_in_one_line(project: Project, tmp_path: Path) -> None:
    binaries = Path(sys.executable).parent
    command = ["neurofm", "run", "preprocess", "--dataset", "gw-rest", "--executor", "slurm"]
    environment = {"PATH": str(binaries), "PYTHONPATH": str(project.root / "src"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: there is no Slurm on this machine")
