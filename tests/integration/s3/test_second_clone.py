"""A second clone with the address and a key only: the same bytes, no stage runs, no raw file that may not be there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.integration.s3.conftest import BUCKET, Clone, key_of
from tests.servers.fixtures import PROJECT
from tests.servers.seaweed import SeaweedServer

KEPT, STREAMED = "tiny-bids-eeg", "hcp-rest"


def write_params(root: Path, **groups: dict[str, Any]) -> None:
    yaml = YAML()
    content = yaml.load(root / "params.yaml")
    for group, datasets in groups.items():
        content[group] = datasets
    yaml.dump(content, root / "params.yaml")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, sample_raw: Any, server: SeaweedServer) -> Clone:
    """The project with one dataset that is kept and one that may only be streamed, run, and pushed by plain DVC."""
    root = tmp_path_factory.mktemp("first") / "neurofm"
    for name in ("src", "stages", "data/catalog"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml"):
        shutil.copy(PROJECT / name, root / name)
    eeg = {"modality": "eeg", "reader": "bids"}
    fmri = {"modality": "fmri", "reader": "tables", "max_subjects": 2}
    write_params(root, datasets={KEPT: eeg}, streamed={STREAMED: fmri})
    for dataset in (KEPT, STREAMED):
        sample_raw(dataset)
    shutil.copytree(PROJECT / ".neurofm" / "packages", root / ".neurofm" / "packages")
    project = Clone(root, key_of(server))
    project.do("git", "init", "--quiet", "--initial-branch=main")
    project.do("dvc", "init", "--quiet")
    project.do("neurofm", "remote", "use", f"s3://{BUCKET}/second", "--endpoint", server.url)
    assert f"stream@{STREAMED}" in project.repro("split")
    project.commit()
    project.do("dvc", "push")
    return project


def test_a_second_clone_has_the_same_bytes_and_runs_nothing(pushed: Clone) -> None:
    other = pushed.clone()
    assert not (other.root / ".dvc" / "config.local").exists()
    assert not list((other.root / "data").rglob("*.zarr.zip"))
    other.do("dvc", "pull", "--with-deps", "split")
    made = {path: content for path, content in pushed.files().items() if not path.startswith("catalog/")}
    got = {path: content for path, content in other.files().items() if not path.startswith("catalog/")}
    assert got == made
    assert [path for path in got if path.endswith(".zarr.zip")]
    assert other.repro("split") == []
    assert not (other.root / ".neurofm").exists(), "nothing was fetched from an archive"


def test_no_raw_file_of_a_streamed_dataset_is_on_the_remote(
    pushed: Clone, server: SeaweedServer, sample_raw: Any
) -> None:
    stored = server.objects(BUCKET, "second")
    digests = {hashlib.sha256(body).hexdigest() for body in stored.values()}
    raw = {dataset: _digests(sample_raw(dataset)) for dataset in (KEPT, STREAMED)}
    named = json.loads((pushed.root / "data" / "manifests" / f"{STREAMED}.json").read_text())["files"]
    assert {file["digest"].removeprefix("sha256:") for file in named} <= raw[STREAMED]
    assert not raw[STREAMED] & digests
    assert raw[KEPT] <= digests, "that of the other dataset is"
    assert not [body for body in stored.values() if _holds(body, sample_raw(STREAMED))], "nor inside another object"


def test_one_stage_and_one_dataset(pushed: Clone) -> None:
    other = pushed.clone()
    said = other.do("neurofm", "pull", "--stage", "stream", "--dataset", STREAMED)
    assert "4 files" in said or "3 files" in said
    shards = {path.parent.name for path in (other.root / "data" / "shards").rglob("*.zip")}
    assert shards == {STREAMED}
    # As docs/remote.md has it for those who work on models alone; what this clone lacks is looked for on the remote.
    other.do("neurofm", "pull", "--stage", "preprocess")
    assert other.repro("--allow-missing", "split") == []
    assert not (other.root / "data" / "raw").exists()
    assert other.do("neurofm", "push").startswith("Nothing to push: ")
    line = other.complaint("neurofm", "pull", "--dataset", "nobody")
    assert "dvc.lock has no outputs of nobody" in line
    assert KEPT in line


def test_terms_that_turn_out_to_forbid_it(pushed: Clone, tmp_path: Path) -> None:
    """The entry is corrected after the files came: they lie in the cache, and plain `dvc push` would send them."""
    project = Clone(Path(shutil.copytree(pushed.root, tmp_path / "neurofm")), pushed.env)
    entry = project.root / "data" / "catalog" / f"{KEPT}.yaml"
    text = entry.read_text()
    assert "redistribute: true" in text
    entry.write_text(text.replace("redistribute: true", "redistribute: false"))
    for command in (["push"], ["remote", "check"], ["preflight"]):
        line = project.complaint("neurofm", *command)
        assert f"{KEPT}" in line
        assert "`streamed`" in line
    write_params(project.root, datasets={}, streamed={KEPT: {"modality": "eeg", "reader": "bids"}})
    project.do("neurofm", "push")
    project.do("neurofm", "remote", "check")


def test_a_folder_of_ones_own_stays_where_it_is(pushed: Clone, tmp_path: Path, shared_data: Path) -> None:
    """Its raw files go to no remote; a clone that does not have the folder says so to `dvc repro`."""
    project = Clone(Path(shutil.copytree(pushed.root, tmp_path / "here" / "neurofm")), pushed.env)
    series = tmp_path / "here" / "labdata" / "rest"
    series.mkdir(parents=True)
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    shutil.copy(source / "participants.tsv", series)
    for path in sorted((source / "timeseries").glob("*AAL_timeseries.npy"))[:3]:
        shutil.copy(path, series)
    shutil.copytree(PROJECT / "data" / "profiles", project.root / "data" / "profiles")
    project.do(
        *("neurofm", "dataset", "add", "../labdata/rest", "--licence", "unpublished", "--citation", "Doe lab"),
        *("--tr-s", "2.0"),
    )
    assert "preprocess_local@rest" in project.repro("split")
    project.commit()
    project.do("neurofm", "push")

    other = Clone(tmp_path / "there" / "neurofm", pushed.env)
    other.root.parent.mkdir()
    project.do("git", "clone", "--quiet", project.root.as_uri(), str(other.root))
    other.do("neurofm", "pull", "--stage", "preprocess")
    assert {path.parent.name for path in (other.root / "data" / "shards").rglob("*.zip")} == {KEPT, "rest"}
    other.do("neurofm", "pull")
    series.rename(series.with_name("on another machine"))
    refused = other.run("dvc", "repro", "split")
    assert refused.returncode != 0
    assert "labdata" in refused.stderr
    assert other.repro("--allow-missing", "split") == []


def _digests(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def _holds(body: bytes, raw: Path) -> bool:
    """Whether an object has a raw file's middle in it (a zip of raw files would, uncompressed)."""
    for path in raw.rglob("*"):
        if path.is_file() and len(content := path.read_bytes()) > 4096:
            middle = len(content) // 2
            if content[middle : middle + 64] in body:
                return True
    return False
