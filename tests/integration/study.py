"""A raw BIDS dataset beside a copy of the project, and a machine where the stand-in for fMRIPrep can process it.

No fMRIPrep runs anywhere here (``containers/stand_in/stand_in.py``). The BOLD is real: one run of OpenNeuro ds000205,
given to every participant. There is no T1-weighted image at hand that may be passed on; the parcellation of that run
has its name, and the stand-in looks at its name only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from neurofm.files import sha256_of, write_json
from neurofm.units import Receipt, read_receipts
from tests.integration.test_pipeline import PROJECT, Project

STUDY = "study"
TASK = "task-functionallocalizer_run-01"
OPTIONS = {"mem_mb": 8000, "nthreads": 1, "omp_nthreads": 1}
WITHIN_S = 60.0
TEMPLATES = ("MNI152NLin2009cAsym", "OASIS30ANTs", "fsaverage", "fsLR")


class Study(Project):
    """A copy of the project with a raw BIDS dataset beside it."""

    @property
    def bids(self) -> Path:
        return self.root.parent / "bids"

    @property
    def made(self) -> Path:
        return self.root / "data" / "derivatives" / STUDY

    @property
    def staged(self) -> Path:
        return self.root / ".neurofm" / "derivatives" / STUDY

    @property
    def scratch(self) -> Path:
        return self.root.parent / "scratch"

    def add(self, label: str, *, bold: Path, parcels: Path) -> None:
        sub = self.bids / f"sub-{label}"
        for name, source in (("anat", parcels), ("func", bold)):
            (sub / name).mkdir(parents=True)
            rest = "T1w" if name == "anat" else f"{TASK}_bold"
            shutil.copy(source, sub / name / f"sub-{label}_{rest}.nii.gz")

    def order(self, label: str, order: str) -> None:
        """Tell the stand-in how to treat one participant."""
        (self.bids / "code").mkdir(exist_ok=True)
        (self.bids / "code" / f"stand_in_sub-{label}").write_text(order)

    def receipts(self) -> dict[str, Receipt]:
        return read_receipts(self.root / "data" / "receipts" / f"{STUDY}.jsonl")

    def files(self, label: str) -> dict[str, tuple[str, int]]:
        """Digest and time of every file of one participant, by path."""
        return {
            path.relative_to(self.made).as_posix(): (sha256_of(path), path.stat().st_mtime_ns)
            for path in sorted(self.made.rglob("*"))
            if path.is_file() and f"sub-{label}" in path.as_posix()
        }

    def digests(self, label: str) -> dict[str, str]:
        """Digest of every file of one participant, by path."""
        return {name: digest for name, (digest, _) in self.files(label).items()}

    def runs_again(self) -> str:
        """Run the stage under DVC, and return what it said of how much it did."""
        done = self.dvc("repro", f"derivatives@{STUDY}")
        assert done.returncode == 0, done.stdout + done.stderr
        return next((line for line in done.stdout.splitlines() if line.startswith(f"{STUDY}: ")), "nothing ran")

    @contextmanager
    def started(self, said: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start the stage under DVC in a group of processes of its own; none of them outlives the block."""
        with said.open("wb") as file:
            process = subprocess.Popen(
                ["dvc", "repro", f"derivatives@{STUDY}"],
                cwd=self.root,
                env=os.environ
                | {
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": str(self.root / "src"),
                    "DVC_NO_ANALYTICS": "1",
                },
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def interrupted_at_work(self, label: str, said: Path) -> str:
        """Run the stage until a participant is half done, press Ctrl-C, and return what was said."""
        with self.started(said) as repro:
            wait_until(lambda: self.is_half_done(label), lambda: (repro.poll() is None, said.read_text()))
            # As a terminal does: to dvc, the stage and its workers alike.
            os.killpg(repro.pid, signal.SIGINT)
            assert repro.wait(timeout=WITHIN_S) != 0
        return said.read_text()

    def is_half_done(self, label: str) -> bool:
        """Whether the stand-in, told to hang, has come so far."""
        log = self.staged / f"sub-{label}.log"
        return log.is_file() and "\nhanging\n" in log.read_text()


def wait_until(condition: Callable[[], object], state: Callable[[], tuple[bool, str]]) -> None:
    """Wait for a condition, while it may still come true; `state` says whether, and what there is to show."""
    begun = time.monotonic()
    while not condition():
        may_come, text = state()
        assert may_come, text
        assert time.monotonic() - begun < WITHIN_S, text
        time.sleep(0.1)


def equip(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Give this machine a licence, templates and a disk of its own, below a folder."""
    (folder / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    for name in TEMPLATES:
        template = folder / "templateflow" / f"tpl-{name}"
        template.mkdir(parents=True)
        (template / "stand_in.nii.gz").write_bytes(b"stand_in")
    (folder / "scratch").mkdir()
    patch.setenv("FS_LICENSE", str(folder / "license.txt"))
    patch.setenv("TEMPLATEFLOW_HOME", str(folder / "templateflow"))
    patch.setenv("TMPDIR", str(folder / "scratch"))


def make_study(folder: Path, *, stand_in: Path, raw: Path, labels: Iterable[str]) -> Study:
    """Make a study below a folder, with `raw` of the sample dataset ``ds205-bold`` for everybody."""
    root = folder / "neurofm"
    for name in ("src", "stages"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "params.yaml", "requirements.lock"):
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(stand_in / "containers", root / "containers")
    project = Study(root)
    (bold,) = raw.glob("*_volreg.nii.gz")
    (parcels,) = raw.glob("*_parc.nii.gz")
    for label in labels:
        project.add(label, bold=bold, parcels=parcels)
    write_json(project.bids / "dataset_description.json", {"Name": "study", "BIDSVersion": "1.10.0"})
    write_json(project.bids / f"{TASK.partition('_')[0]}_bold.json", {"RepetitionTime": 2.2})
    assert project.dvc("init", "--no-scm").returncode == 0
    for group in ("datasets", "streamed"):
        project.set([group], {})
    project.set(["derivatives"], {STUDY: {"bids": "../bids", "options": dict(OPTIONS)}})
    return project
