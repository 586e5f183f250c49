"""How long a manifest takes from a git mirror of the size of ds005505: 4 066 small and 1 342 annexed files."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.sources import build_manifest
from tests.servers.annex_repo import BareRepository, Link, annex_key, link_to, log_of, remote_line, version_line

_PROJECT = Path(__file__).resolve().parents[1]
_ACCESSION = "ds005505"
_ANNEXED, _SMALL = 1342, 4066
_TASKS = (
    "RestingState", "DespicableMe", "FunwithFractals", "ThePresent", "DiaryOfAWimpyKid", "surroundSupp",
    "contrastChangeDetection", "seqLearning6target", "seqLearning8target", "symbolSearch",
)  # fmt: skip
_ROUNDS = 3


def rows() -> list[dict[str, Any]]:
    """Return one row: seconds from the clone to the manifest of all files, the median of several rounds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make_repository(root / "host" / _ACCESSION)
        site = FetchSite(hosts=Hosts(openneuro_git=(root / "host").as_uri()))
        entry = _whole(load_entry("hbn-r1", root=_PROJECT))
        build_manifest(entry, root=root, site=site)  # clones
        seconds, files = [], 0
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            files = len(build_manifest(entry, root=root, site=site).files)
            seconds.append(time.perf_counter() - began)
        if files != _ANNEXED + _SMALL:
            msg = f"the manifest has {files} files, not {_ANNEXED + _SMALL}"
            raise AssertionError(msg)
    row = {"case": "manifest of 5400 files", "who": "neurofm", "unit": "s", "higher_is_better": False}
    return [row | {"value": round(statistics.median(seconds), 3)}]


def _whole(entry: CatalogEntry) -> CatalogEntry:
    """Return the entry with all tasks instead of rest."""
    rule = entry.recordings.model_copy(
        update={
            "pattern": r"sub-(?P<subject>[^/_]+)/eeg/[^/]*_task-(?P<task>[^/_]+)(_run-(?P<run>\d+))?_eeg\.set",
            "extra": r"(sub-(?P<subject>[^/]+)/.+|[^/]+|code/[^/]+)",
        }
    )
    source = entry.source.model_copy(update={"include": ("**",)})
    return entry.model_copy(update={"source": source, "recordings": rule})


def _make_repository(folder: Path) -> None:
    """Write a bare repository with as many files as the real one; contents stand for themselves by size and key."""
    repository = BareRepository(folder=folder)
    files: dict[str, bytes | Link] = {"dataset_description.json": b'{"License": "CC-BY-SA 4.0"}', "README": b"HBN\n"}
    logs: dict[str, bytes | Link] = {"remote.log": remote_line(_ACCESSION)}
    for number in range(_ANNEXED):
        subject, task = f"sub-NDAR{number // len(_TASKS):08d}", _TASKS[number % len(_TASKS)]
        stem = f"{subject}/eeg/{subject}_task-{task}"
        key = annex_key(stem.encode(), f"{task}_eeg.set")
        files[f"{stem}_eeg.set"] = link_to(key, f"{stem}_eeg.set")
        files[f"{stem}_eeg.json"] = b'{"SamplingFrequency": 500, "RecordingDuration": %d}' % number
        files[f"{stem}_channels.tsv"] = b"name\ttype\tunits\n" + b"E1\tEEG\tuV\n" * 129
        files[f"{stem}_events.tsv"] = b"onset\tduration\tsample\tvalue\n%d.288\tn/a\t644\tresting_start\n" % number * 30
        logs[log_of(key, ".log")] = f"1590213748.042921433s 1 {'a' * 8}-0000-0000-0000-{number:012d}\n".encode()
        version = f"{number:032x}"
        logs[log_of(key, ".log.rmet")] = version_line(version, f"{_ACCESSION}/{stem}_eeg.set")
    for number in range(_SMALL - (len(files) - _ANNEXED)):
        files[f"code/table-{number}.tsv"] = f"data_pnts,event_cnt\n{number},1\n".encode()
    repository.commit(files, tag="1.0.1")
    repository.commit(logs, branch="git-annex")


if __name__ == "__main__":
    print(rows())
