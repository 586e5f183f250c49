"""A run went well when it ended with 0, left everything, and left no crash file; each other end has its reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from neurofm.containers import Ending
from neurofm.fmriprep import (
    FmriprepOptions,
    Participant,
    Verdict,
    crash_files,
    expected_outputs,
    find_participants,
    judge,
)
from neurofm.recording import UnitStatus, Unreadable

OPTIONS = FmriprepOptions(output_spaces=("MNI152NLin2009cAsym:res-2", "T1w", "fsaverage5"), cifti_output="91k")
LICENCE = "ERROR: a valid license file is required for FreeSurfer to run. fMRIPrep looked for an existing license"
MISSING = (
    "Cannot run fMRIPrep. Missing dependencies:\n\t* antsRegistration (Interface: Registration)\n\t* 3dvolreg (Int"
)
CRASH = "Node: fmriprep_wf.sub_01_wf.bold_wf.hmc\n\nTraceback\n  File\nRuntimeError: no \x1b[31mgood\n"


@pytest.fixture
def participant(bids: Path) -> Participant:
    return find_participants(bids, options=OPTIONS)[0]


@pytest.fixture
def output(participant: Participant, tmp_path: Path) -> Path:
    """A whole output tree: every expected file, by its pattern, with a byte in it."""
    folder = tmp_path / "out"
    for expected in expected_outputs(participant, OPTIONS):
        path = folder / expected.name.replace("*", "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def end(output: Path, participant: Participant, code: int, *, said: str = "", **more: Any) -> Verdict:
    log = output.parent / "log"
    log.write_text(said)
    ending = Ending(code=code, reason=more.pop("reason", ""), seconds=1.0, image="", log=log, container="c")
    return judge(ending, participant=participant, options=OPTIONS, output=output, **more)


def test_a_whole_run(output: Path, participant: Participant) -> None:
    verdict = end(output, participant, 0)
    assert (verdict.status, verdict.reason, verdict.missing) == (UnitStatus.SUCCEEDED, "", ())
    assert set(verdict.present) == {path for path in output.rglob("*") if path.is_file()}
    assert len(verdict.present) == 1 + 1 + 1 + 6 + 3 * (2 + 3 + 3 + 2 + 2)
    verdict.demand_success()


def test_any_expected_output_that_is_missing_or_empty_is_missed(output: Path, participant: Participant) -> None:
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for spoil in (path.unlink, lambda path=path: path.write_bytes(b"")):
            spoil()
            verdict = end(output, participant, 0)
            assert verdict.status is UnitStatus.FAILED
            assert len(verdict.missing) == 1
            assert "fMRIPrep ended with 0, but not everything is there; 1 of 45 outputs are missing" in verdict.reason
        path.write_bytes(content)
    assert end(output, participant, 0).succeeded


def test_an_image_in_another_space_does_not_stand_for_the_one_that_is_missing(
    output: Path, participant: Participant
) -> None:
    anat = output / "sub-01" / "anat"
    (anat / "sub-01_desc-preproc_T1w.nii.gz").rename(anat / "sub-01_space-MNI_desc-preproc_T1w.nii.gz")
    (anat / "sub-01_dseg.nii.gz").unlink()  # sub-01_desc-aseg_dseg.nii.gz is there.
    assert [name.split("*")[-1] for name in end(output, participant, 0).missing] == [
        "_desc-preproc_T1w.nii.gz",
        "_dseg.nii.gz",
    ]


def test_precomputed_anatomy_need_not_be_there_again(output: Path, participant: Participant, tmp_path: Path) -> None:
    shutil.move(output / "sub-01" / "anat", tmp_path / "smriprep" / "sub-01" / "anat")
    assert len(end(output, participant, 0).missing) == 5
    options = OPTIONS.model_copy(update={"derivatives": {"smriprep": tmp_path / "smriprep"}})
    ending = Ending(code=0, reason="", seconds=1.0, image="", log=None, container="c")
    assert judge(ending, participant=participant, options=options, output=output).succeeded


@pytest.mark.parametrize("folder", ["sub-01/log/uuid", "sub-01/ses-a-b/log/uuid", "logs"])
def test_a_crash_file_of_this_run_fails_it(output: Path, participant: Participant, folder: str) -> None:
    crash = output / folder / "crash-20260101-x.txt"
    crash.parent.mkdir(parents=True, exist_ok=True)
    crash.write_text(CRASH)
    verdict = end(output, participant, 0)
    assert (verdict.status, verdict.crashes) == (UnitStatus.FAILED, (crash,))
    assert "left a crash file: bold_wf.hmc: RuntimeError: no  [31mgood" in verdict.reason
    assert verdict.mend == f"read {crash}"
    assert "crashed (exit code 1): bold_wf.hmc" in end(output, participant, 1).reason
    # What an earlier run left is not this one's.
    before = crash_files(output, "01")
    assert end(output, participant, 0, before=before).succeeded


ENDS = [
    (126, LICENCE, "", "failed", "licence not valid", "FS_LICENSE"),
    (126, "Federal Information Processing Standard (FIPS) mode", "", "failed", "FIPS mode", "administrator"),
    (126, "", "", "failed", "own program cannot be executed", "log"),
    (127, MISSING, "", "failed", "lacks programs (exit code 127): antsRegistration", "pinned image"),
    (127, "", "", "failed", "own program is not in it", "log"),
    (137, "", "killed: it took more than the 31.3 GB that it was given", "incomplete", "it took more", "low_mem"),
    (1, "concurrent.futures.process.BrokenProcessPool: x", "", "incomplete", "no more memory", "`mem_mb`"),
    (124, "", "it took longer than the 60 s that it was given", "incomplete", "60 s", "more time"),
    (143, "", "it was asked to stop", "incomplete", "asked to stop", "run it again"),
    (138, "", "ended by SIGUSR1", "incomplete", "its walltime or its place on the cluster ended", "run it again"),
    (130, "", "ended by SIGINT", "incomplete", "interrupted", "run it again"),
    (125, "", "the engine could not start it: no such image", "incomplete", "no such image", "container list"),
    (70, "ValueError: No T1w", "", "failed", "could not plan its work (exit code 70): ValueError: No T1w", "log"),
    (1, "a\nRuntimeError: No BOLD images found.\n", "", "failed", "(exit code 1): RuntimeError: No BOLD", "log"),
    (1, "Report generation was not successful for", "", "failed", "visual report failed", "log"),
    (2, "fmriprep: error: argument --x: y", "", "failed", "(exit code 2): fmriprep: error: argument --x", "log"),
]


@pytest.mark.parametrize("row", ENDS)
def test_each_end_has_its_reason_and_mend(
    output: Path, participant: Participant, row: tuple[int, str, str, str, str, str]
) -> None:
    code, said, reason, status, words, mend = row
    verdict = end(output, participant, code, said=said, reason=reason)
    assert verdict.status.value == status
    assert words in verdict.reason
    assert verdict.reason.startswith("sub-01: ")
    assert verdict.reason.endswith("; all 45 outputs are there.")
    assert mend in verdict.mend
    with pytest.raises(MemoryError if status == "incomplete" else Unreadable, match="Mend: "):
        verdict.demand_success()


def test_what_a_run_left_half_way_is_told(output: Path, participant: Participant) -> None:
    for path in (output / "sub-01" / "func").iterdir():
        path.unlink()
    verdict = end(output, participant, 137, reason="killed: it took more than the 1 GB that it was given")
    assert (
        "was killed: it took more than the 1 GB that it was given; 36 of 45 outputs are missing (sub" in verdict.reason
    )
    assert (len(verdict.present), len(verdict.missing)) == (9, 36)


def test_with_many_sessions_each_has_a_report(participant: Participant) -> None:
    run = participant.runs[0]
    many = Participant(label="01", anatomical=(), runs=(type(run)(**{**vars(run), "session": "b"}),), sessions=5)
    names = [expected.name for expected in expected_outputs(many, OPTIONS)]
    assert [name for name in names if name.endswith("html")] == ["sub-01_anat.html", "sub-01_ses-b_func.html"]
