"""What modules share: a lab's folders of real recordings after a first ``dvc repro``, and podman with its own store.

The store lies in ``.neurofm/`` and is kept between sessions.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from neurofm.fmriprep.command import IMAGE
from tests.integration.test_pipeline import PROJECT, SUBJECTS, Project, aal_series
from tests.servers.podman import BASE, INSTALL, Podman, missing_program

STAND_IN = "localhost/stand_in:1"
_CONFOUNDS = "test-v21_desc-confounds_timeseries"
"""A table that fMRIPrep 21 made, and its side file, which nilearn brings for its own tests."""


@dataclass(frozen=True)
class FirstRun:
    """Copy `folder` before changing anything in it: the project, and the lab's data beside it."""

    folder: Path
    stages: tuple[str, ...]
    """Those that ran, in order."""

    def copy(self, folder: Path) -> Project:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder / "neurofm")


def small_project(root: Path) -> Project:
    """Make a project without datasets, whose models are trained for a moment."""
    for name in ("src", "stages"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "data" / "profiles", root / "data" / "profiles")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml", "requirements.lock"):
        shutil.copy(PROJECT / name, root / name)
    project = Project(root)
    assert project.dvc("init", "--no-scm").returncode == 0
    project.set(["datasets"], {})
    project.set(["streamed"], {})
    project.set(["pretrain", "steps"], 6)
    project.set(["pretrain", "validate_every_steps"], 3)
    project.set(["pretrain", "validation_windows"], 2)
    project.set(["split", "folds"], 2)
    project.set(["pretrain", "core", "smoothing_samples"], [0.0, 2.0])
    project.set(["evaluate", "smoothing_samples"], [0.0, 2.0])
    project.set(["pretrain", "core", "ridge"], [0.03, 0.3])
    project.set(["pretrain", "core", "prior_samples"], [0.0, 100.0])
    project.set(["evaluate", "bootstrap_samples"], 100)
    project.set(["evaluate", "shrinkages"], [0.05, 0.3])
    project.set(["evaluate", "prior_samples"], [0.0, 100.0])
    return project


@pytest.fixture(scope="session")
def first_run(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, sample_raw: Callable[[str], Path]
) -> FirstRun:
    project = small_project(tmp_path_factory.mktemp("lab") / "neurofm")
    root = project.root

    # Parcel series of real subjects, copied (a test adds one more later), added as the README says.
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    series = root.parent / "labdata" / "rest"
    series.mkdir(parents=True)
    shutil.copy(source / "participants.tsv", series)
    for path in aal_series(source)[:SUBJECTS]:
        shutil.copy(path, series)
    (command,) = re.findall(r"^    (neurofm dataset add .+)$", (PROJECT / "README.md").read_text(), re.MULTILINE)
    done = project.run(*shlex.split(command))
    assert done.returncode == 0, done.stderr
    assert f"{SUBJECTS} recordings" in done.stdout
    eeg = sample_raw("tiny-bids-eeg")
    shutil.copytree(eeg, root.parent / "labdata" / "eeg")
    terms = ("--licence", "BSD-3-Clause", "--citation", "MNE-BIDS developers")
    done = project.run("neurofm", "dataset", "add", "../labdata/eeg", *terms)
    assert done.returncode == 0, done.stderr
    return FirstRun(folder=root.parent, stages=tuple(project.repro()))


@pytest.fixture(scope="session")
def store() -> Podman:
    """Podman and its base image."""
    if name := missing_program():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have podman; {name} is missing ({INSTALL})")
        pytest.skip(f"no {name} on this machine; to run these tests: {INSTALL}")
    made = Podman(PROJECT / ".neurofm" / "test-podman")
    made.make_base()
    return made


@pytest.fixture
def podman(store: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    """Podman for one test, which leaves no container behind."""
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    yield store
    left = store.containers()
    for name in left:
        store.ask("rm", "--force", name)
    assert left == []


@pytest.fixture(scope="session")
def stand_in(store: Podman, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's root whose pin `fmriprep` is the stand-in: built here, found by its digest as the real one is."""
    sources = Path(__file__).parent / "containers" / "stand_in"
    context = shutil.copytree(sources, tmp_path_factory.mktemp("stand_in") / "context")
    spec = find_spec("nilearn.interfaces.fmriprep.data")
    assert spec is not None
    assert spec.origin is not None
    for kind in ("tsv", "json"):
        shutil.copy(Path(spec.origin).with_name(f"{_CONFOUNDS}.{kind}"), context / f"confounds.{kind}")
    base = ("--build-arg", f"BASE={BASE}")
    store.ask("build", "--quiet", *base, "--network", "none", "--tag", STAND_IN, str(context))
    pin = {
        "reference": STAND_IN,
        "digest": store.ask("image", "inspect", "--format", "{{.Digest}}", STAND_IN),
        "platforms": ["linux/amd64"],
        "purpose": "stands in for fMRIPrep",
        "verified": True,
    }
    root = tmp_path_factory.mktemp("pinned")
    shutil.copytree(PROJECT / "containers" / "antspyx", root / "containers" / "antspyx")
    (root / "containers" / "images.yaml").write_text(json.dumps({"images": {IMAGE: pin}}))
    return root
