"""Two processes on one dataset at once, and one that takes over from another that was killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from neurofm.fetch.ledger import DatasetKey, FileState
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    Fetching,
    edf_fixture,
    fetching_fixture,
    files_fixture,
    served,
    start_child,
)
from tests.servers.http_files import Fault, FileServer

PATIENCE_S = 60.0


def _starting_together(jobs: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    """Run each job in a process of its own, all from the same moment; returns what they said."""
    go = tmp_path / "go"
    children = [start_child([job], tmp_path / f"{number}.json", start=go) for number, job in enumerate(jobs)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    go.touch()
    said = []
    for child in children:
        out, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode == 0, err[-3000:]
        said.append(json.loads(out))
    return said


def test_each_file_is_fetched_once_in_all(files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path) -> None:
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number : 100_000 + number] for number in range(60)}
    manifest = served(files)
    said = _starting_together([fetching.job(manifest, timeout_s=20.0)] * 2, tmp_path)
    asked = sorted(request.path for request in files.asked)
    assert asked == sorted(files.files)
    assert sum(one["fetched_files"] for one in said) == 60
    assert all(one["fetched_files"] + one["kept_files"] == 60 for one in said)
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}
    assert set(fetching.states().values()) == {FileState.VERIFIED}


def test_two_datasets_share_the_ledger(files: FileServer, edf: bytes, tmp_path: Path) -> None:
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number : 10_000 + number] for number in range(200)}
    manifest = served(files)
    both = [
        Fetching(home=tmp_path, who=DatasetKey(dataset=name, archive="http", version="1")) for name in ("one", "two")
    ]
    for here in both:
        here.raw = tmp_path / "data" / here.who.dataset
    said = _starting_together([here.job(manifest, timeout_s=20.0) for here in both], tmp_path)
    assert [one["fetched_files"] for one in said] == [200, 200]
    for here in both:
        assert set(here.states().values()) == {FileState.VERIFIED}
        assert len(here.present()) == 200


def test_one_takes_over_when_the_other_is_killed(
    files: FileServer, fetching: Fetching, edf: bytes, tmp_path: Path
) -> None:
    """The first stalls on a file and is killed with SIGKILL; the second, which waited, does the rest."""
    files.files = {f"/sub-{number:02}/eeg.edf": edf[number:] for number in range(6)}
    files.script["/sub-03/eeg.edf"] = [Fault(stall_at=400_000)]
    manifest = served(files)
    job = fetching.job(manifest, timeout_s=30.0)
    first = start_child([job], tmp_path / "first.json")
    until = time.monotonic() + PATIENCE_S
    while files.sent["/sub-03/eeg.edf"] < 400_000:
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.01)
    second = start_child([job], tmp_path / "second.json")
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=PATIENCE_S)
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err[-3000:]
    summary = json.loads(out)
    assert (summary["failed"], summary["quarantined"]) == ({}, {})
    assert fetching.present() == {path[1:]: content for path, content in files.files.items()}
    assert set(fetching.states().values()) == {FileState.VERIFIED}
