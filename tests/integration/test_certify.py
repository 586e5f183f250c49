"""`neurofm certify` in a real project under git and DVC, in its second clone, and with everything that can be wrong."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.operations.certify.certificate import Certificate, read_certificate, why_it_does_not_fit
from neurofm.operations.certify.finding import Finding, Part, Status, Verdict
from tests.browser import open_page
from tests.integration.conftest import FirstRun
from tests.integration.test_pipeline import PROJECT, Project

PAGE = PROJECT / "docs" / "certificate.md"
SERIES = 5
"""Subjects of a slice: `split.min_subjects`."""


@dataclass(frozen=True)
class Checkout(Project):
    """A project that is a git repository."""

    def git(self, *arguments: str) -> str:
        done = self.run("git", "-c", "user.name=lab", "-c", "user.email=lab@example.org", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def certificate(self) -> Certificate:
        return Certificate.model_validate_json((self.root / "reports" / "certificate.json").read_bytes())

    def findings(self, *, unequal: bool = True) -> list[Finding]:
        found = self.certificate().statement.findings
        return [one for one in found if one.status is not Status.EQUAL] if unequal else list(found)


@pytest.fixture(scope="module")
def original(first_run: FirstRun, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The lab's project, committed, and pushed to a folder."""
    folder = tmp_path_factory.mktemp("certify")
    checkout = Checkout(first_run.copy(folder / "lab").root)
    (checkout.root / ".dvc" / "config").write_text("")
    (checkout.root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    checkout.git("init", "-q", "-b", "main")
    assert checkout.dvc("remote", "add", "-d", "lab", str(folder / "remote")).returncode == 0
    checkout.git("add", ".")
    checkout.git("commit", "-qm", "First run")
    pushed = checkout.dvc("push")
    assert pushed.returncode == 0, pushed.stderr
    return checkout


@pytest.fixture(scope="module")
def certified(original: Checkout) -> Checkout:
    done = original.run("neurofm", "certify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: certified\n" in done.stdout
    return original


@pytest.fixture
def copy(certified: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(certified.root.parent, tmp_path / "lab", symlinks=True)
    return Checkout(tmp_path / "lab" / "neurofm")


def test_a_run_is_built_again_to_the_same_bytes(certified: Checkout) -> None:
    certificate = certified.certificate()
    statement = certificate.statement
    assert statement.verdict is Verdict.CERTIFIED
    assert statement.machine_differences == ()
    assert statement.checkout.commit == certified.git("rev-parse", "HEAD").strip()
    by_part = {part: [one.item for one in statement.findings if one.part is part] for part in Part}
    assert sorted(by_part[Part.MANIFEST]) == ["eeg", "rest"]
    assert len(by_part[Part.SHARD]) == 1 + SERIES
    assert len(by_part[Part.CUT]) == 1 + SERIES
    assert by_part[Part.SPLIT] == ["splits.json"]
    assert "fold-0/model.safetensors" in by_part[Part.MODEL]
    assert {"rest masked_reconstruction R2 neurofm", "rest masked_reconstruction R2 null"} <= set(by_part[Part.SCORE])
    assert {"data/shards/rest", "models/pretrained", "metrics/slice.json"} <= set(by_part[Part.ARTEFACTS])
    assert not (certified.root / ".neurofm" / "certify").exists()
    assert certified.git("status", "--porcelain") == ""
    assert certificate.run.host.cores >= 1


def test_the_page_fits_a_real_browser(certified: Checkout, tmp_path: Path) -> None:
    for width_px in (1300, 400):
        folder = tmp_path / str(width_px)
        folder.mkdir()
        page = open_page(certified.root / "reports" / "certificate.html", width_px=width_px, folder=folder)
        assert page.scroll_width <= width_px
        assert page.foreign == 0


@pytest.mark.long
def test_a_second_clone_follows_the_page_word_for_word(certified: Checkout, tmp_path: Path) -> None:
    """With nothing but the commit, the remote and the lab's folder it certifies the same."""
    clone = Checkout(tmp_path / "neurofm")
    commands = re.findall(r"^    ((?:git|neurofm|dvc) .+?)(?: +#.*)?$", PAGE.read_text(), re.MULTILINE)
    assert [command.split()[:2] for command in commands] == [
        ["git", "clone"],
        ["neurofm", "certify"],
        ["neurofm", "certify"],
    ]
    git, certify, check = commands
    url = shlex.split(git)[2]
    done = Project(tmp_path).run(*shlex.split(git.replace(url, certified.root.as_uri())))
    assert done.returncode == 0, done.stderr
    assert not (clone.root / "data" / "shards").exists()

    done = clone.run(*shlex.split(certify))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"dvc pull: \d+ of \d+ outputs are not here, [\d.]+ MB", done.stderr)
    ours, theirs = clone.certificate(), certified.certificate()
    assert ours.identity == theirs.identity
    assert ours.statement == theirs.statement
    assert ours.sha256 != theirs.sha256, "when, where and at what cost differ"
    assert ours.run.pulled_outputs > theirs.run.pulled_outputs == 0
    done = clone.run(*shlex.split(check))
    assert done.returncode == 0
    assert "certificate.json: certified, issued 20" in done.stdout


def test_a_certificate_that_was_changed_or_is_about_another_checkout_is_refused(copy: Checkout) -> None:
    path = copy.root / "reports" / "certificate.json"
    certificate = read_certificate(path)
    assert why_it_does_not_fit(certificate, root=copy.root) == []
    (copy.root / "notes.txt").write_text("in no commit")
    assert why_it_does_not_fit(certificate, root=copy.root) == ["here are changes that are in no commit: notes.txt"]
    copy.git("add", ".")
    copy.git("commit", "-qm", "Notes")
    (problem,) = why_it_does_not_fit(certificate, root=copy.root)
    assert problem.startswith(f"it is about commit {certificate.statement.checkout.commit[:12]}")
    (copy.root / "dvc.lock").write_text((copy.root / "dvc.lock").read_text() + "\n")
    assert "it is about another dvc.lock" in why_it_does_not_fit(certificate, root=copy.root)
    content = path.read_text()
    for changed in (
        content.replace('"verdict": "certified"', '"verdict": "certified in part"'),
        content.replace('"issued": "2', '"issued": "3'),
        json.dumps({name: value for name, value in json.loads(content).items() if name != "sha256"}),
        content[:-100],
    ):
        path.write_text(changed)
        with pytest.raises(UserError, match=r"was changed after it was written|Invalid|no JSON"):
            read_certificate(path)


def test_everything_that_is_wrong_is_found_and_named(copy: Checkout, first_run: FirstRun) -> None:
    root = copy.root
    shards = sorted((root / "data" / "shards" / "rest").iterdir())
    flip(shards[0])
    flip(root / "models" / "pretrained" / "fold-1" / "model.safetensors")
    damaged = copy_in_cache(root, "models/pretrained", "fold-0/config.json")
    flip(damaged)
    reference = root / "metrics" / "slice.json"
    plain = json.loads(reference.read_bytes())
    row = next(row for row in plain["scores"] if (row["task"], row["model"]) == ("masked_reconstruction", "neurofm"))
    row["value"] += 0.001
    reference.write_text(json.dumps(plain))
    code = root / "src" / "neurofm" / "preprocess" / "eeg.py"
    code.write_text(code.read_text() + "\n# Edited.\n")
    (root / ".neurofm" / "certify" / "left-by-a-killed-run").mkdir(parents=True)

    # The folder of data lies where it was added from: every copy of the project reads it there.
    (raw,) = (first_run.folder / "labdata" / "eeg").rglob("*_eeg.vhdr")
    raw.rename(raw.with_name(".away"))
    try:
        done = copy.run("neurofm", "certify")
    finally:
        raw.with_name(".away").rename(raw)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {(one.part, one.item): one for one in copy.findings()}
    expected = {
        (Part.CODE, "slice"): ["data/shards"],
        (Part.CODE, "manifest_local@eeg"): ["labdata/eeg (modified)"],
        (Part.CODE, "preprocess_local@eeg"): ["src/neurofm/preprocess/eeg.py"],
        (Part.ARTEFACTS, "data/shards/rest"): ["changed: ", shards[0].name],
        (Part.ARTEFACTS, "models/pretrained"): ["changed: fold-1/model.safetensors"],
        (Part.ARTEFACTS, "metrics/slice.json"): [],
        (Part.CACHE, "models/pretrained/fold-0/config.json"): [str(damaged.relative_to(root)), "is damaged"],
        (Part.RECEIPTS, "rest"): [shards[0].name],
        (Part.SCORE, "rest masked_reconstruction R2 neurofm"): ["differs by 0.001"],
    }
    for key, words in expected.items():
        assert found[key].status is Status.DIFFERS, key
        assert found[key].mend, key
        assert all(word in found[key].detail for word in words), found[key]
        assert f"differs: {key[0]}: {key[1]}: " in done.stdout
    assert found[Part.MANIFEST, "eeg"].status is Status.NOT_REBUILT
    assert {one.status for key, one in found.items() if key[0] is Part.SHARD} == {Status.NOT_REBUILT}
    assert not any(one.part is Part.MODEL for one in found.values()), "the slice itself was built from whole shards"
    assert "Verdict: not certified, with changes that are in no commit" in done.stdout
    assert "Mend: commit them" in done.stdout
    assert not (root / ".neurofm" / "certify").exists()
    assert copy.run("neurofm", "certify", "--check", "reports/certificate.json").returncode == 1


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernels named here are those of x86")
def test_on_another_kind_of_machine_tolerances_hold(copy: Checkout) -> None:
    """Older kernels of the same libraries stand for an older processor: they round otherwise."""
    before = copy.findings(unequal=False)
    older = "OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=default"
    done = copy.run("env", *older.split(), "neurofm", "certify")
    assert done.returncode == 0, done.stdout + done.stderr
    statement = copy.certificate().statement
    assert any(name.startswith("blas: ") for name in statement.machine_differences)
    assert statement.verdict in {Verdict.CERTIFIED, Verdict.WITHIN}
    assert all(one.allowed for one in statement.findings if one.part is Part.SCORE)
    assert not any(one.allowed for one in before if one.part is Part.SCORE)


def test_an_interrupted_run_leaves_nothing_half_written(copy: Checkout) -> None:
    reports = copy.root / "reports"
    for path in reports.glob("certificate.*"):
        path.unlink()
    working = copy.root / ".neurofm" / "certify"
    environment = os.environ | {"PYTHONPATH": str(copy.root / "src"), "DVC_NO_ANALYTICS": "1"}
    binary = Path(shutil.which("neurofm", path=str(Path(sys.executable).parent)) or "")
    process = subprocess.Popen([binary, "certify"], cwd=copy.root, env=environment, start_new_session=True)
    while not (working / "data").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert not working.exists()
    assert not list(reports.glob("*certificate*"))


def test_without_a_remote_what_is_missing_is_named(copy: Checkout) -> None:
    shutil.rmtree(copy.root / "models")
    done = copy.run("neurofm", "certify", "--no-pull")
    assert done.returncode == 2
    assert "error: models/pretrained is not here. Mend: run without --no-pull" in done.stderr
    shutil.rmtree(copy.root / ".dvc" / "cache")
    assert copy.dvc("remote", "remove", "lab").returncode == 0
    done = copy.run("neurofm", "certify")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: models/pretrained cannot be had: ")
    assert "dvc remote add -d NAME URL" in line


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def copy_in_cache(root: Path, output: str, name: str) -> Path:
    """Return DVC's copy of one file of a folder."""
    cache = root / ".dvc" / "cache" / "files" / "md5"
    lock = (root / "dvc.lock").read_text()
    (md5,) = re.findall(rf"path: {output}\n +hash: md5\n +md5: (\w+\.dir)\n +size: \d+\n +nfiles: \d+\n", lock)[:1]
    outs: list[dict[str, Any]] = json.loads((cache / md5[:2] / md5[2:]).read_text())
    (digest,) = (str(out["md5"]) for out in outs if out["relpath"] == name)
    return cache / digest[:2] / digest[2:]
