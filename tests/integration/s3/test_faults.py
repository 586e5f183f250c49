"""Whatever goes wrong between a project and its remote: nothing is lost, it is said in one line, and going on works."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neurofm.remote.bucket import LARGE_BYTES
from tests.fetch.test_disk import Disk, disk
from tests.integration.s3.conftest import BUCKET, Clone, Objects, key_of, only_line
from tests.servers.proxy import Exchange, Fault, Proxy
from tests.servers.seaweed import SeaweedServer
from tests.servers.stall import Stall

__all__ = ["disk"]

FILES = 122
"""Of the project: 120 series, an EEG, the split."""
LISTS = 2
"""One for each folder of shards."""
WAIT_S = 60.0


def is_whole(content: dict[str, bytes]) -> bool:
    """Whether every object of a remote is what its name says."""
    return all(
        hashlib.md5(body, usedforsecurity=False).hexdigest() == "".join(key.split("/")[-2:]).removesuffix(".dir")
        for key, body in content.items()
    )


def arrives_whole(project: Clone) -> bool:
    """Whether a fresh clone gets the same bytes by plain DVC."""
    other = project.clone()
    other.do("dvc", "pull")
    return other.files() == project.files() and other.repro() == []


def series(project: Clone) -> list[bytes]:
    return [path.read_bytes() for path in sorted((project.root / "data" / "shards" / "rest").iterdir())]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.005)


def line_of(process: subprocess.Popen[str]) -> str:
    """Wait for a command that ends with a user's mistake, and return its line."""
    _, err = process.communicate(timeout=300)
    return only_line(process.returncode, err)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[SeaweedServer]:
    """A server that the test may kill."""
    with SeaweedServer(tmp_path / "weed", public=False) as server:
        server.make_bucket(BUCKET)
        yield server


def kill(server: SeaweedServer) -> None:
    """Kill -9, as a power cut would."""
    os.killpg(server.pid, signal.SIGKILL)
    server.stop()


@pytest.mark.long
def test_the_server_is_killed_in_the_middle(project: Clone, own_server: SeaweedServer) -> None:
    project.env = key_of(own_server)
    project.use(f"s3://{BUCKET}/here", own_server.url)

    pushing = project.start("neurofm", "push")
    until(lambda: len(own_server.keys(BUCKET)) > 10)
    kill(own_server)
    line = line_of(pushing)
    assert "the server cannot be reached" in line
    assert "files are through" in line
    own_server.start()
    stored = own_server.objects(BUCKET)
    assert 10 <= len(stored) < FILES
    assert is_whole(stored)
    assert not any(key.endswith(".dir") for key in stored), "lists go last"
    assert f"{len(stored)} are there already" in project.do("neurofm", "push")
    assert len(own_server.keys(BUCKET)) == FILES + LISTS

    other = project.clone()
    pulling = other.start("neurofm", "pull")
    until(lambda: len(other.cached()) > 10)
    kill(own_server)
    assert "the server cannot be reached" in line_of(pulling)
    kept = other.cached()
    assert len(kept) < FILES + LISTS
    assert not (other.root / "data" / "shards").exists(), "nothing half done in its place"
    own_server.start()
    other.do("neurofm", "pull")
    assert other.files() == project.files()
    assert kept.items() <= other.cached().items(), "what had come did not come again"
    assert other.repro() == []


@pytest.mark.long
def test_the_server_is_killed_in_the_middle_of_plain_dvc(project: Clone, own_server: SeaweedServer) -> None:
    """DVC tries every file again for long; the server is back before that ends."""
    project.env = key_of(own_server)
    project.use(f"s3://{BUCKET}/here", own_server.url)
    pushing = project.start("dvc", "push")
    until(lambda: len(own_server.keys(BUCKET)) > 10)
    kill(own_server)
    own_server.start()
    assert is_whole(own_server.objects(BUCKET))
    pushing.communicate(timeout=300)
    project.do("dvc", "push")

    other = project.clone()
    pulling = other.start("dvc", "pull")
    until(lambda: len(other.cached()) > 10)
    kill(own_server)
    own_server.start()
    pulling.communicate(timeout=300)
    other.do("dvc", "pull")
    assert other.files() == project.files()
    assert other.repro() == []


def test_a_wrong_key(configured: Clone) -> None:
    configured.do("neurofm", "push")
    other = configured.clone()
    key = configured.env["AWS_ACCESS_KEY_ID"]
    for env, told in (
        ({"AWS_ACCESS_KEY_ID": "AKnobody"}, "the access key is not known there"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong" * 8}, "the secret key does not belong to the access key"),
    ):
        for clone, command in ((configured, "push"), (other, "pull")):
            line = clone.complaint("neurofm", command, env=env)
            assert told in line
            assert key not in line
            assert "wrong" not in line
    other.do("neurofm", "pull")
    assert other.files() == configured.files()


def test_no_credentials(configured: Clone) -> None:
    for command in (["push"], ["pull"], ["remote", "check"]):
        line = Clone(configured.root).complaint("neurofm", *command, env={"AWS_EC2_METADATA_DISABLED": "true"})
        assert "no credentials were found" in line
        assert "AWS_ACCESS_KEY_ID" in line


def test_a_read_only_key(project: Clone, tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path / "weed", public=False)
    reader, writer = server.key_for("Read", "List"), server.key_for("Read", "List", "Write")
    address = f"s3://{BUCKET}/here"
    with server:
        server.make_bucket(BUCKET)
        project.env = key_of(server)
        project.use(address, server.url)
        before = (project.root / ".dvc" / "config").read_text()
        use = ("neurofm", "remote", "use", f"{address}/other", "--endpoint", server.url)
        assert "may read, and not write" in project.complaint(*use, env=reader)
        assert (project.root / ".dvc" / "config").read_text() == before
        assert "this key may not do that" in project.complaint("neurofm", "push", env=reader)
        assert not server.keys(BUCKET)
        project.do("neurofm", "push")
        other = project.clone()
        assert "may read, and not write" in other.do(*use, "--read-only", "--local", env=reader)
        (other.root / ".dvc" / "config.local").unlink()
        other.do("neurofm", "pull", env=reader)
        assert other.files() == project.files()
        other.do("neurofm", "remote", "check", env=reader)

        # The policy that docs/remote.md advises: nothing is removed, and probes do not heap up.
        server.keep(BUCKET)
        before_probing = server.keys(BUCKET)
        for _ in range(2):
            assert "may read and write" in project.do(*use, "--local", env=writer)
        assert set(server.keys(BUCKET)) - set(before_probing) == {"here/other/neurofm-probe"}


@pytest.mark.long
def test_the_disk_of_the_bucket_is_full(project: Clone, disk: Disk) -> None:
    """A real one of a few megabytes; there is room again later."""
    subprocess.run(["mount", "-o", "remount,size=24m", str(disk.folder)], check=True)
    with SeaweedServer(disk.folder / "weed", public=False, volume_mb=1) as server:
        server.make_bucket(BUCKET)
        project.env = key_of(server)
        project.use(f"s3://{BUCKET}/here", server.url)
        disk.fill(but=1_500_000)
        line = project.complaint("neurofm", "push")
        assert "maybe a full disk" in line
        (disk.folder / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=256m", str(disk.folder)], check=True)
        server.stop()
        server.start()
        assert is_whole(server.objects(BUCKET, "here"))
        project.do("neurofm", "push")
        assert len(server.keys(BUCKET, "here")) == FILES + LISTS


def test_an_object_that_was_changed_is_found_named_and_sent_again(
    configured: Clone, server: SeaweedServer, url: str, objects: Objects
) -> None:
    configured.do("dvc", "push")
    before = objects()
    key = next(key for key, body in before.items() if not key.endswith(".dir") and len(body) > 1000)
    changed = bytearray(before[key])
    changed[500] ^= 1
    server.put(BUCKET, f"{url.removeprefix(f's3://{BUCKET}/')}/{key}", bytes(changed))
    digest = "".join(key.split("/")[-2:])
    names = {hashlib.md5(body, usedforsecurity=False).hexdigest(): name for name, body in configured.files().items()}

    other = configured.clone()
    line = other.complaint("neurofm", "pull")
    assert f"data/{names[digest]}: what {url} holds is damaged" in line
    assert "neurofm push" in line
    by_dvc = other.run("dvc", "pull")
    assert by_dvc.returncode != 0, "with `verify`, DVC does not believe it either"
    assert configured.run("dvc", "push").stdout.strip() == "Everything is up to date.", "DVC does not look"

    said = configured.do("neurofm", "push")
    assert f"damaged there, replaced: data/{names[digest]}" in said
    assert objects() == before
    other.do("neurofm", "pull")
    assert other.files() == configured.files()


def test_what_was_never_pushed_is_named_and_the_rest_comes(
    configured: Clone, server: SeaweedServer, url: str, objects: Objects
) -> None:
    """More files in a row than after which a server counts as gone; and a folder of which even the list is absent."""
    configured.do("neurofm", "push")
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    names = {"".join(key.split("/")[-2:]): key for key in objects()}
    rest = [names[hashlib.md5(body, usedforsecurity=False).hexdigest()] for body in series(configured)[:20]]
    (eeg,) = [key for key, body in objects().items() if key.endswith(".dir") and b"Subject21" in body]
    for key in (*rest, eeg):
        server.remove(BUCKET, f"{prefix}/{key}")

    other = configured.clone()
    line = other.complaint("neurofm", "pull")
    assert f"{url} lacks data/shards/eeg, data/shards/rest/" in line
    assert " and 18 more" in line
    assert "`neurofm push` on the machine that has it" in line
    # The EEG itself is not asked for, since only the list tells of it.
    assert len(other.cached()) == FILES + LISTS - len(rest) - 2

    # A clone that has a part may push: what it lacks is looked for there.
    assert "data/shards/eeg" in other.complaint("neurofm", "push")
    configured.do("neurofm", "push")
    assert len(objects()) == FILES + LISTS
    part = configured.clone()
    part.do("neurofm", "pull", "--stage", "split")
    assert f"all {FILES + LISTS} files are on" in part.do("neurofm", "push")
    assert len(part.cached()) == 1
    other.do("neurofm", "pull")
    assert other.files() == configured.files()


@pytest.mark.long
def test_a_large_file(project: Clone, server: SeaweedServer, url: str, objects: Objects) -> None:
    """It goes in parts, by other ways than small ones; so the server dies, and the file is damaged, once more."""
    (project.root / "dvc.yaml").write_text(
        "stages:\n  preprocess:\n    cmd: mkdir -p data/shards && seq 9000000 > data/shards/large\n"
        "    outs: [data/shards/large]\n"
    )
    project.repro()
    project.env = key_of(server) | {"AWS_MAX_ATTEMPTS": "1"}
    large = project.root / "data" / "shards" / "large"
    assert large.stat().st_size >= LARGE_BYTES

    with Stall(server.address, after=20_000_000) as stall:
        project.use(url, stall.url)
        pushing = project.start("neurofm", "push")
        assert stall.reached.wait(WAIT_S)
    assert "the server cannot be reached" in line_of(pushing)
    project.use(url, server.url)
    project.do("neurofm", "push")
    ((key, body),) = objects().items()
    changed = body[:-9] + b"x" + body[-8:]
    server.put_parts(BUCKET, f"{url.removeprefix(f's3://{BUCKET}/')}/{key}", changed, part_bytes=50 << 20)

    other = project.clone()
    assert re.search(r"damaged; .+ Mend: `neurofm push --reread`", other.complaint("neurofm", "pull"))
    assert project.do("neurofm", "push").startswith("Nothing to push"), "the ETag of parts does not tell"
    assert "damaged there, replaced: data/shards/large" in project.do("neurofm", "push", "--reread")
    assert objects() == {key: body}
    other.do("neurofm", "pull")
    assert other.files()["shards/large"] == large.read_bytes()


def test_what_is_damaged_here_is_not_pushed(configured: Clone, objects: Objects) -> None:
    victim = next(
        path for path in (configured.root / ".dvc" / "cache").rglob("*") if path.is_file() and path.suffix == ""
    )
    content = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    line = configured.complaint("neurofm", "push")
    assert "damaged in the cache of this machine" in line
    assert str(victim.relative_to(configured.root)) in line
    assert is_whole(objects())
    victim.write_bytes(content)
    configured.do("neurofm", "push")
    assert len(objects()) == FILES + LISTS


def test_a_folder_that_was_pushed_in_part_is_completed(configured: Clone, objects: Objects) -> None:
    """DVC pushes the list of a folder with any one of its files, and from then on believes that all are there."""
    one = min((configured.root / "data" / "shards" / "rest").iterdir())
    configured.do("dvc", "push", str(one.relative_to(configured.root)))
    assert configured.do("dvc", "push", "preprocess@rest").strip() == "Everything is up to date."
    assert len(objects()) == 2
    configured.do("neurofm", "push")
    assert len(objects()) == FILES + LISTS
    assert arrives_whole(configured)


def test_two_pushes_at_once(configured: Clone, objects: Objects) -> None:
    other = configured.clone()
    other.do("dvc", "repro")
    both = [clone.start("neurofm", "push") for clone in (configured, other)]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert len(objects()) == FILES + LISTS
    assert is_whole(objects())


def test_two_pushes_in_one_project_at_once(configured: Clone, objects: Objects) -> None:
    both = [configured.start("neurofm", "push") for _ in range(2)]
    ends = []
    for process in both:
        _, err = process.communicate(timeout=300)
        ends.append(process.returncode)
        if process.returncode:
            line = only_line(process.returncode, err)
            assert "another command of DVC is at work" in line
    assert 0 in ends
    assert is_whole(objects())
    assert len(objects()) == FILES + LISTS


def test_credentials_that_expire_in_the_middle(
    project: Clone, server: SeaweedServer, url: str, objects: Objects
) -> None:
    with Proxy(server.address) as proxy:
        project.env = key_of(server)
        project.use(url, proxy.url)

        def expired_after(count: int, method: str) -> Callable[[Exchange], Fault | None]:
            seen = 0

            def script(exchange: Exchange) -> Fault | None:
                nonlocal seen
                seen += exchange.method == method
                return Fault(refuse="ExpiredToken") if seen > count else None

            return script

        proxy.script = expired_after(40, "PUT")
        line = project.complaint("neurofm", "push")
        assert "the credentials have expired" in line
        assert 30 <= len(objects()) <= 40
        assert is_whole(objects())
        proxy.script = lambda _: None
        assert " are there already" in project.do("neurofm", "push")

        other = project.clone()
        proxy.script = expired_after(40, "GET")
        line = other.complaint("neurofm", "pull")
        assert "the credentials have expired" in line
        assert not (other.root / "data" / "shards").exists(), "nothing half done in its place"
        proxy.script = lambda _: None
        proxy.forget()
        other.do("neurofm", "pull")
        assert proxy.requests() <= FILES - 30
        assert other.files() == project.files()


def test_bytes_that_turn_on_the_way_are_noticed(project: Clone, server: SeaweedServer, url: str) -> None:
    with Proxy(server.address) as proxy:
        project.env = key_of(server)
        project.use(url, proxy.url)
        project.do("neurofm", "push")
        other = project.clone()
        turned: list[str] = []

        def once(exchange: Exchange) -> Fault | None:
            if exchange.method == "GET" and len(proxy.exchanges) == 20 and not turned:
                turned.append(exchange.path)
                return Fault(corrupt_at=100)
            return None

        proxy.script = once
        proxy.forget()
        other.do("neurofm", "pull")
        assert turned, "nothing was turned"
        assert other.files() == project.files()
