"""The whole pipeline under DVC, on a lab's own folders of real recordings: what runs again, and what does not."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate  # type: ignore[import-untyped]
from ruamel.yaml import YAML

from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.evaluation.scoreboard import Row
from neurofm.files import sha256_of, write_json
from neurofm.operations.crate import export_crate, plan_crate
from neurofm.operations.dataset import add_dataset
from neurofm.operations.explain import Explanation, explain
from neurofm.operations.provenance.pipeline import State
from neurofm.params import load_params
from tests.crates import judge

PROJECT = Path(__file__).resolve().parents[2]
SUBJECTS = 6


@dataclass(frozen=True)
class Project:
    """A copy of the project with datasets of its own."""

    root: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would who has activated the environment."""
        binaries = str(Path(sys.executable).parent)
        environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "DVC_NO_ANALYTICS": "1",
        }
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", *arguments)

    def repro(self, *arguments: str) -> list[str]:
        """Run ``dvc repro`` and return the stages that ran (or would, with ``--dry``), in order."""
        done = self.dvc("repro", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.findall(r"Running stage '([^']+)'", done.stdout)

    def set(self, keys: Sequence[str], value: Any) -> None:
        path = self.root / "params.yaml"
        yaml = YAML()
        content = yaml.load(path)
        section = content
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = value
        yaml.dump(content, path)

    def shards(self) -> dict[Path, str]:
        return {path: sha256_of(path) for path in sorted((self.root / "data" / "shards").rglob("*.zip"))}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, sample_raw: Any) -> Project:
    root = tmp_path_factory.mktemp("lab") / "neurofm"
    for name in ("src", "stages"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "data" / "profiles", root / "data" / "profiles")
    for name in ("dvc.yaml", ".dvcignore", "params.yaml"):
        shutil.copy(PROJECT / name, root / name)
    project = Project(root)
    assert project.dvc("init", "--no-scm").returncode == 0
    project.set(["datasets"], {})
    project.set(["streamed"], {})
    project.set(["pretrain", "steps"], 6)
    project.set(["pretrain", "validate_every_steps"], 3)
    project.set(["pretrain", "validation_windows"], 2)
    project.set(["pretrain", "core", "smoothing_samples"], [0.0, 2.0])
    project.set(["evaluate", "smoothing_samples"], [0.0, 2.0])
    project.set(["evaluate", "bootstrap_samples"], 100)

    # Parcel series of real subjects, copied (a test adds one more later), added as the README says.
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    series = root.parent / "labdata" / "rest"
    series.mkdir(parents=True)
    shutil.copy(source / "participants.tsv", series)
    for path in _aal(source)[:SUBJECTS]:
        shutil.copy(path, series)
    (command,) = re.findall(r"^    (neurofm dataset add .+)$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    done = project.run(*shlex.split(command))
    assert done.returncode == 0, done.stderr
    assert f"{SUBJECTS} recordings" in done.stdout
    eeg = sample_raw("tiny-bids-eeg")
    shutil.copytree(eeg, root.parent / "labdata" / "eeg")
    add_dataset(root.parent / "labdata" / "eeg", root=root, licence="BSD-3-Clause", citation="MNE-BIDS developers")
    return project


def _aal(source: Path) -> list[Path]:
    return sorted((source / "timeseries").glob("*AAL_timeseries.npy"))


@pytest.fixture(scope="module")
def built(project: Project) -> Project:
    """The project after its first ``dvc repro``."""
    ran = project.repro()
    assert ran[-4:] == ["split", "pretrain", "evaluate", "report"]
    assert {"manifest_local@rest", "preprocess_local@rest", "preprocess_local@eeg"} <= set(ran)
    return project


def test_a_first_run_scores_real_subjects_and_reports_them(built: Project) -> None:
    rows = [
        Row.parse(row, where="scoreboard", mend="-") for row in read_yaml(built.root / "metrics" / "scoreboard.json")
    ]
    models = {row.model for row in rows if row.dataset == "rest"}
    assert {"null", "ppca", "gaussian", "ridge", "neurofm"} <= models
    ours = next(row for row in rows if row.model == "neurofm" and row.metric == "R2")
    assert ours.value > ours.null
    assert ours.n == SUBJECTS
    assert ours.ci_unit == "subject"
    assert not any(row.dataset == "eeg" for row in rows), "a recording of 1 s is too short to be scored"
    report = (built.root / "reports" / "report.html").read_text()
    assert "too short" in report


def test_nothing_changed_runs_nothing(built: Project) -> None:
    assert built.repro() == []


def test_the_commands_of_the_readme_run(built: Project) -> None:
    shown = set(
        re.findall(r"^    ((?:neurofm|dvc|make) .+?)(?: +#.*)?$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    )
    by_ci = {"make repro", "make test"}
    by_this_module = {command for command in shown if command.startswith("neurofm dataset add")} | {"dvc repro"}
    by_the_tests_of_slurm = {"neurofm run preprocess --dataset gw-rest --executor slurm"}
    rest = shown - by_ci - by_this_module - by_the_tests_of_slurm
    assert rest == {
        "neurofm catalog list",
        "neurofm catalog show hbn-r1",
        "neurofm profile list",
        "neurofm preflight",
        "neurofm retry gw-rest",
        "neurofm run preprocess --dataset gw-rest",
        "neurofm status",
        "dvc repro pretrain",
    }
    for command in sorted(rest):
        # The sample's dataset is not in this project; one of its own stands for it.
        done = built.run(*shlex.split(command.replace("gw-rest", "rest").replace("hbn-r1", "rest")))
        assert done.returncode == 0, done.stdout + done.stderr
        if command.startswith("neurofm run"):
            assert f"0 recordings preprocessed, {SUBJECTS} whole already" in done.stdout


@pytest.fixture(scope="module")
def committed(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the built project, with its folders of data, under git."""
    lab = tmp_path_factory.mktemp("committed") / "lab"
    shutil.copytree(built.root.parent, lab)
    project = Project(lab / "neurofm")
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


def test_a_seed_reruns_what_it_is_for(built: Project) -> None:
    seed = read_yaml(built.root / "params.yaml")["pretrain"]["seed"]
    built.set(["pretrain", "seed"], seed + 1)
    assert built.repro() == ["pretrain", "evaluate", "report"]


def test_a_setting_of_one_modality_reruns_that_modality_and_what_follows(built: Project) -> None:
    before = built.shards()
    built.set(["preprocess", "eeg", "highpass_hz"], 2.0)
    assert built.repro("split") == ["preprocess_local@eeg", "split"]
    changed = {path.parent.name for path, digest in built.shards().items() if before[path] != digest}
    assert changed == {"eeg"}


def test_code_of_one_modality_reruns_that_modality(built: Project) -> None:
    path = built.root / "src" / "neurofm" / "preprocess" / "eeg.py"
    path.write_text(path.read_text() + "\n# A comment reruns the stage, which finds that no shard can have changed.\n")
    before = {shard: shard.stat().st_mtime_ns for shard in built.shards()}
    assert built.repro("split") == ["preprocess_local@eeg"]
    assert {shard: shard.stat().st_mtime_ns for shard in built.shards()} == before
    path.write_text(path.read_text().replace("1e6", "2e6", 1))
    assert built.repro("split") == ["preprocess_local@eeg", "split"]
    changed = [shard for shard in before if shard.stat().st_mtime_ns != before[shard]]
    assert [shard.parent.name for shard in changed] == ["eeg"]


@pytest.mark.parametrize("damage", ["deleted", "one byte"])
def test_a_damaged_shard_alone_is_rebuilt_to_the_same_bytes(built: Project, damage: str) -> None:
    before = built.shards()
    times = {path: path.stat().st_mtime_ns for path in before}
    victim = sorted(path for path in before if path.parent.name == "rest")[2]
    if damage == "deleted":
        victim.unlink()
    else:
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(bytes(content))
    # The bytes come out the same, so nothing after it runs.
    assert built.repro("split") == ["preprocess_local@rest"]
    assert built.shards() == before
    assert [path for path in before if path.stat().st_mtime_ns != times[path]] == [victim]


def test_a_new_file_in_the_folder_is_noticed(built: Project, shared_data: Path) -> None:
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    before = built.shards()
    shutil.copy(_aal(source)[SUBJECTS], built.root.parent / "labdata" / "rest")
    ran = built.repro("split")
    assert ran == ["manifest_local@rest", "preprocess_local@rest", "split"]
    after = built.shards()
    assert len(after) == len(before) + 1
    assert {path: digest for path, digest in after.items() if path in before} == before


def test_a_wrong_setting_stops_every_stage_before_it_starts(built: Project) -> None:
    built.set(["pretrain", "stepps"], 3)
    done = built.dvc("repro", "-s", "split", "-f")
    assert done.returncode != 0
    assert "`pretrain.stepps`: unknown key" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("width_px", [1300, 400])
def test_the_report_fits_a_real_browser(built: Project, width_px: int, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium; .ci/run installs it")
        pytest.skip("chromium is not installed; Debian's package is called chromium")
    (tmp_path / "probe.html").write_text(f"""<iframe style="width:{width_px}px;height:900px;border:0"
        src="file://{built.root}/reports/report.html" onload="const page = this.contentDocument;
        document.title = [page.documentElement.scrollWidth, page.querySelectorAll('svg').length,
        page.querySelectorAll('[src^=http], link[href^=http], script').length].join(' ')"></iframe>""")
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--allow-file-access-from-files"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
            f"file://{tmp_path}/probe.html",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found, done.stdout[:500]
    scroll_width, figures, foreign = map(int, found.groups())
    assert scroll_width <= width_px, "the page itself must not scroll sideways"
    assert figures > 0
    assert foreign == 0, "the page must open offline"
