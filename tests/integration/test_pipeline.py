"""The whole pipeline under DVC, on a lab's own folders of real recordings: what runs again, and what does not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from neurofm.catalog import read_yaml
from neurofm.evaluation.row import Row
from neurofm.files import sha256_of
from tests.browser import open_page

if TYPE_CHECKING:
    from tests.integration.conftest import FirstRun

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


def aal_series(source: Path) -> list[Path]:
    """Series of every subject's AAL regions in a folder of the shared recordings."""
    return sorted((source / "timeseries").glob("*AAL_timeseries.npy"))


@pytest.fixture(scope="module")
def built(first_run: FirstRun, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after its first ``dvc repro``."""
    assert {"manifest_local@rest", "preprocess_local@rest", "preprocess_local@eeg"} <= set(first_run.stages)
    order = [stage for stage in first_run.stages if "@" not in stage]
    assert sorted(order) == ["connectivity", "evaluate", "pretrain", "report", "slice", "split"]
    assert order[0] == "split"
    assert order.index("pretrain") < order.index("evaluate") < order.index("report")
    return first_run.copy(tmp_path_factory.mktemp("built") / "lab")


def test_a_first_run_scores_real_subjects_and_reports_them(built: Project) -> None:
    rows = [
        Row.parse(row, where="scoreboard", mend="-") for row in read_yaml(built.root / "metrics" / "scoreboard.json")
    ]
    models = {row.model for row in rows if row.dataset == "rest"}
    assert {"null", "ppca", "gaussian", "ridge", "neurofm"} <= models
    scores = {row.task: row for row in rows if row.model == "neurofm" and row.metric == "R2"}
    assert set(scores) == {"masked_reconstruction", "hidden_patches", "hidden_block"}
    ours = scores["masked_reconstruction"]
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
    by_tests_of_their_pages = {
        "neurofm run preprocess --dataset gw-rest --executor slurm",
        "neurofm run preprocess --dataset gw-rest --container",
        "neurofm remote use s3://our-lab/neurofm",
        "neurofm push",
        "neurofm pull",
        "neurofm certify",
        "neurofm explain metrics/summary.json#gw-rest.masked_reconstruction.R2.neurofm",
        "neurofm crate export",
        "neurofm doctor",
    }
    assert by_tests_of_their_pages <= shown
    rest = shown - by_ci - by_this_module - by_tests_of_their_pages
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


@pytest.mark.long
def test_a_seed_reruns_what_it_is_for(built: Project) -> None:
    seed = read_yaml(built.root / "params.yaml")["pretrain"]["seed"]
    built.set(["pretrain", "seed"], seed + 1)
    assert set(built.repro()) == {"pretrain", "evaluate", "slice", "report"}


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
    # Copies of the project read the lab's folder where it lies, so other modules must find it as it was.
    labdata = Path(read_yaml(built.root / "params.yaml")["local"]["rest"]["path"])
    added = Path(shutil.copy(aal_series(source)[SUBJECTS], labdata))
    try:
        ran = built.repro("split")
    finally:
        added.unlink()
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
    page = open_page(built.root / "reports" / "report.html", width_px=width_px, folder=tmp_path)
    assert page.scroll_width <= width_px, "the page itself must not scroll sideways"
    assert page.figures > 0
    assert page.foreign == 0, "the page must open offline"
