"""`ci/commit.sh`, where the default branch moved on while the pipeline ran."""

from __future__ import annotations

from pathlib import Path

from tests.operations.quick_stages import PROJECT, Repository, make_repository


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
    settings = {
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_SHORT_SHA": "0123abcd",
        "NEUROFM_PUSH_URL": (tmp_path / "origin.git").as_uri(),
        "NEUROFM_CI_TOKEN": "glpat-of-the-lab",
    }
    commit = ("env", *(f"{name}={value}" for name, value in settings.items()), str(PROJECT / "ci" / "commit.sh"))
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
