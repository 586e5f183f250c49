"""The real `.gitlab-ci.yml`, run by gitlab-ci-local on a lab's project, with a real S3 server and a bare repository."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurofm.catalog import read_yaml
from neurofm.files import sha256_of
from tests.gitlab_schema import check_schema
from tests.integration.ci.conftest import SUBJECTS, Built
from tests.integration.ci.lab import BUCKET, OPTIONS, PROJECT, Lab, Ran
from tests.servers.fixtures import missing_part
from tests.servers.gitlab_notes import GitlabNotes
from tests.servers.seaweed import SeaweedServer
from tests.servers.stall import Stall

STAGES = {
    *("manifest@tiny-bids-eeg", "download@tiny-bids-eeg", "preprocess@tiny-bids-eeg"),
    *("manifest_local@rest", "preprocess_local@rest"),
}
_PATIENCE_S = 240.0


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def objects(s3: SeaweedServer) -> dict[str, bytes]:
    """Return what lies in the remote's store, by digest."""
    pages = s3._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="neurofm/files/md5/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {"".join(key.split("/")[-2:]): s3._client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def test_the_pipeline_is_what_gitlabs_schema_allows() -> None:
    check_schema(PROJECT / ".gitlab-ci.yml", PROJECT / "ci" / "jobs.yml")


def test_rules_ask_for_what_gitlab_knows_before_a_job_runs() -> None:
    """Variables that only a running job has are empty in a rule, and the job is then never made."""
    jobs = [read_yaml(PROJECT / path) for path in (".gitlab-ci.yml", "ci/jobs.yml")]
    rules = [rule for file in jobs for job in file.values() if isinstance(job, dict) for rule in job.get("rules", ())]
    asked = " ".join(rule.get("if", "") for rule in rules)
    assert "$CI_REGISTRY_IMAGE" in asked
    assert not re.search(r"CI_REGISTRY_PASSWORD|CI_JOB_TOKEN|CI_JOB_ID|CI_DEPLOY_PASSWORD", asked)


def test_pages_that_the_pipeline_names_are_there() -> None:
    files = [PROJECT / ".gitlab-ci.yml", *(PROJECT / "ci").iterdir()]
    named = {page for path in files for page in re.findall(r"docs/[\w-]+\.md", path.read_text())}
    assert named
    assert [page for page in sorted(named) if not (PROJECT / page).is_file()] == []


def test_the_page_says_how_this_was_run(lab: Lab) -> None:
    page = (PROJECT / "docs" / "ci.md").read_text()
    listing, run = re.findall(r"^    gitlab-ci-local (--.+)$", page, re.MULTILINE)
    assert run == shlex.join(OPTIONS)
    package = json.loads((PROJECT / "tests" / "clients" / "gitlab-ci-local" / "package.json").read_text())
    assert f"{package['dependencies']['gitlab-ci-local']} (npm)" in page
    done = lab.run(str(lab.program), *shlex.split(listing))
    assert done.returncode == 0, done.stderr
    assert {"lint", "test", "plan"} <= {line.split()[0] for line in done.stdout.splitlines()[1:] if line}


def test_a_schedule_asks_the_archives_and_opens_a_merge_request(lab: Lab) -> None:
    # A bare repository takes no options with which GitLab opens merge requests.
    schedule = {"CI_PIPELINE_SOURCE": "schedule", "NEUROFM_TASK": "manifests", "NEUROFM_PUSH_OPTIONS": ""}
    ran = lab.pipeline(**schedule)
    assert (ran.passed, ran.failed) == (("refresh-manifests",), ()), ran.text
    lab.git("fetch", "--quiet", "origin")
    assert lab.git("diff", "--name-only", "HEAD", "origin/neurofm/refresh-manifests") == "dvc.lock"
    assert "manifest@tiny-bids-eeg" in lab.git("show", "origin/neurofm/refresh-manifests:dvc.lock")


def test_with_everything_out_of_date_every_job_runs_and_passes(built: Built) -> None:
    ran = built.ran
    assert ran.code == 0, ran.text
    assert ran.failed == (), ran.text
    assert set(ran.passed) == {"lint", "test", "plan", "reproduce", *STAGES, "gather", "numbers", "commit"}
    check_schema(built.lab.artefact("plan", "child.yml"))
    assert "1 passed" in ran.text, "the lab's own test"
    assert "NEUROFM_CI_TOKEN" not in ran.text
    for secret in (built.lab.settings["NEUROFM_CI_TOKEN"], built.lab.s3.secret_key):
        assert secret not in ran.text


def test_what_ci_made_is_committed_and_on_the_remote_whole(built: Built) -> None:
    lab = built.lab
    assert lab.git("log", "-1", "--format=%an %s").startswith("neurofm CI Reproduced by CI from")
    assert set(lab.git("show", "--name-only", "--format=").splitlines()) == {
        *("dvc.lock", "metrics/pretrain.json", "metrics/quality/rest.json", "metrics/quality/tiny-bids-eeg.json"),
        "metrics/connectivity.json",
        *("metrics/differences.json", "metrics/scoreboard.csv", "metrics/scoreboard.json", "metrics/slice.json"),
        *("metrics/calibration.csv", "metrics/calibration.json"),
        *("metrics/few_shot.csv", "metrics/few_shot.json", "metrics/summary.json"),
    }
    assert set(lab.lock()) == STAGES | {"split", "pretrain", "evaluate", "connectivity", "slice", "report"}
    stored = objects(lab.s3)
    for digest, content in stored.items():
        assert md5(content) == digest.removesuffix(".dir")
    for stage in lab.lock().values():
        for out in stage["outs"]:
            assert out["md5"] in stored or out["path"].startswith("metrics/"), out


def test_a_second_clone_pulls_it_and_has_nothing_to_run(built: Built, tmp_path: Path) -> None:
    clone = built.lab.clone(tmp_path / "clone")
    done = clone.dvc("pull")
    assert done.returncode == 0, done.stderr
    assert (clone.root / "reports" / "report.html").is_file()
    assert len(clone.shards()) == SUBJECTS + 1
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


def test_with_nothing_changed_no_job_is_made(built: Built) -> None:
    ran = built.lab.pipeline()
    assert ran.code == 0, ran.text
    assert (set(ran.passed), ran.failed) == ({"plan", "reproduce", "nothing-to-do"}, ()), ran.text
    check_schema(built.lab.artefact("plan", "child.yml"))
    # The numbers that a merge request will be compared with.
    assert (
        'neurofm_score{key="rest.masked_reconstruction.R2.neurofm"} '
        in built.lab.artefact("plan", "reports/changes/metrics.txt").read_text()
    )


@dataclass(frozen=True, kw_only=True)
class Killed:
    """What was left after a job was killed."""

    said: str
    shards: dict[str, str]
    """In the job's checkout, with their digests."""
    lock: bytes
    """``dvc.lock`` there."""
    sent: int
    """New objects on the remote."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A merge request that changes one setting of fMRI."""

    lab: Lab
    base: str
    variables: dict[str, str]
    """Of GitLab, for its pipeline."""


@pytest.fixture(scope="module")
def asked(built: Built) -> Asked:
    lab = built.lab
    assert built.ran.failed == (), built.ran.text
    base = lab.git("rev-parse", "main")
    lab.git("checkout", "--quiet", "-b", "smoother")
    lab.set(["preprocess", "fmri", "highpass_hz"], 0.02)
    lab.commit("Slower drifts are removed")
    variables = {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
    }
    return Asked(lab=lab, base=base, variables=variables)


@pytest.fixture(scope="module")
def killed(asked: Asked) -> tuple[Killed, Killed]:
    """Its job is killed twice: in what it runs, and while it pushes."""
    lab, variables = asked.lab, asked.variables
    plan = lab.pipeline("plan", **variables)
    assert plan.passed == ("plan",), plan.text
    shutil.copy(lab.artefact("plan", "child.yml"), lab.root / ".gitlab-ci-local" / "child.yml")
    job = ("--file", ".gitlab-ci-local/child.yml", "preprocess_local@rest")
    checkout = lab.root / ".gitlab-ci-local" / "builds" / "preprocess_localQArest"
    before = objects(lab.s3)

    def left(said: str) -> Killed:
        return Killed(
            said=said,
            shards={
                path.name: md5(path.read_bytes()) for path in (checkout / "data" / "shards" / "rest").glob("*.zip")
            },
            lock=(checkout / "dvc.lock").read_bytes(),
            sent=len(objects(lab.s3).keys() - before.keys()),
        )

    receipts = checkout / ".neurofm" / "receipts" / "rest"
    in_repro = left(kill(lab.start(*job, **variables), when=lambda: any(receipts.rglob("*.jsonl"))))
    with Stall(lab.s3.address, after=_of_a_push(lab)) as stall:
        in_push = left(kill(lab.start(*job, **variables, AWS_ENDPOINT_URL=stall.url), when=stall.reached.is_set))
    return in_repro, in_push


@dataclass(frozen=True, kw_only=True)
class Changed:
    """The merge request after its pipeline ran."""

    lab: Lab
    base: str
    ran: Ran
    notes: tuple[str, ...]
    """On the merge request."""


@pytest.fixture(scope="module")
def changed(asked: Asked) -> Changed:
    with GitlabNotes(asked.lab.settings["NEUROFM_CI_TOKEN"]) as gitlab:
        ran = asked.lab.pipeline(**asked.variables, CI_API_V4_URL=gitlab.url)
    notes = tuple(note["body"] for note in gitlab.notes)
    return Changed(lab=asked.lab, base=asked.base, ran=ran, notes=notes)


def _of_a_push(lab: Lab) -> int:
    """Return half of the bytes that a job sends for the shards of ``rest``."""
    (size,) = (out["size"] for out in lab.lock()["preprocess_local@rest"]["outs"] if out["path"] == "data/shards/rest")
    return int(size) // 2


def kill(process: subprocess.Popen[str], *, when: Callable[[], bool]) -> str:
    """SIGKILL everything that a pipeline started, once `when` says so; returns what it had said."""
    until = time.monotonic() + _PATIENCE_S
    try:
        while not when():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until, "it did not come so far"
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    return said


@pytest.mark.long
def test_jobs_are_killed_half_way(asked: Asked, killed: tuple[Killed, Killed]) -> None:
    in_repro, in_push = killed
    committed = asked.lab.git("show", "HEAD:dvc.lock") + "\n"
    assert in_repro.lock == committed.encode(), "killed before the stage was done"
    assert in_repro.sent == 0
    assert in_push.lock != committed.encode(), "killed after the stage was done"
    assert 0 <= in_push.sent < SUBJECTS, "killed before all was sent"


@pytest.mark.long
def test_a_rerun_after_a_kill_loses_nothing(killed: tuple[Killed, Killed], changed: Changed) -> None:
    """What killed jobs left on the remote is whole, and what the rerun pushed are the bytes of an undisturbed run.

    The second one was killed in its push: it had run the whole stage anew, in a checkout of its own.
    """
    _, in_push = killed
    all_anew = f"rest: {SUBJECTS} recordings preprocessed, 0 whole already"
    assert all_anew in in_push.said
    assert changed.ran.failed == (), changed.ran.text
    assert all_anew in changed.ran.text
    stored = objects(changed.lab.s3)
    for digest, content in stored.items():
        assert md5(content) == digest.removesuffix(".dir")
    stages = read_yaml(changed.lab.artefact("gather", "dvc.lock"))["stages"]
    (folder,) = (out for out in stages["preprocess_local@rest"]["outs"] if out["path"] == "data/shards/rest")
    pushed = {item["relpath"]: item["md5"] for item in json.loads(stored[folder["md5"]])}
    assert pushed == in_push.shards
    assert len(pushed) == SUBJECTS
    assert set(pushed.values()) <= stored.keys()


@pytest.mark.long
def test_a_setting_of_one_modality_makes_a_job_for_its_dataset_alone(changed: Changed) -> None:
    ran = changed.ran
    assert ran.code == 0, ran.text
    assert set(ran.passed) == {"lint", "test", "plan", "reproduce", "preprocess_local@rest", "gather", "numbers"}
    assert "preprocess_local@rest: changed: preprocess.fmri" in ran.text
    assert re.search(r"split: follows preprocess_local@rest", ran.text)
    assert changed.lab.git("rev-parse", "origin/main") == changed.base, "a merge request commits nothing"


@pytest.mark.long
def test_the_merge_request_shows_what_changed_in_numbers(changed: Changed) -> None:
    folder = changed.lab.artefact("numbers", "reports/changes")
    before = json.loads(changed.lab.git("show", f"{changed.base}:metrics/summary.json"))
    after = json.loads(changed.lab.artefact("gather", "metrics/summary.json").read_text())
    old, new = (side["rest"]["masked_reconstruction"]["R2"]["neurofm"] for side in (before, after))
    assert old != new
    row = f"| metrics/summary.json | rest.masked_reconstruction.R2.neurofm | {old:.6g} | {new:.6g} | {new - old:+.4g} |"
    assert row in (folder / "changes.md").read_text().splitlines()
    assert row in changed.notes[-1].splitlines()
    assert (
        f'<td>rest.masked_reconstruction.R2.neurofm</td><td class="n">{old:.6g}</td>'
        in (folder / "index.html").read_text()
    )
    assert (
        f'neurofm_score{{key="rest.masked_reconstruction.R2.neurofm"}} {new}'
        in (folder / "metrics.txt").read_text().splitlines()
    )
    plots = (folder / "plots" / "index.html").read_text()
    assert changed.base[:7] in plots
    assert "workspace" in plots
    assert (folder / "report.html").is_file()
    assert not any("tiny-bids-eeg" in line for line in (folder / "changes.md").read_text().splitlines())


def test_the_image_is_built_pushed_and_recorded_by_digest(lab: Lab, tmp_path: Path) -> None:
    """On a base of a few files; of the real Containerfile, all that needs no network."""
    if shutil.which("buildah") is None:
        missing_part("no buildah on this machine; to run this test: apt-get install buildah runc")
    (tmp_path / "Containerfile").write_text(short_containerfile())
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    )
    settings = {
        "NEUROFM_IMAGE_TARGET": f"dir:{tmp_path}/pushed",
        "NEUROFM_CONTAINERFILE": str(tmp_path / "Containerfile"),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }
    unpinned = lab.pipeline("containers", **settings, NEUROFM_BASE_IMAGE="docker.io/library/debian:bookworm")
    assert unpinned.failed == ("containers",)
    assert "is not pinned by digest. Mend:" in unpinned.text
    base = make_base(tmp_path)
    ran = lab.pipeline("containers", **settings, NEUROFM_BASE_IMAGE=base)
    assert ran.passed == ("containers",), ran.text
    content = (tmp_path / "pushed" / "manifest.json").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert lab.artefact("containers", "image.yaml").read_text() == f"image: dir@{digest}\n"
    blob = json.loads(content)["config"]["digest"].removeprefix("sha256:")
    labels = json.loads((tmp_path / "pushed" / blob).read_text())["config"]["Labels"]
    assert labels["org.neurofm.lock"] == sha256_of(lab.root / "requirements.lock").removeprefix("sha256:")


def short_containerfile() -> str:
    """Return the project's, up to where it installs what the lock names, with the labels of what comes of it."""
    text = (PROJECT / "containers" / "neurofm" / "Containerfile").read_text()
    check, _, rest = text.partition(" \\\n    && python3 -m venv tools")
    label = re.search(r"^LABEL .+?[^\\]\n", rest, re.MULTILINE | re.DOTALL)
    assert "| sha256sum --check" in check.splitlines()[-1]
    assert label is not None
    return f"{check}\n{label.group()}"


def make_base(folder: Path) -> str:
    """Make an image with a shell and sha256sum, in buildah's store; returns its address with digest."""
    root = folder / "base"
    for program in ("sh", "sha256sum"):
        path = shutil.which(program)
        assert path is not None
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for source in (path, *re.findall(r"(/\S+) \(0x", linked)):
            target = root / "bin" / program if source == path else root / source[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    environment = os.environ | {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "STORAGE_DRIVER": "vfs"}

    def buildah(*arguments: str) -> str:
        done = subprocess.run(["buildah", *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    container = buildah("from", "scratch")
    buildah("copy", "--quiet", container, str(root), "/")
    buildah("commit", "--quiet", container, "localhost/base")
    return f"localhost/base@{buildah('images', '--format', '{{.Digest}}', 'localhost/base')}"
