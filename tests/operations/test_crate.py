"""What a crate carries, what it only names, and what it says of containers and remotes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.operations.crate import CratePlan, _author, export_crate, plan_crate
from neurofm.operations.crates.contents import inputs_of, results_of
from neurofm.operations.crates.record import RunRecord
from neurofm.operations.provenance.commits import Commit
from neurofm.operations.provenance.dataset import DatasetFacts, container_of
from neurofm.operations.provenance.pipeline import Artefact, LockedStage, Pipeline, State
from neurofm.params import load_params
from neurofm.recording import UnitStatus
from neurofm.units.receipt import Cost, Receipt

PROJECT = Path(__file__).resolve().parents[2]
IMAGE = "registry.example.org/lab/neurofm@sha256:" + "c" * 64


def dataset(name: str, *, archive: str = "openneuro", redistribute: bool = True) -> DatasetFacts:
    return DatasetFacts(
        id=name,
        title=name,
        modality="eeg",
        archive=archive,
        source="OpenNeuro ds000001",
        source_id="ds000001",
        version="1.0.0",
        licence="CC0-1.0",
        licence_url="",
        redistribute=redistribute,
        citation="Doe 2020",
        doi="10.1000/x",
        chosen={},
        files=(),
        recordings=(),
        statuses={},
        hosts=("secret-host",),
        containers=(IMAGE,),
        left_out=(),
        roles=(),
    )


def artefact(path: str, *, folder: bool = False) -> Artefact:
    return Artefact(path=path, digest=f"md5:{'d' * 32}{'.dir' if folder else ''}", size=1, files=1 if folder else None)


def stage(name: str) -> LockedStage:
    outs = (
        artefact(f"data/raw/{name}", folder=True),
        artefact(f"data/manifests/{name}.json"),
        artefact(f"data/shards/{name}", folder=True),
        artefact(f"data/receipts/{name}.jsonl"),
        artefact(f"metrics/quality/{name}.json"),
    )
    return LockedStage(name=f"preprocess@{name}", command="python", deps=(), outs=outs, params={}, in_git=frozenset())


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    """Three datasets: one that may be passed on, one that may not, one in a folder of one's own."""
    datasets = (dataset("open"), dataset("closed", redistribute=False), dataset("own", archive="local"))
    stages = tuple(stage(one.id) for one in datasets)
    outs = [out for one in stages for out in one.outs]
    for out in outs:
        path = tmp_path / out.path / "a b.zip" if out.files else tmp_path / out.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(out.path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return RunRecord(
        name="neurofm",
        licence="Apache-2.0",
        commit=Commit(sha="a" * 40, date="2026-01-02T03:04:05+00:00", author="Jane Doe", subject="A run"),
        uncommitted=(),
        address="https://example.org/lab/neurofm.git",
        remote="s3://bucket/neurofm",
        stages=stages,
        datasets=datasets,
        packages=(("dvc", "3.67.1"),),
        states={out.path: State.AS_LOCKED for out in outs},
        listings={out.path: {"a b.zip": f"md5:{'e' * 32}"} for out in outs if out.files},
    )


def packed(run: RunRecord, *, with_data: bool) -> set[str]:
    return {path for result in results_of(run, with_data=with_data) for path in result.packed}


def written(run: RunRecord, root: Path, out: Path) -> dict[str, Any]:
    """Export with the data and return the entities by their names."""
    plan = CratePlan(
        out=out,
        run=run,
        inputs=tuple(inputs_of(run, root=root)),
        results=tuple(results_of(run, with_data=True)),
        size=0,
        authors=(("Jane Doe", ""),),
        licence="CC-BY-4.0",
    )
    export_crate(plan, root=root)
    content = json.loads((out / "ro-crate-metadata.json").read_bytes())
    return {entity["@id"]: entity for entity in content["@graph"]}


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("Jane Doe", ("Jane Doe", "")),
        (
            "Jane Doe https://orcid.org/0000-0002-1825-0097",
            ("Jane Doe", "https://orcid.org/0000-0002-1825-0097"),
        ),
    ],
)
def test_an_author_has_a_name_and_may_have_an_orcid(text: str, author: tuple[str, str]) -> None:
    assert _author(text) == author


def test_the_image_of_a_receipt_is_named_by_its_digest(run: RunRecord, tmp_path: Path) -> None:
    cost = Cost(seconds=1.0, cpu_s=1.0, peak_mb=1.0, host="node", container=f"sha256:{'c' * 64}")
    receipt = Receipt(unit="one", key="k", status=UnitStatus.SUCCEEDED, cost=cost)
    assert container_of(receipt.model_copy(update={"cost": None})) == ""
    facts = replace(run.datasets[0], containers=(container_of(receipt),))
    entities = written(replace(run, datasets=(facts, *run.datasets[1:])), tmp_path, tmp_path / "crate")
    (image,) = [one for one in entities.values() if one.get("sha256") == "c" * 64 and one["name"] == "neurofm"]
    assert image["@type"] == "ContainerImage"


def test_only_what_may_be_passed_on_is_carried(run: RunRecord) -> None:
    numbers = {f"metrics/quality/{name}.json" for name in ("open", "closed", "own")}
    assert packed(run, with_data=False) == numbers
    assert packed(run, with_data=True) == numbers | {"data/manifests/open.json", "data/shards/open/a b.zip"}


def test_what_is_not_here_whole_is_named_only(run: RunRecord) -> None:
    missing = replace(run, states={**run.states, "data/shards/open": State.PARTIAL})
    assert "data/shards/open/a b.zip" not in packed(missing, with_data=True)
    unlisted = replace(run, listings={})
    assert "data/shards/open/a b.zip" not in packed(unlisted, with_data=True)


def test_a_result_that_is_not_carried_has_its_digest_and_its_address(run: RunRecord, tmp_path: Path) -> None:
    entities = written(run, tmp_path, tmp_path / "crate")
    closed = entities["#data/shards/closed"]
    assert closed["identifier"] == f"md5:{'d' * 32}.dir"
    assert closed["contentUrl"] == f"s3://bucket/neurofm/files/md5/dd/{'d' * 30}.dir"
    assert "terms forbid" in closed["description"]
    assert entities["data/shards/open/"]["hasPart"] == {"@id": "data/shards/open/a%20b.zip"}
    assert entities["data/shards/open/a%20b.zip"]["md5"] == "e" * 32


def test_containers_are_named_by_their_digest_and_hosts_are_not(run: RunRecord, tmp_path: Path) -> None:
    entities = written(run, tmp_path, tmp_path / "crate")
    action = entities["#run/preprocess%40open"]
    image = entities[action["containerImage"]["@id"]]
    assert (image["@type"], image["name"]) == ("ContainerImage", "registry.example.org/lab/neurofm")
    assert image["sha256"] == "c" * 64
    assert "secret-host" not in json.dumps(entities)


def test_a_dataset_has_version_licence_paper_and_page(run: RunRecord, tmp_path: Path) -> None:
    entities = written(run, tmp_path, tmp_path / "crate")
    found = entities["#dataset/open"]
    assert found["version"] == "1.0.0"
    assert found["license"] == {"@id": "https://spdx.org/licenses/CC0-1.0"}
    assert entities[found["citation"]["@id"]]["name"] == "Doe 2020"
    assert found["url"] == "https://openneuro.org/datasets/ds000001/versions/1.0.0"
    assert "conditionsOfAccess" not in found
    assert entities["#dataset/closed"]["conditionsOfAccess"] == "Raw files may not be passed on."
    top = entities["./"]
    assert (top["datePublished"], top["version"]) == ("2026-01-02T03:04:05+00:00", "a" * 40)
    assert top["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/path/", "s3://bucket/path"),
        ("https://jane:hunter2@example.org:8080/x?token=hunter2", "https://example.org:8080/x"),
        ("/mnt/cache", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_remote_opens_no_door(tmp_path: Path, url: str, said: str) -> None:
    dvc = str(Path(sys.executable).with_name("dvc"))
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    subprocess.run([dvc, "init", "--quiet", "--no-scm"], cwd=tmp_path, check=True, env=environment)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    if url:
        with (tmp_path / ".dvc" / "config").open("a") as config:
            config.write(f"    remote = far\n['remote \"far\"']\n    url = {url}\n")
    assert Pipeline.read(tmp_path).remote == said


def test_a_run_that_is_not_finished_is_no_crate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    shutil.copytree(PROJECT / "data" / "catalog", tmp_path / "data" / "catalog")
    dvc = str(Path(sys.executable).with_name("dvc"))
    subprocess.run(
        [dvc, "init", "-q", "--no-scm"], cwd=tmp_path, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"}
    )
    monkeypatch.chdir(tmp_path)

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            plan_crate(None, root=Path(), params=load_params(), authors=["Jane Doe"], licence="", with_data=False)
        return str(caught.value)

    assert "no commit here" in refused()
    who = ("-c", "user.name=Jane Doe", "-c", "user.email=jane@example.org")
    for command in (("init", "-q"), ("add", "dvc.yaml"), (*who, "commit", "-q", "-m", "First")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert "this run is not finished" in refused()
