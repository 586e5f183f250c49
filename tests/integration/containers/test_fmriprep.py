"""A participant through the container's path, with an image named ``stand_in``: its ends, and what is made of them.

No fMRIPrep runs here: the image holds a script that writes the names of fMRIPrep's outputs (``stand_in/stand_in.py``).
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neurofm.containers import Engine, Image, Limits, find_image, run
from neurofm.errors import UserError
from neurofm.fmriprep import (
    FmriprepOptions,
    Folders,
    Verdict,
    crash_files,
    find_participants,
    fmriprep_job,
    judge,
)
from neurofm.fmriprep.command import IMAGE
from neurofm.recording import UnitStatus
from tests.integration.conftest import STAND_IN

OPTIONS = FmriprepOptions(output_spaces=("MNI152NLin2009cAsym:res-2", "MNI152NLin6Asym"), mem_mb=8000)
INPUTS = ("anat/sub-01_T1w", "func/sub-01_task-rest_run-1_bold", "func/sub-01_task-rest_run-2_bold")


@pytest.fixture
def image(stand_in: Path, engine: Engine) -> Image:
    return find_image(IMAGE, engine=engine, root=stand_in)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    bids = tmp_path / "bids"
    for name in INPUTS:
        path = bids / "sub-01" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stand_in")
    (bids / "dataset_description.json").write_text('{"Name": "n", "BIDSVersion": "1.10.0"}')
    (bids / "code").mkdir()
    (tmp_path / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    (tmp_path / "templateflow").mkdir()
    return Folders(
        bids=bids,
        output=tmp_path / "out" / "sub-01",
        work=tmp_path / "work" / "sub-01",
        licence=tmp_path / "license.txt",
        templates=tmp_path / "templateflow",
    )


@pytest.fixture
def process(folders: Folders, image: Image, engine: Engine, tmp_path: Path) -> Callable[..., Verdict]:
    """Process the participant, with the stand-in told what to do."""

    def one(order: str, *, limits: Limits | None = None, stop: threading.Event | None = None) -> Verdict:
        (folders.bids / "code" / "stand_in").write_text(order)
        (participant,) = find_participants(folders.bids, options=OPTIONS)
        job = fmriprep_job(participant, OPTIONS, folders=folders, image=image)
        before = crash_files(folders.output, participant.label)
        ending = run(replace(job, limits=limits or job.limits), engine=engine, log=tmp_path / "log", stop=stop)
        return judge(ending, participant=participant, options=OPTIONS, output=folders.output, before=before)

    return one


def test_a_whole_run_and_what_it_may_touch(process: Callable[..., Verdict], folders: Folders, tmp_path: Path) -> None:
    verdict = process("whole")
    log = (tmp_path / "log").read_text()
    assert (verdict.status, verdict.reason) == (UnitStatus.SUCCEEDED, ""), log
    assert len(verdict.present) == 3 + 7 + 2 * (2 + 2 * 3)
    assert "stand_in, no fMRIPrep" in log
    assert "networks: lo\n" in log
    for folder in ("/data", "/templateflow"):
        assert f"read-only: {folder} Read-only file system" in log
    assert (folders.work / "stand_in").read_text() == "work"
    for path in (*verdict.present, folders.work / "stand_in"):
        assert path.stat().st_uid == os.getuid()


def test_each_bad_end_has_its_own_reason(process: Callable[..., Verdict], folders: Folders) -> None:
    """One after the other into the same folder, emptied between: each is a container of its own."""
    ends = {
        "half-way": (UnitStatus.FAILED, "fMRIPrep failed (exit code 1); ", "read "),
        "crash": (
            UnitStatus.FAILED,
            "(exit code 1): bold_hmc_wf.mcflirt: RuntimeError: subprocess exited",
            "crash-2026",
        ),
        "quiet crash": (UnitStatus.FAILED, "ended with 0, but left a crash file: bold_hmc_wf.mcflirt", "crash-2026"),
        "126": (UnitStatus.FAILED, "FreeSurfer's licence not valid (exit code 126)", "FS_LICENSE"),
        "127": (UnitStatus.FAILED, "lacks programs (exit code 127): antsRegistration", "pinned image"),
    }
    for order, (status, reason, mend) in ends.items():
        shutil.rmtree(folders.output, ignore_errors=True)
        verdict = process(order)
        assert verdict.status is status, order
        assert reason in verdict.reason, order
        assert mend in verdict.mend, order
        assert bool(verdict.present) is (order not in {"126", "127"}), order
        assert bool(verdict.missing) is (order != "quiet crash"), order
    # Crash files of that run stay; one that goes well after it is not blamed for them.
    process("quiet crash")
    assert process("whole").succeeded


def test_killed_for_its_memory(process: Callable[..., Verdict]) -> None:
    verdict = process("memory", limits=Limits(memory_gb=0.125))
    assert verdict.status is UnitStatus.INCOMPLETE
    assert "sub-01: fMRIPrep was killed" in verdict.reason
    assert "more than the 0.125 GB that it was given; 13 of 26 outputs are missing (" in verdict.reason
    assert "`mem_mb`" in verdict.mend
    assert len(verdict.present) == 13


def test_out_of_time_and_an_image_that_is_another_one(
    process: Callable[..., Verdict], stand_in: Path, engine: Engine, tmp_path: Path
) -> None:
    verdict = process("hang", limits=Limits(seconds=1.5, grace_s=0.5))
    assert verdict.status is UnitStatus.INCOMPLETE
    assert "it took longer than the 1.5 s that it was given; " in verdict.reason
    assert "more time" in verdict.mend
    other = shutil.copytree(stand_in, tmp_path / "other") / "containers" / "images.yaml"
    pins = json.loads(other.read_text())
    pins["images"][IMAGE]["digest"] = "sha256:" + "a" * 64
    other.write_text(json.dumps(pins))
    with pytest.raises(UserError, match=f"'{STAND_IN}' of podman is sha256:.+, pinned is sha256:aaaa"):
        find_image(IMAGE, engine=engine, root=tmp_path / "other")
