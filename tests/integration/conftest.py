"""One project for several modules: a lab's own folders of real recordings, after its first ``dvc repro``."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.test_pipeline import PROJECT, SUBJECTS, Project, aal_series


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
    project.set(["pretrain", "core", "smoothing_samples"], [0.0, 2.0])
    project.set(["evaluate", "smoothing_samples"], [0.0, 2.0])
    project.set(["evaluate", "bootstrap_samples"], 100)
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
