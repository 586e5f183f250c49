"""What a job of CI does for a stage: in turn, and with what a failed job had finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.ci.gather import HANDED_OVER
from neurofm.operations.ci.reproduce import UNFINISHED, reproduce_rest, reproduce_stage
from neurofm.operations.lock import read_lock
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
    for path in ("data", "score", "metrics", ".dvc/cache"):
        shutil.rmtree(checkout.root / path, ignore_errors=True)
    (checkout.root / "dvc.lock").unlink(missing_ok=True)


def test_jobs_run_a_stage_each_and_the_last_one_the_rest(checkout: Repository) -> None:
    for name in ("shard@eeg", "shard@fmri"):
        start_anew(checkout)
        assert reproduce_stage(name, root=checkout.root)
        assert set(read_lock(checkout.root / "dvc.lock")["stages"]) >= {name}
    assert sorted(path.name for path in (checkout.root / HANDED_OVER).glob("*.lock")) == [
        "shard@eeg.lock",
        "shard@fmri.lock",
    ]
    start_anew(checkout)
    assert not reproduce_stage("shard@eeg", root=checkout.root), "it came with what was handed over"
    start_anew(checkout)
    assert reproduce_rest(root=checkout.root) == ["score"]
    assert (checkout.root / "score").read_text() == "eeg\nfmri\n"
    assert (checkout.root / "metrics" / "eeg.json").read_text() == "1\n"
    assert set(read_lock(checkout.root / "dvc.lock")["stages"]) == {"shard@eeg", "shard@fmri", "score"}
    assert reproduce_rest(root=checkout.root) == []


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
