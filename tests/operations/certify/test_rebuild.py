"""Rebuild: raw files that are not kept are fetched again where that can be, and else it is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from neurofm.catalog import load_entry
from neurofm.fetch import package_path
from neurofm.files import sha256_of
from neurofm.ingest.recording import ingest
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.operations.certify.rebuild import Rebuild
from neurofm.params import Site, load_params
from neurofm.recording import Modality
from neurofm.slices.result import SliceRecording
from neurofm.sources import build_manifest, write_manifest
from neurofm.stream import stream_dataset
from neurofm.units.local import LocalExecutor
from neurofm.units.processor import processor_id
from tests.conftest import PROJECT

DATASET = "hcp-rest"


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory, sample_raw: Callable[[str], Path]) -> Path:
    """A project after it has streamed one subject of a dataset whose raw files it may not keep."""
    tmp_path = tmp_path_factory.mktemp("streamed")
    sample_raw(DATASET)  # Brings the package.
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "catalog").symlink_to(PROJECT / "data" / "catalog")
    yaml = YAML()
    content = yaml.load(PROJECT / "params.yaml")
    content["datasets"] = {}
    content["streamed"][DATASET]["max_subjects"] = 1
    yaml.dump(content, tmp_path / "params.yaml")
    params, site = load_params(tmp_path), Site(workers=1)
    entry = load_entry(DATASET, root=tmp_path)
    package = package_path(entry.source, work=tmp_path / ".neurofm")  # type: ignore[arg-type]  # of a registry
    package.parent.mkdir(parents=True)
    shutil.copy(PROJECT / ".neurofm" / "packages" / package.name, package)
    manifest = build_manifest(entry, root=tmp_path, max_subjects=1)
    write_manifest(manifest, tmp_path / "data" / "manifests" / f"{DATASET}.json")
    stream_dataset(
        entry,
        manifest,
        shards=tmp_path / "data" / "shards" / DATASET,
        receipts=tmp_path / "data" / "receipts" / f"{DATASET}.jsonl",
        work=tmp_path / ".neurofm",
        settings=params.preprocess.fmri,
        common=params.preprocess.common,
        executor=LocalExecutor(ingest, workers=1),
        budget_bytes=10**9,
        site=site.fetch,
    )
    return tmp_path


@pytest.fixture
def rebuild(streamed: Path, tmp_path: Path) -> Rebuild:
    """What is to build a copy of that again."""
    root = Path(shutil.copytree(streamed, tmp_path / "project", symlinks=True))
    work = root / ".neurofm" / "certify"
    work.mkdir()
    return Rebuild(root=root, work=work, params=load_params(root), site=Site(workers=1), exact=True)


def built(rebuild: Rebuild, *, name: str = "", sha256: str = "") -> dict[Part, Finding]:
    shard = rebuild.root / "data" / "shards" / DATASET / name
    if not name:
        (shard,) = shard.iterdir()
    one = SliceRecording(
        modality=Modality.FMRI,
        dataset=DATASET,
        recording=shard.name.removesuffix(".zarr.zip"),
        seconds=300.0,
        samples=1,
        of_samples=1,
        shard_sha256=sha256 or sha256_of(shard),
        slice_sha256="",
    )
    return {finding.part: finding for finding in rebuild._dataset(DATASET, [one])}


def test_what_is_not_kept_is_fetched_again_or_said(rebuild: Rebuild, monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(rebuild)
    assert {part: one.status for part, one in found.items()} == {
        Part.MANIFEST: Status.EQUAL,
        Part.SHARD: Status.EQUAL,
    }
    assert not list((rebuild.work / ".neurofm" / "stream").rglob("*.mat")), "raw files are here only meanwhile"

    shutil.rmtree(rebuild.work)
    rebuild.work.mkdir()
    shutil.rmtree(rebuild.root / ".neurofm" / "packages")
    monkeypatch.setitem(os.environ, "NEUROFM_OFFLINE", "1")
    found = built(rebuild)
    assert found[Part.MANIFEST].status is Status.EQUAL
    assert found[Part.SHARD].status is Status.NOT_REBUILT
    assert "is not here, and this run is offline" in found[Part.SHARD].detail
    (kept,) = (rebuild.root / "data" / "shards" / DATASET).iterdir()
    stand_in = rebuild.work / "data" / "shards" / DATASET / kept.name
    assert stand_in.read_bytes() == kept.read_bytes(), "what follows is compared all the same"


def test_only_a_shard_of_this_kind_of_processor_must_be_equal_to_the_bit(
    rebuild: Rebuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slice may have been made on another machine of a cluster than its shards."""
    asked: list[bool] = []

    def judge(*paths: Path, exact: bool, **_: str) -> Finding:
        asked.append(exact)
        return Finding(part=Part.SHARD, item=str(paths[0]), status=Status.EQUAL)

    monkeypatch.setattr("neurofm.operations.certify.rebuild.judge_shard", judge)
    path = rebuild.root / "data" / "receipts" / f"{DATASET}.jsonl"
    assert processor_id() in path.read_text()
    built(rebuild)
    path.write_text(path.read_text().replace(processor_id(), "0123456789ab"))
    built(rebuild)
    assert asked == [True, False]


def test_with_neither_shard_nor_raw_files_it_says_so(rebuild: Rebuild, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(rebuild.root / ".neurofm" / "packages")
    monkeypatch.setitem(os.environ, "NEUROFM_OFFLINE", "1")
    (kept,) = (rebuild.root / "data" / "shards" / DATASET).iterdir()
    digest = sha256_of(kept)
    kept.unlink()
    found = built(rebuild, name=kept.name, sha256=digest)[Part.SHARD]
    assert found.status is Status.DIFFERS
    assert found.detail == "neither it nor its raw files are here"


def test_a_changed_setting_gives_another_shard(rebuild: Rebuild) -> None:
    preprocess = rebuild.params.preprocess
    slower = preprocess.fmri.model_copy(update={"highpass_hz": 0.02})
    params = rebuild.params.model_copy(update={"preprocess": preprocess.model_copy(update={"fmri": slower})})
    found = built(replace(rebuild, params=params, exact=False))[Part.SHARD]
    assert found.status is Status.DIFFERS
    assert "attribute pipeline differs" in found.detail
