"""fMRIPrep's authors' own wrapper, really run, with podman's program of docker's name and the image ``stand_in``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from neurofm.containers import Engine, EngineName, find_engine, find_image, run
from neurofm.files import sha256_of
from neurofm.fmriprep import FmriprepOptions, Folders, Verdict, find_participants, fmriprep_job, judge
from neurofm.fmriprep.command import IMAGE
from neurofm.fmriprep.docker_wrapper import run_fmriprep_docker
from neurofm.recording import UnitStatus
from tests.integration.conftest import STAND_IN
from tests.integration.study import STUDY, TASK, WITHIN_S, Study, equip, make_study, wait_until
from tests.servers.podman import Podman

OPTIONS = FmriprepOptions(output_spaces=("MNI152NLin2009cAsym:res-2", "MNI152NLin6Asym"), mem_mb=8000)
ENDS = {
    "whole": (UnitStatus.SUCCEEDED, ""),
    "126": (UnitStatus.FAILED, "fMRIPrep found FreeSurfer's licence not valid (exit code 126)"),
    "crash": (UnitStatus.FAILED, "fMRIPrep crashed (exit code 1): bold_hmc_wf.mcflirt: RuntimeError"),
    "killed": (UnitStatus.INCOMPLETE, "fMRIPrep was killed: most likely it took more than the 8.941 GB"),
}


@pytest.fixture
def study(
    stand_in: Path,
    podman: Podman,
    sample_raw: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Study:
    """One participant, of whom nothing is processed yet, where the wrapper is used."""
    equip(tmp_path, monkeypatch)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").symlink_to("/usr/bin/docker")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    project = make_study(tmp_path, stand_in=stand_in, raw=sample_raw("ds205-bold"), labels=("01",))
    (project.root / "site.yaml").write_text("fmriprep_docker: true\n")
    return project


@pytest.fixture
def engine(study: Study) -> Engine:
    return find_engine(EngineName.DOCKER)


@pytest.mark.parametrize("order", ENDS)
def test_it_ends_as_our_own_container_does_and_leaves_the_same(study: Study, engine: Engine, order: str) -> None:
    study.order("01", order)
    (participant,) = find_participants(study.bids, options=OPTIONS)
    image = find_image(IMAGE, engine=engine, root=study.root)
    left: list[tuple[Verdict, dict[str, str]]] = []
    for wrapper in (True, False):
        folders = Folders(
            bids=study.bids,
            output=study.root.parent / "out" / "sub-01",
            work=study.scratch / "work",
            licence=study.root.parent / "license.txt",
            templates=study.root.parent / "templateflow",
        )
        log = study.root.parent / f"log-{wrapper}"
        if wrapper:
            ending = run_fmriprep_docker(participant, OPTIONS, folders=folders, image=image, engine=engine, log=log)
        else:
            ending = run(fmriprep_job(participant, OPTIONS, folders=folders, image=image), engine=engine, log=log)
        assert ending.image == image.digest
        verdict = judge(ending, participant=participant, options=OPTIONS, output=folders.output)
        written = {path for path in folders.output.rglob("*") if path.is_file()}
        assert all(path.stat().st_uid == os.getuid() for path in written)
        left.append((verdict, {path.relative_to(folders.output).as_posix(): sha256_of(path) for path in written}))
        shutil.rmtree(folders.output)
    (theirs, their_files), (ours, our_files) = left
    status, reason = ENDS[order]
    assert theirs.status is ours.status is status
    assert reason in theirs.reason
    assert theirs.reason == ours.reason
    assert their_files == our_files
    assert bool(their_files) is (order != "126")
    said = (study.root.parent / "log-True").read_text()
    assert said.index("RUNNING: docker run --rm") < said.index(f"stand_in, no fMRIPrep: {order}")
    assert "networks: lo\n" in said
    assert "[y/N]" not in said


def test_a_participant_under_dvc_and_no_container_at_work_after_ctrl_c_or_a_kill(
    study: Study, stand_in: Path, podman: Podman, tmp_path: Path
) -> None:
    study.order("01", "hang")
    text = study.interrupted_at_work("01", tmp_path / "interrupted.txt")
    assert "interrupted; run it again to go on where it stopped" in text
    assert "Traceback" not in text
    assert podman.containers() == []
    assert study.files("01") == {}

    with study.started(tmp_path / "killed.txt") as repro:
        wait_until(podman.containers, lambda: (repro.poll() is None, (tmp_path / "killed.txt").read_text()))
        os.killpg(repro.pid, signal.SIGKILL)
    wait_until(lambda: not podman.containers(), lambda: (True, f"still there after {WITHIN_S} s"))

    study.order("01", "whole")
    assert study.runs_again() == f"{STUDY}: 1 participants processed, 0 whole already"
    assert f"sub-01/func/sub-01_{TASK}_desc-confounds_timeseries.tsv" in study.files("01")
    (receipt,) = study.receipts().values()
    pin = json.loads((stand_in / "containers" / "images.yaml").read_text())["images"][IMAGE]
    assert receipt.cost is not None
    assert receipt.cost.container == pin["digest"]
    # Nothing in site.yaml changes a result: what one way has made is whole the other way.
    (study.root / "site.yaml").unlink()
    assert study.repro(f"derivatives@{STUDY}") == []


def test_free_of_the_stand_in_is_that_of_procps(study: Study, podman: Podman) -> None:
    """The wrapper reads it."""
    theirs = subprocess.run(["free", "-m"], capture_output=True, text=True, check=True).stdout.splitlines()
    line = ("run", "--rm", "--network", "none", "--entrypoint", "free", STAND_IN, "-m")
    ours = podman.ask(*line).splitlines()
    assert ours[0].split() == theirs[0].split()
    assert ours[1].split()[:2] == theirs[1].split()[:2]
    assert [len(text.split()) for text in ours] == [len(text.split()) for text in theirs]
