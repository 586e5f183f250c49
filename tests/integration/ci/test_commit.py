"""`ci/commit.sh`, where the default branch moved on while the pipeline ran, and where the push is refused."""

from __future__ import annotations

from pathlib import Path

from tests.operations.quick_stages import PROJECT, Repository, make_repository


def commit_to(origin: Path) -> tuple[str, ...]:
    settings = {
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_SHORT_SHA": "0123abcd",
        "NEUROFM_PUSH_URL": origin.as_uri(),
        "NEUROFM_CI_TOKEN": "glpat-of-the-lab",
    }
    return ("env", *(f"{name}={value}" for name, value in settings.items()), str(PROJECT / "ci" / "commit.sh"))


def test_what_ci_made_joins_what_somebody_pushed_meanwhile(tmp_path: Path) -> None:
    people = make_repository(tmp_path / "people")
    (people.root / "eeg.txt").write_text("1\n")
    (people.root / "fmri.txt").write_text("1\n")
    people("dvc", "repro", "--quiet")
    people("git", "add", "--all")
    people("git", "commit", "--quiet", "--message", "Ran")
    people("git", "init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "origin.git"))
    people("git", "push", "--quiet", str(tmp_path / "origin.git"), "main")
    people("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / "ci"))
    ci = Repository(tmp_path / "ci")
    commit = commit_to(tmp_path / "origin.git")
    assert "as committed" in ci(*commit), "there was nothing to commit"

    for repository, name in ((people, "fmri"), (ci, "eeg")):
        (repository.root / f"{name}.txt").write_text("2\n")
        repository("dvc", "repro", "--quiet", f"shard@{name}")
        repository("git", "commit", "--quiet", "--message", name, f"{name}.txt")
    people("git", "commit", "--quiet", "--all", "--message", "Ran fmri")
    people("git", "push", "--quiet", str(tmp_path / "origin.git"), "main")
    said = ci(*commit)
    assert "Pushed to main." in said
    assert "glpat" not in said

    people("git", "pull", "--quiet", str(tmp_path / "origin.git"), "main")
    assert set(people.stages()) == {"shard@eeg", "shard@fmri"}, "nobody ran the score on both"
    log = people("git", "log", "--format=%an: %s").splitlines()
    assert "neurofm CI: Reproduced by CI from 0123abcd [skip ci]" in log
    assert log[0] == "neurofm CI: Merge main", "its pipeline runs what was left out"


def test_a_push_that_is_refused_is_no_race(tmp_path: Path) -> None:
    ci = make_repository(tmp_path / "ci")
    (ci.root / "metrics").mkdir()
    (ci.root / "metrics" / "summary.json").write_text("1\n")
    ci("git", "add", "--all")
    ci("git", "commit", "--quiet", "--message", "Nothing was run")
    ci("git", "clone", "--quiet", "--bare", str(ci.root), str(tmp_path / "origin.git"))
    hook = tmp_path / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho You are not allowed to push code to protected branches. >&2\nexit 1\n")
    hook.chmod(0o755)
    (ci.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    done = ci.run(*commit_to(tmp_path / "origin.git"))
    assert done.returncode == 1
    assert "not allowed to push code to protected branches" in done.stderr
    assert "error: git refuses the push to main" in done.stderr
    assert "faster" not in done.stderr
