"""What is out of date, told without the data: as `dvc repro --dry --allow-missing`, and what follows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.ci.child import Runners, child_pipeline, write_child
from neurofm.operations.ci.gather import gather
from neurofm.operations.ci.plan import Planned, plan_stages, stage_names
from neurofm.operations.lock import read_lock, write_lock
from tests.gitlab_schema import check_schema
from tests.operations.quick_stages import Repository, make_repository


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project after `dvc repro`, committed; then all data are removed, as in a checkout of CI."""
    made = make_repository(tmp_path_factory.mktemp("ran") / "work")
    for name in ("eeg", "fmri"):
        (made.root / f"{name}.txt").write_text("1\n")
    made("dvc", "repro", "--quiet")
    made("git", "add", "--all")
    made("git", "commit", "--quiet", "--message", "Ran")
    for path in ("data", "score", ".dvc/cache"):
        target = made.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    return made


@pytest.fixture
def checkout(ran: Repository) -> Iterator[Repository]:
    yield ran
    ran("git", "checkout", "--quiet", "--", ".")


def planned(checkout: Repository) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.why for stage in plan_stages(checkout.root)}


def test_with_nothing_changed_nothing_is_planned(checkout: Repository) -> None:
    assert planned(checkout) == {}
    assert stage_names(checkout.root) == frozenset({"shard@eeg", "shard@fmri", "score"})


def test_a_changed_file_is_named_and_what_follows_is_planned(checkout: Repository) -> None:
    (checkout.root / "eeg.txt").write_text("2\n")
    stages = plan_stages(checkout.root)
    assert [(stage.name, stage.why, stage.after) for stage in stages] == [
        ("shard@eeg", ("eeg.txt",), ()),
        ("score", (), ("shard@eeg",)),
    ]
    assert stages[0].persists == ("data/eeg",)
    assert stages[0].in_git == ("metrics/eeg.json",)
    assert stages[1].inputs == ("data/eeg", "data/fmri")


def test_a_command_that_changed_is_seen(checkout: Repository) -> None:
    text = (checkout.root / "dvc.yaml").read_text()
    (checkout.root / "dvc.yaml").write_text(text.replace("tail -qn1", "tail -qn2"))
    assert planned(checkout) == {"score": ("its command",)}


def test_a_stage_that_was_left_out_of_the_lock_runs(checkout: Repository) -> None:
    content = read_lock(checkout.root / "dvc.lock")
    del content["stages"]["shard@fmri"]
    write_lock(checkout.root / "dvc.lock", content)
    assert planned(checkout) == {"shard@fmri": ("no run is in dvc.lock",), "score": ()}


def test_a_lock_whose_last_stage_is_behind_is_seen_without_the_data(checkout: Repository) -> None:
    """Somebody ran and committed one shard only; the folder that the next stage reads is not here."""
    content = read_lock(checkout.root / "dvc.lock")
    content["stages"]["shard@eeg"]["outs"][0] |= {"md5": "0" * 32, "size": 9}
    write_lock(checkout.root / "dvc.lock", content)
    assert planned(checkout) == {"score": ("data (other files)",)}


def test_what_jobs_ran_makes_what_follows_run_although_sizes_are_equal(checkout: Repository) -> None:
    content = read_lock(checkout.root / "dvc.lock")
    content["stages"]["shard@eeg"]["outs"][0]["md5"] = "0" * 32
    job = checkout.root / ".neurofm" / "ci" / "shard@eeg.lock"
    write_lock(job, content)
    merged = gather([job], root=checkout.root)
    assert set(merged.left_out) == {"score"}
    assert gather([job], root=checkout.root).content == merged.content
    assert planned(checkout) == {"score": ("no run is in dvc.lock",)}
    shutil.rmtree(job.parent)


def test_a_broken_dvc_yaml_is_one_line(checkout: Repository) -> None:
    (checkout.root / "dvc.yaml").write_text("stages:\n<<<<<<< HEAD\n")
    with pytest.raises(UserError, match="DVC says: ") as caught:
        plan_stages(checkout.root)
    assert "\n" not in str(caught.value)
    assert stage_names(checkout.root) is None


def stage(name: str, *after: str) -> Planned:
    return Planned(name=name, why=("code",), after=after, inputs=(), makes=(), persists=(), in_git=())


def test_jobs_wait_for_what_they_read_and_go_to_the_runners_that_can() -> None:
    stages = [
        stage("manifest_streamed@b"),
        stage("stream@b", "manifest_streamed@b"),
        stage("manifest@a"),
        stage("download@a", "manifest@a"),
        stage("preprocess@a", "download@a", "manifest@a"),
        stage("derivatives@raw"),
        stage("preprocess_local@c", "derivatives@raw"),
        stage("split", "preprocess@a"),
    ]
    made = child_pipeline(
        sorted(stages, key=lambda s: len(s.after)), report=True, runners=Runners(slurm="hpc", local="lab")
    )
    order = made["stages"]
    assert order.index("manifest") < order.index("download") < order.index("preprocess") < order.index("gather")
    assert order.index("manifest_streamed") < order.index("stream")
    assert order[-3:] == ["gather", "numbers", "commit"]
    assert made["preprocess@a"]["needs"] == ["download@a", "manifest@a"]
    assert made["preprocess@a"]["extends"] == [".reproduce", ".slurm"]
    assert made["preprocess@a"]["tags"] == made["stream@b"]["tags"] == made["derivatives@raw"]["tags"] == ["hpc"]
    assert order.index("derivatives") < order.index("preprocess_local")
    assert "tags" not in made["download@a"]
    assert "split" not in made
    local = child_pipeline(stages, report=True, runners=Runners(local="lab"))
    assert local["preprocess_local@c"]["tags"] == local["derivatives@raw"]["tags"] == ["lab"]
    assert "tags" not in local["preprocess@a"]


def test_what_learns_on_waits_for_the_model_that_it_learns_on_from() -> None:
    after_pretrain = [stage("pretrain"), stage("finetune@x", "pretrain")]
    made = child_pipeline(after_pretrain, report=True, runners=Runners())
    assert "finetune@x" not in made, "`gather` runs it with pretraining"
    assert made["stages"] == ["gather", "numbers", "commit"]
    alone = child_pipeline([stage("finetune@x")], report=True, runners=Runners())
    assert alone["finetune@x"]["needs"] == []


def test_with_nothing_out_of_date_there_is_one_cheap_job() -> None:
    made = child_pipeline([], report=False, runners=Runners())
    assert set(made) == {"include", "workflow", "stages", "nothing-to-do"}
    only_numbers = child_pipeline([], report=True, runners=Runners())
    assert set(only_numbers) == {"include", "workflow", "stages", "numbers"}


def test_its_jobs_are_made_in_merge_requests_too(tmp_path: Path) -> None:
    """GitLab makes jobs without a rule in pipelines of branches only, unless the pipeline has rules."""
    made = child_pipeline([stage("preprocess@a")], report=True, runners=Runners())
    assert made["workflow"] == {"rules": [{"when": "always"}]}
    write_child(tmp_path / "child.yml", made)
    check_schema(tmp_path / "child.yml")
