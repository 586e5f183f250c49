"""dvc.lock merged stage by stage: what is taken, what is left out, and real merges of git with real stages of DVC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.operations.lock import Lock, merge_locks, overlay_runs, parse_lock, read_lock, write_lock
from tests.operations.quick_stages import PROJECT, Repository, make_repository


def entry(out: str, made: str, **deps: str) -> dict[str, Any]:
    """An entry of a lock: one output and its digest, and digests by dependency."""
    return {
        "cmd": f"make {out}",
        "deps": [{"path": path.replace("__", "/"), "md5": digest} for path, digest in deps.items()],
        "outs": [{"path": out, "md5": made}],
    }


def lock(**stages: dict[str, Any]) -> Lock:
    return {"schema": "2.0", "stages": {name.replace("__", "@"): body for name, body in stages.items()}}


BASE = lock(
    shard__a=entry("data/a", "a1", code="c1"),
    shard__b=entry("data/b", "b1", code="c1"),
    split=entry("split.json", "s1", data="d1"),
)


def with_changes(base: Lock, changes: Mapping[str, dict[str, Any] | None]) -> Lock:
    stages = {**base["stages"], **{name: body for name, body in changes.items() if body is not None}}
    return base | {"stages": {name: body for name, body in stages.items() if changes.get(name, 1) is not None}}


def test_what_one_side_changed_is_taken_from_there() -> None:
    ours = with_changes(BASE, {"shard@a": entry("data/a", "a1", code="c2")})
    theirs = with_changes(BASE, {"shard@b": entry("data/b", "b1", code="c2"), "new": entry("new", "n1")})
    merged = merge_locks([ours, theirs], base=BASE)
    assert merged.left_out == {}
    assert merged.content["stages"]["shard@a"] == ours["stages"]["shard@a"]
    assert merged.content["stages"]["shard@b"] == theirs["stages"]["shard@b"]
    assert list(merged.content["stages"]) == ["shard@a", "shard@b", "split", "new"]


def test_what_both_changed_to_the_same_stays() -> None:
    side = with_changes(BASE, {"shard@a": entry("data/a", "a1", code="c2")})
    assert merge_locks([side, side], base=BASE).content == side


def test_what_both_changed_differently_is_left_out_and_said() -> None:
    ours = with_changes(BASE, {"shard@a": entry("data/a", "a2")})
    theirs = with_changes(BASE, {"shard@a": entry("data/a", "a3")})
    merged = merge_locks([ours, theirs], base=BASE)
    assert "shard@a" not in merged.content["stages"]
    assert merged.left_out["shard@a"] == "both sides changed it"
    assert any(line.startswith("shard@a: left out") for line in merged.lines())


def test_a_stage_that_ran_on_one_sides_inputs_only_is_left_out() -> None:
    """Each side ran the split on its own shards; nobody ran it on both."""
    ours = with_changes(BASE, {"shard@a": entry("data/a", "a2"), "split": entry("split.json", "s2", data="d2")})
    theirs = with_changes(BASE, {"shard@b": entry("data/b", "b2")})
    merged = merge_locks([ours, theirs], base=BASE)
    assert set(merged.content["stages"]) == {"shard@a", "shard@b"}
    assert "no longer what it ran on" in merged.left_out["split"]


def test_a_removed_stage_stays_removed_unless_the_other_side_ran_it() -> None:
    ours = with_changes(BASE, {"shard@b": None, "split": entry("split.json", "s2", data="d2")})
    assert merge_locks([ours, BASE], base=BASE).content == ours
    theirs = with_changes(BASE, {"shard@b": entry("data/b", "b2")})
    assert "another removed it" in merge_locks([ours, theirs], base=BASE).left_out["shard@b"]


def test_stages_that_dvc_yaml_does_not_have_are_dropped() -> None:
    merged = merge_locks([BASE, BASE], base=BASE, known=frozenset({"shard@a", "split"}))
    assert merged.dropped == ("shard@b",)
    assert "shard@b" not in merged.content["stages"]


CHAIN = lock(
    manifest__a=entry("manifest/a", "m1", code="c1"),
    download__a=entry("raw/a", "r1", manifest__a="m1"),
    shard__a=entry("data/a", "a1", raw__a="r1", manifest__a="m1"),
    split=entry("split.json", "s1", data="d1"),
)


def test_of_a_chain_of_jobs_each_keeps_what_it_ran() -> None:
    """The job of a manifest left out what reads it, which the jobs after it ran on the new one."""
    manifest = with_changes(CHAIN, {"manifest@a": entry("manifest/a", "m2", code="c2")})
    merged = overlay_runs(CHAIN, {"manifest@a": manifest}, base=CHAIN)
    assert set(merged.left_out) == {"download@a", "shard@a"}
    download = with_changes(merged.content, {"download@a": entry("raw/a", "r2", manifest__a="m2")})
    runs = {"manifest@a": manifest, "download@a": download}
    merged = overlay_runs(CHAIN, runs, base=CHAIN)
    assert set(merged.left_out) == {"shard@a"}
    runs["shard@a"] = with_changes(merged.content, {"shard@a": entry("data/a", "a2", raw__a="r2", manifest__a="m2")})
    merged = overlay_runs(CHAIN, runs, base=CHAIN)
    assert {name: merged.content["stages"][name] for name in runs} == {
        name: run["stages"][name] for name, run in runs.items()
    }
    assert list(merged.content["stages"]) == ["manifest@a", "download@a", "shard@a"]
    assert set(merged.left_out) == {"split"}
    assert overlay_runs(merged.content, runs, base=CHAIN).content == merged.content


def test_what_ran_here_since_stays_before_what_a_job_ran() -> None:
    here = with_changes(CHAIN, {"manifest@a": entry("manifest/a", "m3", code="c3")})
    job = with_changes(CHAIN, {"manifest@a": entry("manifest/a", "m2", code="c2")})
    merged = overlay_runs(here, {"manifest@a": job}, base=CHAIN, known=frozenset({"manifest@a", "split"}))
    assert merged.content["stages"]["manifest@a"] == here["stages"]["manifest@a"]
    assert merged.dropped == ("download@a", "shard@a")


def test_the_projects_lock_is_written_as_dvc_writes_it(tmp_path: Path) -> None:
    content = read_lock(PROJECT / "dvc.lock")
    write_lock(tmp_path / "dvc.lock", merge_locks([content, content], base=content).content)
    assert (tmp_path / "dvc.lock").read_bytes() == (PROJECT / "dvc.lock").read_bytes()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a: {}\n=======\n  b: {}\n>>>>>>> other\n", "conflict markers"),
        ("schema: '1.0'\nstages: {}\n", "no lock file of DVC 3"),
        ("- 1\n", "no lock file of DVC 3"),
        ("a: [\n", "not readable as YAML"),
    ],
)
def test_what_is_no_lock_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        parse_lock(text, where="dvc.lock")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def branches(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Two branches that both ran stages: `fmri` changed one input, `main` both."""
    made = make_repository(tmp_path_factory.mktemp("branches") / "work")
    for branch, texts in (("main", {"eeg": 1, "fmri": 1}), ("fmri", {"fmri": 2}), ("main", {"eeg": 3, "fmri": 3})):
        if branch != "main" or texts["eeg"] == 3:
            made("git", "checkout", "--quiet", *(["-b"] if branch != "main" else []), branch)
        for name, number in texts.items():
            (made.root / f"{name}.txt").write_text(f"{number}\n")
        made("dvc", "repro", "--quiet")
        made("git", "add", "--all")
        made("git", "commit", "--quiet", "--message", f"{branch}: {texts}")
    # The inputs themselves are settled by hand; this test is about what was made of them.
    made("git", "checkout", "--quiet", "fmri")
    (made.root / "fmri.txt").write_text("3\n")
    made("git", "commit", "--quiet", "--all", "--message", "Settled")
    return made


@pytest.fixture
def clone(branches: Repository, tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "clone")
    branches("git", "clone", "--quiet", "--branch", "main", ".", str(made.root))
    for key, value in (("user.name", "Ben"), ("user.email", "ben@lab.example")):
        made("git", "config", key, value)
    return made


def finished(repository: Repository) -> None:
    """The merge is committed, nothing of it is in conflict, and `dvc repro` runs what was left out, once."""
    assert set(repository.stages()) == {"shard@eeg"}
    assert "<<<<" not in (repository.root / "dvc.lock").read_text()
    assert repository("git", "status", "--porcelain", "--untracked-files=no") == ""
    assert repository("git", "log", "-1", "--format=%P").count(" ") == 1
    said = repository("dvc", "repro")
    assert "Running stage 'shard@fmri'" in said
    assert "Running stage 'score'" in said
    assert (repository.root / "metrics" / "fmri.json").read_text() == "3\n"
    assert set(repository.stages()) == {"shard@eeg", "shard@fmri", "score"}
    assert "Running" not in repository("dvc", "repro")


def test_git_merges_two_branches_by_the_driver(clone: Repository) -> None:
    clone("neurofm", "lock", "driver")
    said = clone("git", "merge", "--no-edit", "origin/fmri")
    assert "shard@fmri: left out, so that the next dvc repro runs it: both sides changed it" in said
    assert "score: left out" in said
    finished(clone)


def test_a_clone_without_the_driver_gets_a_conflict_and_one_command_mends_it(clone: Repository) -> None:
    stopped = clone.run("git", "merge", "--no-edit", "origin/fmri")
    assert stopped.returncode != 0
    assert "CONFLICT (content): Merge conflict in dvc.lock" in stopped.stdout
    refused = clone.run("neurofm", "lock", "merge", "dvc.lock", "dvc.lock")
    assert refused.returncode == 2
    assert "holds git's conflict markers" in refused.stderr
    for command in commands_of_the_page():
        clone("bash", "-c", command)
    finished(clone)


def commands_of_the_page() -> list[str]:
    """What docs/ci.md says to type where git stopped."""
    section = (PROJECT / "docs" / "ci.md").read_text().split("<!-- merge:begin -->")[1].split("<!-- merge:end -->")[0]
    return [line[4:].split("  #")[0] for line in section.splitlines() if line.startswith("    ")]


def test_without_a_merge_there_is_nothing_to_take_from_git(clone: Repository) -> None:
    done = clone.run("neurofm", "lock", "merge")
    assert done.returncode == 2
    assert "git knows of no conflict in it" in done.stderr
