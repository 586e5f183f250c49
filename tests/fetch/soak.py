"""Kill a fetch with SIGKILL at random moments, hundreds of times, and look at what is left: ``make soak``.

A child process fetches a dataset from SeaweedFS, through a proxy that counts and now and then cuts. After each kill:

- no file lies under its name that is not the pinned one, whole;
- what the ledger calls verified is there, and after a restart the ledger's verified files are those on disk, exactly;
- the next process asks for nothing that is there: not for a whole file, and of an unfinished one only for the rest.

At the end of each campaign (a fetch from nothing to everything, however often it was killed) all is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neurofm.errors import UserError
from neurofm.fetch import fetch_files
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import FileState, Ledger
from neurofm.files import sha256_of, write_json
from neurofm.progress import Progressing
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from tests.servers.fixtures import PROJECT, Fetching, start_child
from tests.servers.proxy import Exchange, Fault, Proxy
from tests.servers.seaweed import SeaweedServer, seaweed

MIB = 1 << 20
RESULTS = PROJECT / "benchmarks" / "soak.json"
BUCKET = "soak"
IN_FLIGHT_BYTES = 8 * MIB
"""Most that one connection may have under way when its process dies: in the kernel, and gathered for the disk."""
_KINDS = ("sha256", "md5", "s3-etag", FIRST_USE)


class Disagreement(AssertionError):
    """What lies on disk, what the ledger says and what was asked for do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large the dataset is and how often it is killed."""

    kills: int
    seed: int
    files: int = 300
    least: int = 10_000
    most: int = 30_000_000
    """Bytes of the smallest and the largest file; sizes in between are spread evenly over orders of magnitude."""
    rate: float = 100e6
    """Bytes a second that the proxy lets pass, so that a fetch lasts long enough to be killed often."""
    life_s: float = 2.0
    """A process is killed within so many seconds."""
    cuts: float = 0.02
    """Share of answers that the proxy cuts."""


@dataclass(kw_only=True)
class Figures:
    """What the soak counted."""

    kills: int = 0
    campaigns: int = 0
    dataset_bytes: int = 0
    requests: int = 0
    bytes: int = 0
    """Of bodies, in all campaigns."""
    over: int = 0
    """Bytes beyond the files' sizes."""
    hashed: int = 0
    """Files under their names, over all looks at the disk."""
    kept: int = 0
    """Files that were there when a process began, over all processes that followed a kill."""
    resumed: int = 0
    """Requests that went on with what a killed process had left."""
    seconds: float = 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures as benchmarks are written down."""
        facts: list[tuple[str, float, str, bool]] = [
            ("kill -9 at random moments", self.kills, "kills", True),
            ("fetches from nothing to everything", self.campaigns, "campaigns", True),
            ("size of the dataset", self.dataset_bytes / 1e6, "MB", True),
            ("files found under their names after kills, each hashed and right", self.hashed, "files", True),
            ("files there when a process began, none asked for again", self.kept, "files", True),
            ("requests", self.requests, "requests", False),
            ("requests that went on where a killed process had stopped", self.resumed, "requests", True),
            ("bytes over the files' sizes", self.over / self.bytes if self.bytes else 0.0, "fraction", False),
            ("bytes over, per kill", self.over / self.kills / 1e6 if self.kills else 0.0, "MB", False),
            ("seconds", self.seconds, "s", False),
        ]
        return [
            {"case": f"soak: {case}", "who": "neurofm", "value": value, "unit": unit, "higher_is_better": better}
            for case, value, unit, better in facts
        ]


def contents(plan: Plan, data: Path) -> Iterator[tuple[str, bytes]]:
    """Yield paths and contents: real recordings one after the other, cut to many sizes, no two alike."""
    pool = b"".join(path.read_bytes() for path in sorted((data / "eeg" / "eegmat").glob("*_1.edf"))[:8])
    pool += b"".join(path.read_bytes() for path in sorted((data / "ephys").rglob("A2929-200711.nwb")))
    pool *= math.ceil(2 * plan.most / len(pool))
    draw = random.Random(plan.seed)
    for number in range(plan.files):
        size = int(math.exp(draw.uniform(math.log(plan.least), math.log(plan.most))))
        start = draw.randrange(len(pool) - size)
        path = f"sub-{number % 20:02}/ses-{number // 20:02}/recording-{number:03}.edf"
        yield path, (number.to_bytes(8, "big") + pool[start : start + size])[:size]


def upload(server: SeaweedServer, plan: Plan, data: Path) -> tuple[list[ManifestFile], dict[str, str]]:
    """Store the dataset; returns its manifest, in all kinds of digests, and the true SHA-256 of each file."""
    server.make_bucket(BUCKET, versioned=True)
    manifest, truth = [], {}
    with Progressing("upload", total=plan.files, unit="files") as progress:
        for number, (path, content) in enumerate(contents(plan, data)):
            parts = number % 3 == 0 and len(content) > 5 * MIB
            stored = server.put_parts(BUCKET, path, content) if parts else server.put(BUCKET, path, content)
            truth[path] = hashlib.sha256(content).hexdigest()
            kind = _KINDS[number % len(_KINDS)]
            digest = {
                "sha256": f"sha256:{truth[path]}",
                "md5": f"md5:{hashlib.md5(content).hexdigest()}",
                "s3-etag": f"s3-etag:{stored.etag}",
                FIRST_USE: FIRST_USE,
            }[kind]
            # Half are asked for by version, half by ETag only.
            version = stored.version_id if number % 2 else ""
            manifest.append(
                ManifestFile(path=path, size=len(content), digest=digest, origin=stored.origin, version_id=version)
            )
            progress.advance()
    return manifest, truth


@dataclass(kw_only=True)
class Soak:
    """A soak under way."""

    plan: Plan
    home: Path
    proxy: Proxy
    manifest: list[ManifestFile]
    truth: dict[str, str]
    draw: random.Random
    figures: Figures = field(default_factory=Figures)

    def run(self) -> Figures:
        """Kill as often as planned; returns what was counted.

        Raises
        ------
        Disagreement
            At the first thing that is not as it has to be.
        """
        started = time.monotonic()
        self.figures.dataset_bytes = sum(file.size for file in self.manifest)
        self.proxy.script = self._cut_now_and_then
        with Progressing(f"soak (seed {self.plan.seed})", total=self.plan.kills, unit="kills") as self.progress:
            while self.figures.kills < self.plan.kills:
                self._campaign()
        self.figures.seconds = time.monotonic() - started
        return self.figures

    def _cut_now_and_then(self, _: Exchange) -> Fault | None:
        if self.draw.random() >= self.plan.cuts:
            return None
        return Fault(cut_after=self.draw.randrange(1, 4 * MIB))

    def _campaign(self) -> None:
        """Fetch everything from nothing; killed at random moments as long as kills are left."""
        self.figures.campaigns += 1
        here = Fetching(home=self.home / f"campaign-{self.figures.campaigns}", site=self._site())
        here.home.mkdir()
        first = len(self.proxy.exchanges)
        kills = 0
        there: frozenset[str] = frozenset()
        parts: dict[str, int] = {}
        while True:
            before = len(self.proxy.exchanges)
            whole = self._life(here, killed=self.figures.kills < self.plan.kills)
            self._nothing_asked_again(self.proxy.exchanges[before:], there, parts)
            there = self._check_disk(here)
            if whole:
                break
            kills += 1
            self.figures.kills += 1
            self.progress.advance()
            self._check_restart(here, there)
            parts = self._parts(here)
        if there != self.truth.keys():
            raise Disagreement(f"the fetch ended well, and {len(self.truth) - len(there)} files are missing")
        asked = self.proxy.exchanges[first:]
        received = sum(exchange.body_bytes for exchange in asked)
        over = received - self.figures.dataset_bytes
        # First-use files have no digest that could vouch for a beginning whose answer was not written down: of these
        # the unfinished ones may be asked for from the start.
        anew = sum(file.size for file in self.manifest if file.digest == FIRST_USE and file.size < MIB)
        most = kills * (self._site().connections_per_host * IN_FLIGHT_BYTES + anew)
        if not 0 <= over <= most:
            raise Disagreement(f"{over} bytes over in {kills} kills")
        self.figures.requests += len(asked)
        self.figures.bytes += received
        self.figures.over += over
        shutil.rmtree(here.home)

    def _site(self) -> FetchSite:
        return FetchSite(hosts=Hosts(s3=self.proxy.url), longest_pause_s=0.05, timeout_s=20.0)

    def _life(self, here: Fetching, *, killed: bool) -> bool:
        """Let a process fetch; kill it at a random moment. Returns whether it came to its end before."""
        child = start_child([here.job(self.manifest)], here.home / "spec.json")
        try:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise Disagreement(f"the fetch did not start: {child.communicate()[1][-3000:]}")
            if killed and self.draw.random() < 0.5:
                self._wait_for_request(child)
            try:
                out, err = child.communicate(timeout=self.draw.random() * self.plan.life_s if killed else 600)
            except subprocess.TimeoutExpired:
                os.kill(child.pid, signal.SIGKILL)
                child.communicate()
                return False
        finally:
            child.kill()
            child.wait()
        said = json.loads(out) if child.returncode == 0 else {}
        if child.returncode or said.get("failed") or said.get("quarantined") or "error" in said:
            raise Disagreement(f"the fetch ended badly: {out[-1000:]} {err[-3000:]}")
        return True

    def _wait_for_request(self, child: subprocess.Popen[str]) -> None:
        """Let half of the processes get to the network first: looking at what is there takes most of a short life."""
        before = len(self.proxy.exchanges)
        while len(self.proxy.exchanges) == before and child.poll() is None:
            time.sleep(0.005)

    def _check_disk(self, here: Fetching) -> frozenset[str]:
        """Hash whatever lies under a name, and compare the ledger with it; returns what is there."""
        there = set()
        for path in here.raw.rglob("*"):
            name = path.relative_to(here.raw).as_posix()
            if not path.is_file() or _is_part(path):
                continue
            if name not in self.truth:
                raise Disagreement(f"{name} is no file of the dataset")
            if sha256_of(path) != self.truth[name]:
                raise Disagreement(f"{name} is believed and wrong")
            there.add(name)
        self.figures.hashed += len(there)
        if here.ledger.exists():
            self._check_ledger(here.ledger, here, there, exactly=False)
        return frozenset(there)

    def _check_ledger(self, ledger: Path, here: Fetching, there: set[str] | frozenset[str], *, exactly: bool) -> None:
        with tempfile.TemporaryDirectory(dir=here.home) as copied:
            copy = _copy_of(ledger, Path(copied))
            with Ledger.open(copy) as opened:
                if list(copy.parent.glob("*.damaged-*")):
                    raise Disagreement("the ledger is damaged")
                rows = {row.path: row for row in opened.rows(here.who.dataset)}
        verified = {path for path, row in rows.items() if row.state is FileState.VERIFIED}
        if not verified <= there or (exactly and verified != there):
            raise Disagreement(f"verified in the ledger and on disk differ: {sorted(verified ^ there)[:5]}")
        for path, row in rows.items():
            if row.state in {FileState.QUARANTINED, FileState.CONSUMED}:
                raise Disagreement(f"{path} is {row.state}: {row.reason}")
            if row.sha256 and row.sha256 != self.truth[path]:
                raise Disagreement(f"the ledger knows a wrong SHA-256 of {path}")

    def _check_restart(self, here: Fetching, there: frozenset[str]) -> None:
        """Look, on a copy of the ledger, at what a restarted fetch believes before it asks for anything."""
        with tempfile.TemporaryDirectory(dir=here.home) as copied:
            work = Path(copied)
            copy = _copy_of(here.ledger, work)
            # Offline it surveys what is there, and then says what is missing.
            with Ledger.open(copy) as ledger, suppress(UserError):
                fetch_files(
                    self.manifest,
                    who=here.who,
                    folder=here.raw,
                    ledger=ledger,
                    site=self._site().model_copy(update={"offline": True}),
                    work=work,
                )
            self._check_ledger(copy, here, there, exactly=True)

    def _parts(self, here: Fetching) -> dict[str, int]:
        """Return what unfinished files a killed process left, by the path of the file."""
        sizes = {}
        for path in here.raw.rglob(".*.part"):
            name = path.with_name(path.name[1:].removesuffix(".part")).relative_to(here.raw).as_posix()
            sizes[name] = path.stat().st_size
        return sizes

    def _nothing_asked_again(self, asked: list[Exchange], there: frozenset[str], parts: dict[str, int]) -> None:
        """Hold the requests of one process against what the one before had left."""
        first: dict[str, Exchange] = {}
        for exchange in asked:
            first.setdefault(exchange.path.removeprefix(f"/{BUCKET}/"), exchange)
        if again := sorted(first.keys() & there):
            raise Disagreement(f"asked for again although it was there: {again[:5]}")
        self.figures.kept += len(there)
        by_path = {file.path: file for file in self.manifest}
        for path, size in parts.items():
            if path not in first or not size or by_path[path].digest == FIRST_USE:
                continue
            if size == by_path[path].size:
                raise Disagreement(f"asked for {path} although all of it was there")
            if first[path].range != f"bytes={size}-":
                raise Disagreement(f"{path}: {size} bytes were there, and {first[path].range!r} was asked for")
            self.figures.resumed += 1


def _is_part(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


def _copy_of(ledger: Path, folder: Path) -> Path:
    """Copy a ledger with what a killed process left beside it; as a copy it can be opened without changing it."""
    for tail in ("", "-wal", "-shm"):
        if (place := ledger.with_name(ledger.name + tail)).exists():
            shutil.copyfile(place, folder / place.name)
    return folder / ledger.name


def soak(plan: Plan, *, data: Path, home: Path) -> Figures:
    """Run a soak in a folder of its own.

    Parameters
    ----------
    plan
        How large and how often.
    data
        The shared recordings.
    home
        Where the server and the dataset lie; twice the dataset's size is needed.
    """
    with seaweed(home / "seaweed") as server:
        manifest, truth = upload(server, plan, data)
        with Proxy(server.address, rate=plan.rate) as proxy:
            running = Soak(
                plan=plan,
                home=home,
                proxy=proxy,
                manifest=manifest,
                truth=truth,
                draw=random.Random(plan.seed),
            )
            return running.run()


def main() -> None:
    """Run the soak, print its figures and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    options = parser.parse_args()
    data = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"error: {data}: the shared recordings are not there. Mend: set NEUROFM_TEST_DATA")
    plan = Plan(kills=options.kills, files=options.files, seed=options.seed)
    print(f"seed {plan.seed} (the same kills again: python -m tests.fetch.soak --seed {plan.seed})")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="neurofm-soak-") as home:
        figures = soak(plan, data=data, home=Path(home))
    table = Table("case", "value", "unit")
    for row in figures.rows():
        table.add_row(row["case"], f"{row['value']:.4g}", row["unit"])
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, figures.rows())
    print(f"written to {RESULTS.relative_to(PROJECT)}")  # noqa: T201


if __name__ == "__main__":
    main()
