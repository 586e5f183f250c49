"""What a certificate may not overlook: changes in no commit, another checkout's code, inputs that are not here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.certify.certificate import read_certificate
from neurofm.operations.certify.certify import certify
from neurofm.operations.certify.finding import Part, Status
from neurofm.operations.certify.hashes import compare_inputs
from neurofm.operations.certify.outputs import Outputs
from neurofm.operations.certify.surroundings import this_checkout
from neurofm.params import Site, load_params
from tests.conftest import PROJECT

DVC = str(Path(sys.executable).with_name("dvc"))


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Jane Doe", "-c", "user.email=jane@example.org")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "dvc.lock").write_text("stages: {}\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "All of it")
    return root


def test_what_git_does_not_know_is_a_change_whatever_a_user_has_configured(repository: Path) -> None:
    assert this_checkout(repository).is_clean
    git(repository, "config", "status.showUntrackedFiles", "no")
    (repository / "mine.py").write_text("")
    checkout = this_checkout(repository)
    assert checkout.uncommitted == ("mine.py",)
    assert not checkout.is_clean


def test_a_repository_that_git_cannot_read_is_no_clean_one(repository: Path) -> None:
    (repository / ".git" / "index").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"git cannot say what of .* is committed"):
        this_checkout(repository)


def test_the_code_of_another_checkout_certifies_nothing(repository: Path) -> None:
    with pytest.raises(UserError, match=r"says nothing of the code in .*/project/src/neurofm\. Mend: .*make env"):
        certify(load_params(PROJECT), site=Site(workers=1), root=repository)
    assert not (repository / "reports").exists()


def test_a_certificate_that_is_none_is_refused_in_one_line(repository: Path) -> None:
    path = repository / "certificate.json"
    with pytest.raises(UserError, match="not readable: Is a directory"):
        read_certificate(repository)
    path.write_text(json.dumps({"schema": "neurofm-certificate/1"}))
    with pytest.raises(UserError, match="statement"):
        read_certificate(path)
    (repository / "dvc.lock").unlink()
    with pytest.raises(UserError, match=r"has no dvc\.lock"):
        this_checkout(repository)


def test_raw_files_that_are_not_here_are_not_changed_inputs(tmp_path: Path) -> None:
    """A second clone needs none of them: what cannot be compared is said, and is no difference."""
    root = tmp_path / "project"
    (root / "data" / "raw" / "x").mkdir(parents=True)
    (root / "data" / "raw" / "x" / "one").write_text("1")
    (root / "src").mkdir()
    (root / "src" / "code.py").write_text("")
    (root / "dvc.yaml").write_text(
        "stages:\n  preprocess:\n    cmd: cp data/raw/x/one shard\n"
        "    deps: [data/raw/x, src/code.py]\n    outs: [shard]\n"
    )
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    for command in (("init", "--no-scm", "--quiet"), ("repro", "--quiet")):
        subprocess.run([DVC, *command], cwd=root, check=True, env=environment)

    def found() -> list[tuple[Status, str]]:
        findings = list(compare_inputs(Outputs.read(root)))
        assert {one.part for one in findings} == {Part.CODE}
        return [(one.status, one.detail) for one in findings]

    assert [status for status, _ in found()] == [Status.EQUAL]
    shutil.rmtree(root / "data" / "raw" / "x")
    assert found() == [(Status.NOT_REBUILT, "not here, so not compared: data/raw/x")]
    (root / "src" / "code.py").unlink()
    assert (Status.DIFFERS, "it last ran with other inputs: src/code.py (deleted)") in found()
