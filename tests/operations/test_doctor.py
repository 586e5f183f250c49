"""The doctor finds real trouble, says it in one line, and names what mends it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurofm.cli import app
from neurofm.operations.doctor import CHECKS, Finding, Place, Verdict, examine
from neurofm.operations.doctor.place import PATIENCE_S
from neurofm.operations.stage import COSTS, StageCost
from neurofm.remote import probe
from neurofm.units.memory import total_memory_mb
from tests.operations.conftest import PROJECT
from tests.servers.fixtures import missing_part
from tests.servers.ports import free_ports
from tests.servers.seaweed import SeaweedServer

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzSECRET"


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without credentials of any kind."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in list(os.environ):
        if name.startswith(("AWS_", "FS_LICENSE", "OMP_", "GIT_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as one has it after `git clone`: everything is committed."""
    root = tmp_path_factory.mktemp("cloned") / "project"
    shutil.copytree(PROJECT / "data" / "catalog", root / "data" / "catalog")
    for name in ("params.yaml", "requirements.lock", "dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(PROJECT / name, root)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(PROJECT / ".dvc" / name, root / ".dvc")
    _run(root, "git", "init", "--quiet", ".")
    _commit(root)
    return root


@pytest.fixture
def lab(cloned: Path, tmp_path: Path) -> Path:
    """A copy of that for one test."""
    return shutil.copytree(cloned, tmp_path / "project")


def _run(folder: Path, *command: str) -> str:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [str(program) if program.is_file() else command[0], *command[1:]],
        cwd=folder,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _commit(folder: Path) -> None:
    _run(folder, "git", "add", "--all", "--force")
    _run(
        folder, "git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--allow-empty", "-m", "As is"
    )


def look(root: Path, check: str) -> list[Finding]:
    return examine(Place.at(root), checks={check: CHECKS[check]})


def only(findings: Iterable[Finding], verdict: Verdict) -> Finding:
    (finding,) = findings
    assert finding.verdict is verdict, finding
    assert (not finding.mend) == (verdict is Verdict.OK)
    return finding


def remote(root: Path, url: str, **options: str) -> None:
    """Make a default remote; options go where DVC keeps those of this machine alone."""
    (root / ".dvc" / "config").write_text(f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n")
    lines = "".join(f"    {name} = {value}\n" for name, value in options.items())
    (root / ".dvc" / "config.local").write_text(f"['remote \"storage\"']\n{lines}" if lines else "")


# The whole command


def test_a_fresh_clone_has_no_problem(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    monkeypatch.setenv("COLUMNS", "80")
    ended = CliRunner().invoke(app, ["doctor"])
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert lines[-1].startswith("Nothing stops a run")
    assert max(len(line) for line in lines if "> " not in line) <= 80
    facts = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert list(dict.fromkeys(fact["check"] for fact in facts)) == list(CHECKS)
    assert not [fact for fact in facts if fact["verdict"] == "problem" or "could not be checked" in fact["said"]]


def test_the_page_is_true(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands run (`dvc repro` does elsewhere), and its table has every check."""
    page = (PROJECT / "docs" / "doctor.md").read_text()
    for command in re.findall(r"^    (neurofm .+?)(?: {2,}#.*)?$", page, re.MULTILINE):
        _run(lab, *command.split())
    table = page[page.index("| check |") : page.index("### Links")]
    rows = [row.split("|")[1] for row in table.splitlines()[2:] if row.startswith("|")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert named == list(CHECKS)


def test_a_problem_is_the_exit_code(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    monkeypatch.setenv("FS_LICENSE", str(lab / "nowhere.txt"))
    ended = CliRunner().invoke(app, ["doctor"])
    assert ended.exit_code == 1
    assert "1 problem;" in ended.output.splitlines()[-1]


def test_outside_a_project_it_is_a_mistake_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    neurofm = Path(sys.executable).with_name("neurofm")
    done = subprocess.run([str(neurofm), "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run neurofm in the project's folder" in done.stderr


def test_a_check_that_fails_or_hangs_harms_no_other(lab: Path) -> None:
    def fails(_: Place) -> Iterable[Finding]:
        raise ZeroDivisionError("by accident")

    def hangs(_: Place) -> Iterable[Finding]:
        time.sleep(60)
        return []

    checks = {"fails": fails, "hangs": hangs, "remote": hangs, "settings": CHECKS["settings"]}
    failed, hanging, silent, fine = examine(Place.at(lab), checks=checks, longest_s=1.0)
    assert "ZeroDivisionError: by accident" in failed.said
    assert "no answer within 1 s" in hanging.said
    assert (failed.verdict, hanging.verdict, fine.verdict) == (Verdict.NOTE, Verdict.NOTE, Verdict.OK)
    assert silent.verdict is Verdict.PROBLEM, "it would not take a push either"


def test_settings_that_are_wrong_are_said_and_the_rest_is_still_checked(lab: Path) -> None:
    path = lab / "params.yaml"
    path.write_text(path.read_text().replace("folds: 3", "folds: three"))
    (lab / "site.yaml").write_text("colour: blue\n")
    findings = examine(Place.at(lab))
    said = {finding.said for finding in findings if finding.verdict is Verdict.PROBLEM}
    assert any("split.folds" in line for line in said)
    assert any("colour" in line for line in said)
    assert not [finding for finding in findings if "could not be checked" in finding.said]


# Python and this machine


def test_a_lock_that_changed_is_found(lab: Path) -> None:
    assert only(look(lab, "python"), Verdict.OK)
    lock = lab / "requirements.lock"
    lock.write_text(lock.read_text().replace("\nnumpy==", "\nnumpy==0.", 1) + "from-the-future==1.0\n")
    findings = look(lab, "python")
    assert {finding.mend for finding in findings} == {"make env"}
    assert "from-the-future" in only([f for f in findings if "developers" in f.said], Verdict.NOTE).said
    assert "numpy" in only([f for f in findings if "not what" in f.said], Verdict.PROBLEM).said


def test_threads_that_would_change_bytes_are_noted(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    finding = next(found for found in look(lab, "limits") if found.mend)
    assert finding.mend == "unset OMP_NUM_THREADS"


def test_open_files(lab: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neurofm.operations.doctor import *\n"
        "print(examine(Place.at(Path(sys.argv[1])), checks={'limits': CHECKS['limits']})[0].mend)"
    )
    done = subprocess.run(
        ["sh", "-c", 'ulimit -Sn 200 && exec "$@"', "sh", sys.executable, "-c", code, str(lab)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "ulimit -n 1024"


def test_memory_is_compared_with_what_was_needed(lab: Path) -> None:
    assert "nothing was run yet" in only(look(lab, "memory"), Verdict.OK).said
    cost = StageCost(stage="pretrain", succeeded=True, began=1, seconds=1, cpu_s=1, peak_mb=512, host="h")
    folder = lab / COSTS
    folder.mkdir(parents=True)
    (folder / "pretrain.json").write_text(cost.model_dump_json())
    assert "0.5 (stage pretrain)" in only(look(lab, "memory"), Verdict.OK).said
    too_much = cost.model_copy(update={"peak_mb": 2 * total_memory_mb()})
    (folder / "pretrain.json").write_text(too_much.model_dump_json())
    assert "stage pretrain took" in only(look(lab, "memory"), Verdict.PROBLEM).said


# Disk and cache


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a tmpfs of 64 MB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        missing_part(f"a small disk cannot be mounted here (it needs root): {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_problem(lab: Path, full_disk: Path) -> None:
    here = shutil.copytree(lab, full_disk / "project")
    findings = look(here, "disk")
    project = next(finding for finding in findings if finding.said.startswith("project: "))
    assert project.verdict is Verdict.PROBLEM
    assert "tmpfs" in project.said
    assert "sort -h" in project.mend
    assert any("will be written here" in finding.said for finding in findings)


def test_a_cache_on_another_disk_is_noted(lab: Path, full_disk: Path) -> None:
    (lab / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {full_disk / 'cache'}\n")
    finding = only(look(lab, "cache links"), Verdict.NOTE)
    assert "lie on disk twice" in finding.said
    assert finding.mend.startswith("dvc cache dir --local")


# What others could read


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (".dvc/config", f"\n['remote \"storage\"']\n    secret_access_key = {SECRET}\n", "secret_access_key"),
        (".dvc/config", "\n['remote \"storage\"']\n    url = ssh://me:hunter2-hunter2@host/path\n", "url"),
        ("notes.txt", "AKIA" + "ABCDEFGHIJKLMNOP", "an AWS key"),
        ("site.yaml", "# glpat-" + "abcdefghijklmnopqrst", "a GitLab token"),
        ("key.pem", "-----BEGIN " + "PRIVATE KEY-----", "a private key"),
        ("run.sh", f"export X={SECRET}", "$AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_secret_is_found_and_never_shown(
    lab: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str
) -> None:
    assert only(look(lab, "secrets"), Verdict.OK)
    with (lab / name).open("a") as file:
        file.write(text + "\n")
    if name != "site.yaml":
        _commit(lab)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    findings = look(lab, "secrets")
    assert all(finding.verdict is Verdict.PROBLEM for finding in findings)
    assert any(name in finding.said and told in finding.said for finding in findings)
    shown = str(findings)
    assert SECRET not in shown
    assert "hunter2" not in shown
    assert "AKIA" not in shown


def test_the_project_itself_holds_none() -> None:
    """A user's first `neurofm doctor` must not be about our own files."""
    assert only(look(PROJECT, "secrets"), Verdict.OK)


def test_a_key_in_the_local_configuration_is_where_it_belongs(lab: Path) -> None:
    remote(lab, "s3://bucket/lab", access_key_id="me", secret_access_key=SECRET)
    (lab / ".dvc" / "config.local").chmod(0o600)
    assert only(look(lab, "secrets"), Verdict.OK)
    (lab / ".dvc" / "config.local").chmod(0o644)
    assert "chmod 600" in look(lab, "secrets")[0].mend


LICENCE = "jane@example.org\n12345\n *CabcDEFghijk\n FSabcDEFghijk\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [(LICENCE, ""), (None, "No such file"), ("<html>Not found</html>", "is none")],
)
def test_freesurfers_licence(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, told: str
) -> None:
    path = tmp_path / "license.txt"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("FS_LICENSE", str(path))
    assert told in only(look(lab, "licence"), Verdict.PROBLEM if told else Verdict.OK).said


def test_a_licence_that_git_has(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab / "license.txt"
    path.write_text(LICENCE)
    monkeypatch.setenv("FS_LICENSE", str(path))
    assert only(look(lab, "licence"), Verdict.OK)
    _commit(lab)
    assert "git rm --cached" in only(look(lab, "licence"), Verdict.PROBLEM).mend


def test_a_licence_that_is_in_the_variable_itself_is_not_shown(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FS_LICENSE", LICENCE * 100)
    found = only(look(lab, "licence"), Verdict.PROBLEM)
    assert not [word for word in LICENCE.split() if word in f"{found.said} {found.mend}"]


# git and DVC


@pytest.mark.parametrize(("lost", "mend"), [(".git", "git init"), (".dvc", "dvc init")])
def test_where_dvc_cannot_work_it_is_said_once(lab: Path, lost: str, mend: str) -> None:
    shutil.rmtree(lab / lost)
    problems = [finding for finding in examine(Place.at(lab)) if finding.verdict is Verdict.PROBLEM]
    assert [finding.mend for finding in problems] == [mend]


def test_what_git_lacks_is_noted(lab: Path) -> None:
    assert only(look(lab, "git"), Verdict.OK)
    (lab / "dvc.lock").write_text("schema: '2.0'\n")
    assert "git add dvc.lock" in only(look(lab, "git"), Verdict.NOTE).mend
    _commit(lab)
    with (lab / "dvc.lock").open("a") as file:
        file.write("stages: {}\n")
    (lab / "params.yaml").open("a").write("# changed\n")
    lock, code = look(lab, "git")
    assert "others pull what was built before" in lock.said
    assert "params.yaml" in code.said


def test_a_broken_lock_of_dvcs_is_mended_by_the_command_that_is_named(lab: Path) -> None:
    (lab / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo hi\n")
    broken = lab / ".dvc" / "tmp" / "rwlock"
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b"")  # As a power cut leaves it.
    with pytest.raises(AssertionError, match="rwlock"):
        _run(lab, "dvc", "repro")
    finding = only(look(lab, "dvc locks"), Verdict.PROBLEM)
    assert finding.mend == f"rm {broken}"
    broken.unlink()
    assert only(look(lab, "dvc locks"), Verdict.OK)
    _run(lab, "dvc", "repro")


def test_a_dvc_command_at_work_is_seen(lab: Path) -> None:
    (lab / "dvc.yaml").write_text("stages:\n  one:\n    cmd: touch began && sleep 30\n    outs: [began]\n")
    dvc = Path(sys.executable).with_name("dvc")
    running = subprocess.Popen(
        [str(dvc), "repro"], cwd=lab, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = time.monotonic() + 60
        while not (lab / "began").exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert f"process {running.pid}" in only(look(lab, "dvc locks"), Verdict.NOTE).said
    finally:
        os.killpg(running.pid, 9)
        running.wait()
    assert only(look(lab, "dvc locks"), Verdict.OK)


# The remote


def test_no_remote_is_a_note(lab: Path) -> None:
    assert only(look(lab, "remote"), Verdict.NOTE).mend == "neurofm remote use s3://BUCKET/neurofm"


def test_a_remote_that_works(lab: Path, s3: SeaweedServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    remote(lab, f"s3://{bucket}/doctor")
    ours, unverified = look(lab, "remote")
    assert (ours.verdict, unverified.verdict) == (Verdict.OK, Verdict.NOTE)
    assert ours.said == f"storage: s3://{bucket}/doctor: may read and write"
    assert unverified.mend == "dvc remote modify storage verify true"
    assert "127.0.0.1" in only(look(lab, "clock"), Verdict.OK).said
    s3.put(bucket, "doctor/files/md5/ab/cd", b"x")
    remote(lab, f"s3://{bucket}/doctor", verify="true")
    assert only(look(lab, "remote"), Verdict.OK)
    assert [item["Key"] for item in s3._client.list_objects_v2(Bucket=bucket, Prefix="doctor/")["Contents"]] == [
        "doctor/files/md5/ab/cd"
    ]


def test_a_wrong_key_is_refused(lab: Path, s3: SeaweedServer, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    remote(lab, f"s3://{bucket}/doctor", endpointurl=s3.url)
    finding = only(look(lab, "remote"), Verdict.PROBLEM)
    assert "the secret key does not belong to the access key" in finding.said
    assert "AWS_PROFILE" in finding.mend
    assert SECRET not in str(finding)


def test_a_key_that_only_reads_is_noted(lab: Path, s3: SeaweedServer, bucket: str) -> None:
    s3.put(bucket, "open/files/md5/ab/cd", b"x")
    remote(lab, f"s3://{bucket}/open", endpointurl=s3.url, allow_anonymous_login="true", verify="true")
    assert "does not push" in only(look(lab, "remote"), Verdict.NOTE).said


def test_without_credentials_the_variables_are_named(lab: Path, s3: SeaweedServer, bucket: str) -> None:
    remote(lab, f"s3://{bucket}/doctor", endpointurl=s3.url)
    finding = only(look(lab, "remote"), Verdict.PROBLEM)
    assert "no credentials" in finding.said
    remote(lab, f"s3://{bucket}/doctor", endpointurl=s3.url, profile="nobody")
    assert "there is no such profile" in only(look(lab, "remote"), Verdict.PROBLEM).said


def test_a_bucket_that_is_not_there(lab: Path, s3: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    remote(lab, "s3://no-such-bucket/doctor")
    finding = look(lab, "remote")[0]
    # SeaweedFS makes a bucket for an admin who writes into one that is not there; AWS does not.
    assert "no-such-bucket" in finding.said


def test_a_dead_endpoint_is_said_at_once(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (port,) = free_ports(1)
    remote(lab, "s3://bucket/doctor", endpointurl=f"http://127.0.0.1:{port}")
    finding = only(look(lab, "remote"), Verdict.PROBLEM)
    assert "the server cannot be reached" in finding.said
    assert "check the endpoint" in finding.mend
    assert only(look(lab, "clock"), Verdict.OK)


def test_a_server_that_stays_silent_is_a_problem(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections, and nothing comes back."""
    assert probe._PATIENCE_S == PATIENCE_S, "as the page has it"
    monkeypatch.setattr(probe, "_PATIENCE_S", 0.5)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        remote(lab, "s3://bucket/doctor", endpointurl=f"http://127.0.0.1:{server.getsockname()[1]}")
        finding = only(look(lab, "remote"), Verdict.PROBLEM)
    assert "the server cannot be reached" in finding.said


def test_a_plugin_that_is_not_here(lab: Path) -> None:
    remote(lab, "gs://bucket/doctor")
    assert only(look(lab, "remote"), Verdict.PROBLEM).mend == "pip install dvc-gs"


def test_a_remote_that_is_only_named(lab: Path) -> None:
    remote(lab, "/tmp/somewhere")
    config = lab / ".dvc" / "config"
    config.write_text(config.read_text().replace("    remote = storage\n", ""))
    assert "no remote is configured" in only(look(lab, "remote"), Verdict.NOTE).said
    config.write_text("[core]\n    remote = elsewhere\n")
    assert "'elsewhere'" in only(look(lab, "remote"), Verdict.PROBLEM).said


def test_a_folder_is_a_remote_too(lab: Path, tmp_path: Path) -> None:
    remote(lab, str(tmp_path / "store"))
    assert only(look(lab, "remote"), Verdict.OK)
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(("minutes", "verdict"), [(-20, Verdict.PROBLEM), (5, Verdict.NOTE)])
def test_a_clock_that_is_off(lab: Path, minutes: int, verdict: Verdict) -> None:
    class OtherTime(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() - 60 * minutes, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OtherTime) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote(lab, "s3://bucket/doctor", endpointurl=f"http://127.0.0.1:{server.server_port}")
        finding = only(look(lab, "clock"), verdict)
        server.shutdown()
    assert f"{abs(minutes)} minutes {'ahead of' if minutes > 0 else 'behind'}" in finding.said


# Programs


def test_without_an_engine_it_is_said(lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install podman" in only(look(lab, "engine"), Verdict.NOTE).mend
    (lab / "site.yaml").write_text("container: true\n")
    assert "no container engine answers" in only(look(lab, "engine"), Verdict.PROBLEM).said


def test_an_engine_that_does_not_work_is_said(lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Cannot connect to the Docker daemon" in only(look(lab, "engine"), Verdict.NOTE).said


def test_slurm_is_a_problem_only_where_it_is_wanted(lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert only(look(lab, "slurm"), Verdict.OK)
    (lab / "site.yaml").write_text("executor: slurm\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no Slurm on this machine" in only(look(lab, "slurm"), Verdict.PROBLEM).said


@pytest.mark.parametrize("code", [0, 9])
def test_a_driver_without_a_gpu_for_pytorch(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    """There is no GPU here: what nvidia-smi says is stood in for, PyTorch is real."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB'\nexit {code}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    finding = only(look(lab, "gpu"), Verdict.NOTE)
    assert finding.said.startswith("nvidia-smi fails") == (code != 0)
    assert "H100 80GB HBM3, 550.54.15" in finding.said
    assert "trains on the processor" in finding.said
