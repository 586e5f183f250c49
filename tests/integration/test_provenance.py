"""Where things come from, on a built project under git: explanations, and a run as a crate."""

from __future__ import annotations

import errno
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate  # type: ignore[import-untyped]

from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.files import sha256_of, write_json
from neurofm.operations.crate import export_crate, plan_crate
from neurofm.operations.explain import Explanation, explain
from neurofm.operations.provenance.pipeline import State
from neurofm.params import load_params
from tests.crates import judge
from tests.integration.conftest import FirstRun
from tests.integration.test_pipeline import PROJECT, SUBJECTS, Project


@pytest.fixture(scope="module")
def committed(first_run: FirstRun, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the built project, with its folders of data, under git."""
    project = first_run.copy(tmp_path_factory.mktemp("committed") / "lab")
    for name in (".gitignore", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, project.root)
    who = ("-c", "user.name=Jane Doe", "-c", "user.email=jane@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "A run")):
        assert project.run("git", *who, *command).returncode == 0
    assert project.run("git", "config", "user.name", "Jane Doe").returncode == 0
    return project


def told(address: str) -> Explanation:
    """Ask in the current folder, without starting Python anew."""
    return explain(address, root=Path(), params=load_params())


def export(out: Path, *, with_data: bool = False, authors: Sequence[str] = ()) -> None:
    plan = plan_crate(out, root=Path(), params=load_params(), authors=authors, licence="", with_data=with_data)
    export_crate(plan, root=Path())


def test_the_commands_of_the_page_on_provenance_run(committed: Project) -> None:
    page = (PROJECT / "docs" / "provenance.md").read_text()
    shown = re.findall(r"^    (neurofm .+)$", page, re.MULTILINE)
    assert len(shown) == 9
    for command in shown:
        # The sample's dataset is not in this project; one of its own stands for it.
        done = committed.run(*shlex.split(command.replace("gw-rest", "rest")))
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert "not here" not in done.stdout
        assert "changed since" not in done.stdout
    assert len(list(committed.root.glob("neurofm-*.crate.zip"))) == 1


def test_a_score_names_everybody_that_it_rests_on(committed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(committed.root)
    facts = told("metrics/scoreboard.json#rest/masked_reconstruction/R2/neurofm")
    (dataset,) = facts.datasets
    assert dataset.files is not None
    assert dataset.roles is not None
    assert len(dataset.files) == SUBJECTS + 1  # and participants.tsv
    assert all(file.digest.startswith("sha256:") for file in dataset.files)
    scored = [subject for roles in dataset.roles for subject in roles.test]
    assert len(scored) == len(set(scored)) == SUBJECTS, "each is scored once"
    assert not any(set(roles.test) & {*roles.train, *roles.validation} for roles in dataset.roles)
    (other,) = facts.others
    assert any("too short" in one.reason for one in other.left_out)
    stages = [stage.name for stage in facts.before]
    assert stages == ["pretrain", "split", "preprocess_local@rest", "manifest_local@rest"]
    assert facts.made_by[0].commit == facts.head
    assert facts.missing == {}


def test_a_shard_leads_to_its_receipt_and_is_known_by_its_bytes(
    committed: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(committed.root)
    path = min(Path("data/shards/rest").iterdir())
    facts = told(str(path))
    assert facts.standing.state is State.AS_LOCKED
    assert facts.recording is not None
    assert facts.recording.outputs == {path.name: sha256_of(path)}
    assert [step["name"] for step in facts.recording.steps] == ["check", "detrend_high_pass"]
    assert list(facts.recording.inputs.values()) == [file.digest for file in facts.recording.files]
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        assert told(str(path)).standing.state is State.CHANGED
        with pytest.raises(UserError, match=r"Not what dvc\.lock has: data/shards"):
            export(tmp_path / "crate.zip")
    finally:
        path.write_bytes(before)
    raw = min(Path(read_yaml(Path("params.yaml"))["local"]["rest"]["path"]).glob("*.npy"))
    facts = told(str(raw))
    assert facts.raw is not None
    assert facts.raw.file.digest == f"sha256:{sha256_of(raw)}"
    assert len(facts.raw.recordings) == 1


def test_a_crate_holds_what_it_says_and_the_same_run_gives_the_same_bytes(
    committed: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(committed.root)
    one, two, folder = (tmp_path / name for name in ("one.zip", "two.zip", "folder"))
    for out in (one, two, folder):
        export(out, with_data=True)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        files = {entry.filename for entry in archive.infolist() if not entry.is_dir()}
    assert files == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "models/pretrained/fold-0/model.safetensors" in files
    kept = ("data/raw", "data/receipts", "data/shards", "data/manifests")
    assert not any(name.startswith(kept) for name in files), "folders of one's own are not passed on"
    crate = ROCrate(one)
    assert crate.root_dataset["author"]["name"] == "Jane Doe"
    assert crate.mainEntity.id == "dvc.yaml"
    held = [entity for entity in crate.data_entities if "File" in entity.type]
    assert {entity.id for entity in held} == files - {"ro-crate-metadata.json"}
    for entity in held:
        path = folder / entity.id
        assert entity["sha256"] == sha256_of(path)
        assert entity["contentSize"] == str(path.stat().st_size)
    stages = read_yaml(committed.root / "dvc.lock")["stages"]
    (locked,) = [out["md5"] for out in stages["preprocess_local@rest"]["outs"] if out["path"] == "data/shards/rest"]
    assert crate.get("#data/shards/rest")["identifier"] == f"md5:{locked}"
    assert {action["name"] for action in crate.get_by_type("CreateAction")} == {"dvc repro", *stages}


ADVICE = {
    "process-run-crate-0.5_3.2": "a stage's script has no page of its own",
    "process-run-crate-0.5_5.1": "nor an address",
    "process-run-crate-0.5_8.4": "when a stage ended is not the same twice, so nothing writes it down",
    "ro-crate-1.1_22.3": "who publishes a crate is for its publisher to say",
    "ro-crate-1.1_30.2": "an author's affiliation is not known",
    "ro-crate-1.1_30.3": "the same",
    "workflow-ro-crate-1.0_6.1": "a run is told of by its report, not by a README",
    "workflow-ro-crate-1.0_6.2": "the same",
    "workflow-ro-crate-1.0_8.1": "Bioschemas' profile asks for formal parameters, which DVC does not have",
}
"""Recommendations that a crate does not follow, and why."""


def test_a_crate_is_judged_by_its_profiles(committed: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(committed.root)
    crate = tmp_path / "crate"
    export(crate)
    found = judge(crate, profile="workflow-run-crate-0.5", severity="RECOMMENDED")
    assert found.checked > 100
    assert {check for check, _ in found.issues} <= ADVICE.keys(), found.issues
    # The judge is no friend: an action without an instrument, and a file that is not there.
    metadata = crate / "ro-crate-metadata.json"
    content = json.loads(metadata.read_bytes())
    for entity in content["@graph"]:
        if entity["@id"] == "#run/split":
            del entity["instrument"]
    write_json(metadata, content)
    (crate / "params.yaml").unlink()
    said = " ".join(text for _, text in judge(crate, profile="process-run-crate-0.5").issues)
    assert "instrument" in said
    assert "params.yaml" in said


def test_a_crate_is_whole_or_not_there(committed: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(committed.root)
    out = tmp_path / "crate.zip"
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export(out)
    with pytest.raises(UserError, match="is no folder"):
        export(tmp_path / "no" / "crate.zip")
    with pytest.raises(UserError, match="is not a name"):
        export(tmp_path / "new.zip", authors=["<mail@example.org>"])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        export(tmp_path / "new.zip")
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["crate.zip"]
