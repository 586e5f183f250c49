"""A lab's project in git, with its pipeline: run by gitlab-ci-local, on a real S3 server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from neurofm.catalog import read_yaml
from tests.integration.test_pipeline import Project
from tests.servers.seaweed import REGION, SeaweedServer

PROJECT = Path(__file__).resolve().parents[3]
BUCKET = "lab"
# Every job has a checkout of its own, without what others left there.
OPTIONS = ("--force-shell-executor", "--shell-isolation", "--no-artifacts-to-source", "--concurrency", "2")
# Each job starts a dozen processes, and without byte code each of them would compile torch once more.
_NOT_FOR_JOBS = ("AWS_", "GCL_", "PYTHONDONTWRITEBYTECODE")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FILES = (
    *("dvc.yaml", "params.yaml", "Makefile", "pyproject.toml", "requirements.lock"),
    *("README.md", "LICENSE", ".gitlab-ci.yml", ".gitattributes", ".gitignore", ".dvcignore"),
)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What gitlab-ci-local said of a pipeline."""

    code: int
    text: str
    passed: tuple[str, ...]
    """Names of jobs; those of the child pipeline too."""
    failed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lab(Project):
    """A clone of the lab's repository, and what runs its pipeline."""

    origin: Path
    """The bare repository that stands for GitLab's."""
    s3: SeaweedServer
    program: Path
    """gitlab-ci-local."""
    variables: dict[str, str] = field(default_factory=dict)
    """Those that GitLab would have for the project."""

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, f"git {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    @property
    def settings(self) -> dict[str, str]:
        """The variables, with keys of the S3 server."""
        return {
            "NEUROFM_VENV": str(PROJECT / ".venv"),
            "NEUROFM_PUSH_URL": self.origin.as_uri(),
            "NEUROFM_CI_TOKEN": "glpat-of-the-lab",
            "LINT_TARGET": "--dry-run check",
            "CI_REGISTRY_IMAGE": "",  # the project has no registry
            **self.s3.environment,
            **self.variables,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the pipeline of the commit that is checked out, or some of its jobs, in a process group of its own."""
        path = self.root / ".gitlab-ci-local-variables.yml"
        with path.open("w") as file:
            # Said in full: a bare text that begins with a slash would be read as the name of a file.
            texts = self.settings | variables
            YAML().dump({name: {"type": "variable", "values": {"*": text}} for name, text in texts.items()}, file)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_JOBS)}
        return subprocess.Popen(
            [str(self.program), *OPTIONS, *arguments],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pipeline(self, *arguments: str, **variables: str) -> Ran:
        """Run the pipeline of the commit that is checked out, or some of its jobs."""
        process = self.start(*arguments, **variables)
        text = _COLOUR.sub("", process.communicate()[0])
        return Ran(
            code=process.returncode,
            text=text,
            passed=tuple(re.findall(r"^ PASS  (?:\[.*\] -> )?(\S+)", text, re.MULTILINE)),
            failed=tuple(re.findall(r"^ FAIL  (?:\[.*\] -> )?(\S+)", text, re.MULTILINE)),
        )

    def artefact(self, job: str, path: str) -> Path:
        """Return a file that a job left."""
        return self.root / ".gitlab-ci-local" / "artifacts" / job / path

    def pull(self) -> None:
        """Take over what CI committed."""
        self.git("pull", "--quiet", "--ff-only", "origin", "main")

    def lock(self) -> dict[str, Any]:
        stages: dict[str, Any] = read_yaml(self.root / "dvc.lock")["stages"]
        return stages

    def clone(self, folder: Path) -> Lab:
        """Clone the repository; there are no data in it."""
        done = subprocess.run(
            ["git", "clone", "--quiet", self.origin.as_uri(), str(folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        made = Lab(root=folder, origin=self.origin, s3=self.s3, program=self.program, variables=self.variables)
        made.prepare_git()
        return made

    def prepare_git(self) -> None:
        for key, value in (("user.name", "Ada Lab"), ("user.email", "ada@lab.example"), ("init.defaultBranch", "main")):
            self.git("config", key, value)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would who has activated the environment and has a key for the remote."""
        binaries = str(Path(sys.executable).parent)
        environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_EDITOR": "true",
            **self.s3.environment,
            **variables,
        }
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)


def make_lab(folder: Path, *, series: Mapping[str, Path], s3: SeaweedServer, program: Path) -> Lab:
    """Make a lab's repository: parcel series of its own, and one dataset of the sample that is downloaded.

    Parameters
    ----------
    folder
        An empty one.
    series
        Files of the lab's folder by name.
    s3
        Where its remote is; the bucket is made.
    program
        gitlab-ci-local.
    """
    root, origin = folder / "work", folder / "origin.git"
    root.mkdir(parents=True)
    lab = Lab(root=root, origin=origin, s3=s3, program=program)
    for name in ("src", "stages", "ci"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(PROJECT / name, root / name)
    (root / "data" / "catalog").mkdir(parents=True)
    shutil.copy(PROJECT / "data" / "catalog" / "tiny-bids-eeg.yaml", root / "data" / "catalog")
    (root / "tests").mkdir()
    (root / "tests" / "test_lab.py").write_text(
        "from pathlib import Path\n\nfrom neurofm.params import load_params\n\n\n"
        'def test_settings_hold_together() -> None:\n    assert "rest" in load_params(Path()).all_datasets\n'
    )
    data = folder / "labdata" / "rest"
    data.mkdir(parents=True)
    for name, path in series.items():
        shutil.copy(path, data / name)
    # GitLab has the repository's first commit; what the lab did since is a push, so that every file is a change.
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], check=True)
    lab.git("init", "--quiet", "--initial-branch=main")
    lab.prepare_git()
    lab.git("remote", "add", "origin", origin.as_uri())
    lab.git("remote", "add", "gcl-origin", "https://gitlab.example/lab/neurofm.git")
    lab.git("commit", "--quiet", "--allow-empty", "--message", "Empty")
    lab.git("push", "--quiet", "origin", "main")
    lab.git("remote", "set-head", "origin", "main")
    shutil.copytree(PROJECT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    s3.make_bucket(BUCKET)
    set_up = re.findall(r"`(neurofm remote use s3://.+?)`", (PROJECT / "docs" / "ci.md").read_text())
    done = lab.run(*shlex.split(set_up[0].replace("BUCKET", BUCKET)), "--region", REGION)
    assert done.returncode == 0, done.stderr
    small: dict[tuple[str, ...], Any] = {
        ("datasets",): {"tiny-bids-eeg": {"modality": "eeg", "reader": "bids"}},
        ("streamed",): {},
        ("pretrain", "steps"): 6,
        ("pretrain", "validate_every_steps"): 3,
        ("pretrain", "validation_windows"): 2,
        ("pretrain", "mask_groups"): 2,
        ("pretrain", "core"): {"smoothing_samples": [0.0], "ridge": [0.1]}
        | {key: [0.1] for key in ("prior_samples", "rate_floors")},
        ("pretrain", "masks"): {},
        ("split", "folds"): 1,
        ("evaluate", "shrinkages"): [0.05, 0.3],
        ("evaluate", "prior_samples"): [0.0, 100.0],
        ("evaluate", "smoothing_samples"): [0.0, 2.0],
        ("evaluate", "bootstrap_samples"): 100,
    }
    for keys, value in small.items():
        lab.set(keys, value)
    done = lab.run(
        *("neurofm", "dataset", "add", str(data), "--licence", "unpublished, our lab", "--citation", "Doe lab"),
        *("--tr-s", "2.0"),
    )
    assert done.returncode == 0, done.stderr
    lab.commit("A lab's project")
    return lab
