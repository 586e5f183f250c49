"""What a job of CI does for a stage: in turn, and with what a failed job had finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.ci.gather import gather, handed_over
from neurofm.operations.ci.reproduce import ASIDE, UNFINISHED, reproduce_rest, reproduce_stage
from tests.operations.quick_stages import Repository, make_repository

APPENDS = (
    "mkdir -p data metrics && echo ${item} >> data/${item} && cp ${item}.txt metrics/${item}.json && test ! -e broken"
)
"""A stage that goes on with what its persistent output holds, and fails after its work where it is told to."""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    made = make_repository(tmp_path / "work")
    text = (made.root / "dvc.yaml").read_text()
    before = next(line for line in text.splitlines() if "cmd: mkdir" in line)
    (made.root / "dvc.yaml").write_text(text.replace(before, f"      cmd: {APPENDS}"))
    (made.root / ".gitignore").write_text("/data\n/score\n/.neurofm\n/broken\n")
    for name in ("eeg", "fmri"):
        (made.root / f"{name}.txt").write_text("1\n")
    with (made.root / ".dvc" / "config").open("a") as file:
        file.write(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'store'}\n")
    made("git", "add", "--all")
    made("git", "commit", "--quiet", "--message", "Nothing was run")
    return made


def start_anew(checkout: Repository) -> None:
    """As a runner does: a fresh checkout, and what the cache and earlier jobs left."""
    for path in ("data", "metrics", ".dvc/cache"):
        shutil.rmtree(checkout.root / path, ignore_errors=True)
    for path in ("score", "dvc.lock"):
        (checkout.root / path).unlink(missing_ok=True)
    checkout("git", "checkout", "--quiet", "--", ".")


def test_what_a_failed_job_finished_is_there_for_the_next(checkout: Repository) -> None:
    (checkout.root / "broken").touch()
    with pytest.raises(UserError, match=r"`dvc repro --single-item shard@eeg` ended with") as caught:
        reproduce_stage("shard@eeg", root=checkout.root)
    assert "\n" not in str(caught.value)
    assert (checkout.root / UNFINISHED / "data" / "eeg").read_text() == "eeg\n"
    start_anew(checkout)
    (checkout.root / "broken").unlink()
    assert reproduce_stage("shard@eeg", root=checkout.root)
    assert (checkout.root / "data" / "eeg").read_text() == "eeg\neeg\n", "it went on with what was there"
    assert not (checkout.root / UNFINISHED / "data").exists(), "nothing is unfinished"


CHAIN = """\
stages:
  manifest:
    foreach: [eeg]
    do:
      cmd: mkdir -p data/manifests && cp ${item}.txt data/manifests/${item}
      deps: [ '${item}.txt' ]
      outs: [ 'data/manifests/${item}' ]
  download:
    foreach: [eeg]
    do:
      cmd: mkdir -p data/raw && cp data/manifests/${item} data/raw/${item}
      deps: [ 'data/manifests/${item}' ]
      outs: [ 'data/raw/${item}' ]
  shard:
    foreach: [eeg]
    do:
      cmd: >-
        mkdir -p data/shards/${item} metrics && cp data/raw/${item} data/shards/${item}/$(cat data/raw/${item})
        && cp data/raw/${item} metrics/${item}.json
      deps: [ 'data/manifests/${item}', 'data/raw/${item}' ]
      outs: [ 'data/shards/${item}': {persist: true} ]
      metrics: [ 'metrics/${item}.json': {cache: false} ]
  score:
    cmd: ls data/shards/eeg > score
    deps: [ data/shards ]
    outs: [ score ]
"""
"""Each recording that a stage finds becomes one more shard."""


def test_a_chain_of_jobs_goes_on_from_the_old_outputs_and_nothing_runs_twice(checkout: Repository) -> None:
    root = checkout.root
    (root / "dvc.yaml").write_text(CHAIN)
    checkout("dvc", "repro", "--quiet")
    checkout("dvc", "push", "--quiet")
    checkout("git", "add", "--all")
    checkout("git", "commit", "--quiet", "--message", "Ran")
    earlier = root / ".neurofm" / "ci" / checkout("git", "rev-parse", "HEAD").strip() / "manifest@eeg.lock"
    earlier.parent.mkdir(parents=True)
    shutil.copy(root / "dvc.lock", earlier)
    assert handed_over(root) == [earlier]
    (root / "eeg.txt").write_text("2\n")
    checkout("git", "commit", "--quiet", "--all", "--message", "A recording came")
    assert handed_over(root) == [], "a job of an earlier commit is no news in a checkout that stays"

    for name in ("manifest@eeg", "download@eeg"):
        start_anew(checkout)
        assert reproduce_stage(name, root=root)
    start_anew(checkout)
    # Two jobs that were cancelled in a checkout that stays: one in its stage, and one before that in its pull.
    for folder, name in ((root, "unfinished"), (root / ASIDE, "older")):
        (folder / "data" / "shards" / "eeg").mkdir(parents=True)
        (folder / "data" / "shards" / "eeg" / name).write_text("3\n")
    assert reproduce_stage("shard@eeg", root=root)
    assert sorted(path.name for path in (root / "data" / "shards" / "eeg").iterdir()) == [
        "1",
        "2",
        "older",
        "unfinished",
    ]
    assert not (root / ASIDE).exists()
    assert [path.name for path in handed_over(root)] == ["download@eeg.lock", "manifest@eeg.lock", "shard@eeg.lock"]

    start_anew(checkout)
    assert not reproduce_stage("shard@eeg", root=root), "it came with what was handed over"
    start_anew(checkout)
    assert reproduce_rest(root=root) == ["score"]
    assert (root / "score").read_text() == "1\n2\nolder\nunfinished\n"
    assert (root / "metrics" / "eeg.json").read_text() == "2\n"
    assert set(checkout.stages()) == {"manifest@eeg", "download@eeg", "shard@eeg", "score"}
    assert reproduce_rest(root=root) == []
    assert not (root.parent / "store" / "runs").exists(), "nobody pulls DVC's run-cache"


def test_a_stage_that_is_not_there_is_no_success(checkout: Repository) -> None:
    with pytest.raises(UserError, match=r"dvc\.yaml has no stage 'shard@typo'"):
        reproduce_stage("shard@typo", root=checkout.root)


def test_a_file_that_no_job_handed_over_is_refused(checkout: Repository) -> None:
    (checkout.root / "other.lock").write_text("schema: '2.0'\nstages: {}\n")
    for name, says in (("other.lock", "has no stage 'other'"), ("none.lock", "no such file")):
        with pytest.raises(UserError, match=says):
            gather([checkout.root / name], root=checkout.root)


def test_a_remote_that_is_believed_unseen_is_refused_before_anything_comes(checkout: Repository) -> None:
    checkout("dvc", "remote", "add", "--default", "s3", "s3://lab/dvc")
    with pytest.raises(UserError, match="`dvc pull` believes whatever comes") as caught:
        reproduce_stage("shard@eeg", root=checkout.root)
    assert caught.value.mend == "dvc remote modify s3 verify true"
    assert not (checkout.root / "data").exists()
