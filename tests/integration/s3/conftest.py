"""Projects in git whose artefacts are real recordings, and a real S3 server as their remote."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from neurofm.remote.address import parse_address
from neurofm.remote.project import RemoteSettings, write_settings
from tests.servers.fixtures import PROJECT, missing_part
from tests.servers.seaweed import NoServer, SeaweedServer, seaweed

BUCKET = "artefacts"
DVC_YAML = """\
stages:
  preprocess:
    foreach: [rest, eeg]
    do:
      cmd: mkdir -p data/shards && cp -r ../lab/${item} data/shards/${item}
      deps:
        - params.yaml
      outs:
        - data/shards/${item}
  split:
    cmd: ls data/shards > data/splits.json
    deps:
      - data/shards
    outs:
      - data/splits.json
"""
"""The shape of the project's own pipeline; a shard is a file of a real recording."""


@dataclass
class Clone:
    """A project's folder, and what a person's shell has when working there."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command as a user would who has activated the environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={
                **kept,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.root.parent),
                "DVC_NO_ANALYTICS": "1",
                "DVC_SITE_CACHE_DIR": str(self.root.parent / f"site-{self.root.name}"),
                "GIT_CONFIG_GLOBAL": os.devnull,
                **self.env,
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, env=env)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def do(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command that must succeed; returns what it printed."""
        done = self.run(*command, env=env)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def complaint(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command that must end with a user's mistake, and return its one line."""
        done = self.run(*command, env=env)
        return only_line(done.returncode, done.stderr)

    def commit(self) -> None:
        self.do("git", "add", "--all")
        self.do("git", "-c", "user.name=Doe", "-c", "user.email=doe@lab", "commit", "--quiet", "--message", "state")

    def use(self, url: str, endpoint: str) -> None:
        """Make this the remote as `neurofm remote use` writes it, without trying it first: other tests do."""
        address = parse_address(url)
        write_settings(self.root, RemoteSettings(name="storage", address=address, endpoint=endpoint))
        self.commit()

    def clone(self, name: str = "") -> Clone:
        """Clone into an empty folder; nothing but git and the environment comes along."""
        folder = self.root.parent / (name or f"clone-{uuid4().hex[:8]}")
        self.do("git", "clone", "--quiet", self.root.as_uri(), str(folder))
        return Clone(folder, self.env)

    def repro(self, *arguments: str) -> list[str]:
        return re.findall(r"Running stage '([^']+)'", self.do("dvc", "repro", *arguments))

    def cached(self) -> dict[str, int]:
        """Return the objects in the cache with the times at which they came; unfinished ones aside."""
        found = [path for path in (self.root / ".dvc" / "cache").rglob("*") if path.is_file()]
        return {path.name: path.stat().st_mtime_ns for path in found if not path.name.startswith(".")}

    def files(self) -> dict[str, bytes]:
        """Return the artefacts by path."""
        data = self.root / "data"
        return {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}


def only_line(code: int, stderr: str) -> str:
    """Return the one line in which a command of ours says what is wrong; progress aside."""
    assert code == 2, f"ended with {code}\n{stderr}"
    lines = [line for line in stderr.splitlines() if not re.match(r"(push to|pull from|read back) \S+: ", line)]
    assert len(lines) == 1, stderr
    assert re.fullmatch(r"error: .+ Mend: .+", lines[0]), lines[0]
    return lines[0]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A server that nobody ends."""
    with ExitStack() as running:
        try:
            found = running.enter_context(seaweed(tmp_path_factory.mktemp("seaweed"), public=False))
        except NoServer as error:
            missing_part(str(error))
            raise
        found.make_bucket(BUCKET)
        yield found


@pytest.fixture
def url() -> str:
    """An address of its own for every test."""
    return f"s3://{BUCKET}/{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A folder with a project that was run: parcel series of 40 people and an EEG, and no remote yet."""
    folder = tmp_path_factory.mktemp("lab")
    series = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*.npy"))[:120]
    for name, paths in (("rest", series), ("eeg", [shared_data / "eeg" / "eegmat" / "Subject21_1.edf"])):
        (folder / "lab" / name).mkdir(parents=True)
        for path in paths:
            (folder / "lab" / name / path.name).write_bytes(path.read_bytes())
    project = Clone(folder / "project")
    project.root.mkdir()
    shutil.copytree(PROJECT / "data" / "catalog", project.root / "data" / "catalog")
    (project.root / "dvc.yaml").write_text(DVC_YAML)
    (project.root / "params.yaml").write_text("datasets: {}\n")
    (project.root / ".gitignore").write_text("/data/shards/\n/data/raw/\n/data/splits.json\n")
    project.do("git", "init", "--quiet", "--initial-branch=main")
    project.do("dvc", "init", "--quiet")
    assert project.repro() == ["preprocess@rest", "preprocess@eeg", "split"]
    project.commit()
    return folder


@pytest.fixture
def project(lab: Path, tmp_path: Path) -> Clone:
    """A copy of that for one test."""
    shutil.copytree(lab, tmp_path, dirs_exist_ok=True)
    return Clone(tmp_path / "project")


@pytest.fixture
def configured(project: Clone, server: SeaweedServer, url: str) -> Clone:
    """A project with a remote, and a key to it in the environment."""
    project.env = key_of(server)
    project.use(url, server.url)
    return project


def key_of(server: SeaweedServer) -> dict[str, str]:
    """Return a key and nothing else: the address is in the project."""
    return {name: server.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


Objects = Callable[[], dict[str, bytes]]


@pytest.fixture
def objects(server: SeaweedServer, url: str) -> Objects:
    """Return what the test's remote holds, by key below its address."""
    return lambda: server.objects(BUCKET, url.removeprefix(f"s3://{BUCKET}/"))
