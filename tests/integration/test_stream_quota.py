"""Streaming on a disk that has room for two recordings of ten, killed at random moments, from a real web server."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurofm.fetch import FileState
from neurofm.fetch.landing import part_of, size_of
from neurofm.recording import UnitStatus
from tests import disks
from tests.servers.http_files import Fault, FileServer, Request
from tests.streamed import PROJECT, SIDE, Streamed, Watch, digests_in, real_files

SUBJECTS = 10
KILLS = 3
SCRIPT = """
import json, sys
from pathlib import Path
from neurofm.ingest.recording import ingest
from neurofm.units import LocalExecutor
from tests.streamed import Streamed, real_files

if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    files = real_files(Path(told["data"]), subjects=told["subjects"])
    lab = Streamed(Path(told["root"]), told["url"], files)
    summary = lab.stream(executor=LocalExecutor(ingest, workers=1), budget_bytes=told["budget"])
    print(json.dumps({"failed": summary.units.reasons, "fetched": summary.fetched_files}))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the mount point of a new ext4 of 400 KB."""
    place = tmp_path / "project" / ".neurofm" / "stream"
    with disks.small_disk(place, image=tmp_path / "disk.img", kilobytes=400):
        yield place


@pytest.mark.long
def test_a_small_disk_and_kills_cost_nothing_twice(small_disk: Path, tmp_path: Path, shared_data: Path) -> None:
    files = real_files(shared_data, subjects=SUBJECTS)
    one = max(len(content) for content in files.values())
    budget = 2 * one + len(files[SIDE])
    free = shutil.disk_usage(small_disk).free
    assert budget < free < SUBJECTS * one / 2, "the disk is the quota: most of the dataset does not fit"
    chance = random.Random(20261121)

    def slowly(request: Request) -> str:
        time.sleep(0.1)
        return request.path

    with FileServer({f"/{path}": content for path, content in files.items()}) as server, Watch(small_disk) as watch:
        server.route = slowly
        lab = Streamed(small_disk.parents[1], server.url, files)
        had: set[str] = set()
        again = 0
        for _ in range(KILLS):
            running = _start(tmp_path, lab, data=shared_data, budget=budget)
            most = len(files) - len(had)
            _kill_after(running, server, requests=chance.randint(1, min(3, most)), pause_s=chance.uniform(0, 0.4))
            asked = Counter(request.path[1:] for request in server.requests())
            assert not had & set(asked), "what was here or done is not asked for again"
            assert set(asked.values()) <= {1}
            again += sum(len(files[path]) for path in asked)
            had = _here_or_done(lab)
            server.forget()
        assert 0 < len(lab.read_running()) < SUBJECTS, "the kills were in the middle"
        running = _start(tmp_path, lab, data=shared_data, budget=budget)
        out, _ = running.communicate(timeout=300)
        assert running.returncode == 0
        assert json.loads(out)["failed"] == {}
        asked = Counter(request.path[1:] for request in server.requests())
        assert set(asked) == set(files) - had
        assert set(asked.values()) == {1}
        again += sum(len(files[path]) for path in asked)
        # What was on its way when the process was killed comes again: at most one recording and the side file.
        assert again <= sum(map(len, files.values())) + KILLS * (one + len(files[SIDE]))

        _, shards = lab.preprocess(tmp_path / "plain")
        assert lab.shards() == shards
        assert lab.raw_files() == []
        assert {row.state for row in lab.ledger().values()} == {FileState.CONSUMED}

        # Two shards are lost: their files come again, and no others.
        server.forget()
        for shard in sorted((lab.root / "shards").iterdir())[3:5]:
            shard.unlink()
        assert lab.stream(budget_bytes=budget).units.ran == 2
        mains = [recording.files["main"] for recording in lab.manifest.recordings]
        assert dict(server.sent) == {f"/{path}": len(files[path]) for path in (*mains[3:5], SIDE)}
        assert lab.shards() == shards

        # Another setting: every file comes again, once.
        server.forget()
        changed = lab.changed(highpass_hz=0.01)
        assert changed.stream(budget_bytes=budget).units.ran == SUBJECTS
        assert dict(server.sent) == {f"/{path}": len(content) for path, content in files.items()}
        _, shards = changed.preprocess(tmp_path / "changed")
        assert digests_in(lab.root / "shards") == shards
    assert one < watch.most <= budget
    assert watch.looks > 1000


def test_wrong_bytes_are_set_aside_on_another_disk(small_disk: Path, shared_data: Path) -> None:
    files = real_files(shared_data, subjects=3)
    first = max(files)
    with FileServer({f"/{path}": content for path, content in files.items()}) as server:
        server.always[f"/{first}"] = Fault(flip=1000)
        lab = Streamed(small_disk.parents[1], server.url, files)
        summary = lab.stream(budget_bytes=200_000)
    (left_out,) = summary.units.failed
    assert summary.units.statuses[left_out] is UnitStatus.UNAVAILABLE
    assert lab.ledger()[first].state is FileState.QUARANTINED
    assert lab.raw_files() == []
    assert len(lab.shards()) == 2


def _start(tmp_path: Path, lab: Streamed, *, data: Path, budget: int) -> subprocess.Popen[str]:
    script = tmp_path / "stage.py"
    script.write_text(SCRIPT)
    told = {"data": str(data), "subjects": SUBJECTS, "root": str(lab.root), "url": lab.url, "budget": budget}
    return subprocess.Popen(
        [sys.executable, str(script), json.dumps(told)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def _kill_after(running: subprocess.Popen[str], server: FileServer, *, requests: int, pause_s: float) -> None:
    """`kill -9` when so many requests came, and a moment later."""
    deadline = time.monotonic() + 120
    while len(server.asked) < requests and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(pause_s)
    running.kill()
    assert running.wait() == -signal.SIGKILL, "it was still at work"
    time.sleep(0.5)  # The server hears of it, and so do the workers.


def _here_or_done(lab: Streamed) -> set[str]:
    """Return the files of which no byte is needed from the server any more."""
    here = {path for path in lab.raw_files() if path in lab.files}
    for path in here:
        assert (lab.raw / path).read_bytes() == lab.files[path], "a file has its name only once it is right"
    # All its bytes came, and the kill was before its name: the next run has only to look at them.
    here |= {path for path, content in lab.files.items() if size_of(part_of(lab.raw / path)) == len(content)}
    done = lab.read_running()
    by_id = {recording.id: recording.files["main"] for recording in lab.manifest.recordings}
    mains = {by_id[unit] for unit in done}
    return here | mains
