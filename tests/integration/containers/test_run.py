"""A container gets what it was given and nothing else, says how it ended, and is gone when its caller is."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neurofm.containers import Engine, EngineName, Image, Job, Limits, Mount, find_engine, find_image, run
from neurofm.containers.command import Caller
from neurofm.errors import UserError
from tests.servers.podman import BASE, PROJECT, Podman


def sh(image: Image, script: str, **more: object) -> Job:
    return replace(Job(image=image, command=("sh", "-c", script)), **more)  # type: ignore[arg-type]


def wait(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def test_output_goes_to_the_log_as_it_comes_and_the_code_is_said(
    engine: Engine, base: Image, podman: Podman, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    log = tmp_path / "deep" / "log"
    seen: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        if line == "one":
            seen.append(log.read_text())  # While it runs.

    ending = run(
        sh(base, "echo one; sleep 0.3; echo two >&2; printf three; exit 3"),
        engine=engine,
        log=log,
        show=True,
        on_line=note,
    )
    assert (ending.code, ending.succeeded) == (3, False)
    assert ending.reason == "exit code 3: two"  # Errors say why.
    assert ending.image == base.digest
    assert seen == ["one\n"]
    assert sorted(lines) == ["one", "three", "two"]
    assert log.read_text() in {"one\ntwo\nthree", "one\nthreetwo\n"}  # Two pipes: which is read first is chance.
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("one\nthree", "two\n")
    assert podman.containers() == []


def test_a_listener_that_fails_neither_stops_the_job_nor_goes_unheard(
    engine: Engine, base: Image, podman: Podman, tmp_path: Path
) -> None:
    """A pipe that nobody empties would stop the container for good."""
    (tmp_path / "out").mkdir()

    def refuse(line: str) -> None:
        raise RuntimeError(line)

    script = f"seq 100000; echo done > {tmp_path}/out/done"
    with pytest.raises(RuntimeError, match="1"):
        run(sh(base, script, mounts=(Mount(source=tmp_path / "out", writable=True),)), engine=engine, on_line=refuse)
    assert (tmp_path / "out" / "done").exists()
    assert podman.containers() == []


def test_memory_beyond_the_limit_ends_it_with_the_reason(
    engine: Engine, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    take = Job(image=base, command=("python3", "-c", "x = bytearray(300 << 20); print(len(x))"))
    assert run(replace(take, limits=Limits(memory_gb=1)), engine=engine).succeeded
    ending = run(replace(take, limits=Limits(memory_gb=0.125)), engine=engine)
    assert ending.code == 137
    assert "it took more than the 0.125 GB that it was given" in ending.reason
    assert list(tmp_path.iterdir()) == []  # conmon writes a file `oom` where it stands.


def test_cores_are_limited(engine: Engine, base: Image, tmp_path: Path) -> None:
    log = tmp_path / "log"
    read = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us || cat /sys/fs/cgroup/cpu.max"
    assert run(sh(base, f"({read}) 2>/dev/null", limits=Limits(cpus=0.5)), engine=engine, log=log).succeeded
    quota, period = (int(word) for word in log.read_text().split())
    assert quota / period == 0.5


def test_mounts_are_read_only_unless_said_and_files_belong_to_the_caller(
    engine: Engine, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("given", "given/out"):
        (tmp_path / name).mkdir()
    (tmp_path / "given" / "input").write_text("as it was")
    mounts = (Mount(source=tmp_path / "given"), Mount(source=tmp_path / "given" / "out", writable=True))
    script = "echo changed > input; echo 2 > new; rm -f input; cat input > out/copy"
    log = tmp_path / "log"
    # Root may do this for somebody else, so that what is not root's is tried too.
    for caller in {os.getuid(), 4321 if os.getuid() == 0 else os.getuid()}:
        monkeypatch.setattr(Caller, "here", lambda uid=caller: Caller(uid=uid, gid=uid, host="lab"))
        for path in (tmp_path, tmp_path / "given", tmp_path / "given" / "out"):
            os.chown(path, caller, caller)
        ending = run(sh(base, script, mounts=mounts, workdir=tmp_path / "given"), engine=engine, log=log)
        assert ending.succeeded, log.read_text()
        assert log.read_text().lower().count("read-only file system") == 3
        assert {path.name for path in (tmp_path / "given").iterdir()} == {"input", "out"}
        copy = tmp_path / "given" / "out" / "copy"
        assert copy.read_text() == "as it was"
        assert (copy.stat().st_uid, copy.stat().st_gid) == (caller, caller)
        copy.unlink()


@pytest.fixture
def server() -> Iterator[int]:
    """A server on this machine's loopback."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


def test_no_network_unless_asked(engine: Engine, base: Image, server: int, tmp_path: Path) -> None:
    ask = f"import socket; socket.create_connection(('127.0.0.1', {server}), timeout=5); print('reached')"
    job = Job(image=base, command=("python3", "-c", ask))
    log = tmp_path / "log"
    assert run(job, engine=engine, log=log).code == 1
    assert "ConnectionRefusedError" in log.read_text()
    assert run(replace(job, network=True), engine=engine, log=log).succeeded
    assert "reached" in log.read_text()
    assert run(sh(base, "ls /sys/class/net"), engine=engine, log=log).succeeded
    assert log.read_text().split() == ["lo"]


def test_the_host_is_called_as_outside_and_variables_come_in_unseen(
    engine: Engine, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("SECRET", "hunter2")
    script = "hostname; echo $SECRET; echo $HOME; tr '\\0' ' ' < /proc/1/cmdline"
    job = sh(base, script, inherited=("SECRET", "NOT_THERE"), environment={"HOME": "/tmp/with, a = sign"})
    assert run(job, engine=engine, log=log).succeeded
    host, secret, home, first = log.read_text().splitlines()
    assert host == os.uname().nodename
    assert secret == "hunter2"
    assert home == "/tmp/with, a = sign"
    assert "init" in first
    assert "hunter2" not in first


def test_an_entrypoint_is_kept_or_not(engine: Engine, podman: Podman, tmp_path: Path) -> None:
    """As that of an image whose entrypoint is the tool: fmriprep's."""
    (tmp_path / "Containerfile").write_text(f'FROM {BASE}\nENTRYPOINT ["echo", "tool"]\n')
    built = podman.ask("build", "--quiet", "--layers=false", str(tmp_path)).splitlines()[-1]
    job = Job(image=Image(name="tool", run_by=built, digest=built), command=("printf", "--version"))
    log = tmp_path / "log"
    for keep, said in ((True, "tool printf --version"), (False, "printf (GNU coreutils)")):
        assert run(replace(job, keep_entrypoint=keep), engine=engine, log=log).succeeded
        assert log.read_text().startswith(said)
    podman.ask("rmi", built)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("/no/such/thing", 127, "'/no/such/thing' is not in the image"),
        ("/etc/passwd", 126, "'/etc/passwd' cannot be executed in the image"),
    ],
)
def test_a_command_that_cannot_run(engine: Engine, base: Image, command: str, code: int, reason: str) -> None:
    ending = run(Job(image=base, command=(command,)), engine=engine)
    assert (ending.code, ending.reason) == (code, reason)


def test_an_engine_that_cannot_start_it(engine: Engine) -> None:
    nothing = Image(name="x", run_by="sha256:" + "0" * 64, digest="")
    ending = run(Job(image=nothing, command=("true",)), engine=engine)
    assert ending.code == 125
    assert ending.reason.startswith("the engine could not start it: ")


def test_a_limit_of_time_and_a_request_end_it(engine: Engine, base: Image, podman: Podman, tmp_path: Path) -> None:
    """One heeds SIGTERM, one does not."""
    heeds = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    ignores = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    log = tmp_path / "log"
    ending = run(sh(base, heeds, limits=Limits(seconds=1.5)), engine=engine, log=log)
    assert (ending.code, ending.reason) == (124, "it took longer than the 1.5 s that it was given")
    assert log.read_text().split() == ["up", "told"]
    stop = threading.Event()
    ending = run(
        sh(base, ignores, limits=Limits(grace_s=0.5)),
        engine=engine,
        log=log,
        stop=stop,
        on_line=lambda line: stop.set(),
    )
    assert (ending.code, ending.reason) == (143, "it was asked to stop")
    assert podman.containers() == []


@pytest.fixture
def caller(podman: Podman, base: Image, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose container is at work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.containers.caller", str(tmp_path), base.run_by],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"},
        stderr=subprocess.DEVNULL,
    )
    wait((tmp_path / "started").exists, "the container is at work")
    assert len(podman.containers()) == 1
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_caller(
    caller: subprocess.Popen[bytes], podman: Podman, tmp_path: Path, told: signal.Signals
) -> None:
    """Ctrl-C is passed on as it is, and waited for; whoever is killed leaves it to the guard."""
    caller.send_signal(told)
    caller.wait(timeout=60)
    if told is signal.SIGINT:
        assert podman.containers() == []
    wait(lambda: not podman.containers(), "the container is gone")
    assert (tmp_path / "told").read_text() == ("INT\n" if told is signal.SIGINT else "TERM\n")


def test_an_image_that_is_not_here_or_another_one(engine: Engine, podman: Podman, tmp_path: Path) -> None:
    """Pinned images are imitated by a small one; the refusal names both digests and the command."""
    (tmp_path / "containers").mkdir()
    (tmp_path / "requirements.lock").touch()
    podman.ask("tag", BASE, "localhost/pinned:1")
    there = podman.ask("image", "inspect", "--format", "{{.Digest}}", BASE)
    other = "sha256:" + "a" * 64

    def found(digest: str, reference: str = "localhost/pinned:1") -> Image:
        (tmp_path / "containers" / "images.yaml").write_text(
            f"images: {{tool: {{reference: '{reference}', digest: '{digest}', "
            "platforms: [], purpose: p, verified: true}}"
        )
        return find_image("tool", engine=engine, root=tmp_path)

    assert found(there).digest == there
    assert found(podman.ask("image", "inspect", "--format", "sha256:{{.Id}}", BASE)).run_by.startswith("sha256:")
    with pytest.raises(UserError) as caught:
        found(other)
    assert f"'localhost/pinned:1' of podman is {there}, pinned is {other}" in str(caught.value)
    assert caught.value.mend == f"podman pull localhost/pinned@{other}"
    with pytest.raises(UserError, match=r"podman has no image 'tool' \(localhost/nowhere@sha256:") as caught:
        found(other, "localhost/nowhere:1")
    assert caught.value.mend == f"podman pull localhost/nowhere@{other}"
    podman.ask("untag", BASE, "localhost/pinned:1")


def test_podmans_docker_is_a_docker(
    podman: Podman, base: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").symlink_to("/usr/bin/docker")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    engine = find_engine(EngineName.DOCKER)
    assert engine.is_podman
    log = tmp_path / "log"
    assert run(sh(base, "echo here", limits=Limits(memory_gb=0.5)), engine=engine, log=log).succeeded
    assert "here\n" in log.read_text()
    assert podman.containers() == []


def test_dockers_own_client_without_a_daemon_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = "/usr/local/bin/docker"
    if shutil.which(client) is None or Path("/var/run/docker.sock").exists():
        pytest.skip("there is no docker client here, or it has a daemon")
    (tmp_path / "docker").symlink_to(client)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"docker: does not answer: Cannot connect to the Docker daemon"):
        find_engine(EngineName.DOCKER)
