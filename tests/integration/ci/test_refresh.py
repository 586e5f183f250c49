"""`ci/refresh.sh`, where an archive is silent, and where a person works on the merge request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.quick_stages import PROJECT, Repository, make_repository

DVC_YAML = """\
stages:
  manifest:
    foreach: [eeg, fmri]
    do:
      cmd: mkdir -p data && cp ../archive/${item} data/${item}
      outs:
        - data/${item}
"""
BRANCH = "neurofm/refresh-manifests"


@pytest.fixture
def ci(tmp_path: Path) -> Repository:
    """The project in a checkout of CI: the archive has news of one dataset, and nothing of the other."""
    made = make_repository(tmp_path / "ci")
    (made.root / "dvc.yaml").write_text(DVC_YAML)
    catalogue = made.root / "data" / "catalog"
    catalogue.mkdir(parents=True)
    (catalogue / "README").write_text("No entries: every fact is wrong.\n")
    (made.root / ".gitignore").write_text("/data/eeg\n/data/fmri\n")
    with (made.root / ".dvc" / "config").open("a") as file:
        file.write(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'store'}\n")
    made("git", "add", "--all")
    made("git", "commit", "--quiet", "--message", "Nothing was run")
    made("git", "clone", "--quiet", "--bare", str(made.root), str(tmp_path / "origin.git"))
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "fmri").write_text("1\n")
    return made


def test_one_silent_archive_keeps_nothing_of_the_others_back_and_nobodys_commit_is_replaced(
    ci: Repository, tmp_path: Path
) -> None:
    settings = {
        "CI_DEFAULT_BRANCH": "main",
        "NEUROFM_PUSH_URL": (tmp_path / "origin.git").as_uri(),
        "NEUROFM_PUSH_OPTIONS": "",
        "NEUROFM_CI_TOKEN": "glpat-of-the-lab",
    }
    refresh = ("env", *(f"{name}={value}" for name, value in settings.items()), str(PROJECT / "ci" / "refresh.sh"))

    def tip() -> str:
        return ci("git", "ls-remote", str(tmp_path / "origin.git"), BRANCH).split()[0]

    done = ci.run(*refresh)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: manifest@eeg failed" in done.stderr
    assert set(ci.stages()) == {"manifest@fmri"}
    first = tip()
    assert ci("git", "show", "--format=%an", "--name-only", first).split("\n\n") == ["neurofm CI", "dvc.lock\n"]

    # Nobody touched it: the branch is replaced.
    (tmp_path / "archive" / "fmri").write_text("2\n")
    ci("git", "reset", "--quiet", "--hard", "HEAD~1")
    (ci.root / "dvc.yaml").write_text(DVC_YAML.replace("eeg, ", ""))
    ci("git", "commit", "--quiet", "--all", "--message", "Without the silent one")
    done = ci.run(*refresh)
    assert "manifest@" not in done.stderr
    second = tip()
    assert second != first

    ci("git", "commit", "--quiet", "--allow-empty", "--message", "A fact corrected")
    ci("git", "push", "--quiet", str(tmp_path / "origin.git"), f"HEAD:{BRANCH}")
    theirs = tip()
    (tmp_path / "archive" / "fmri").write_text("3\n")
    ci("git", "reset", "--quiet", "--hard", "HEAD~2")
    done = ci.run(*refresh)
    assert done.returncode == 1
    assert f"error: {BRANCH} has commits of ada@lab.example, which stay." in done.stderr
    assert tip() == theirs
