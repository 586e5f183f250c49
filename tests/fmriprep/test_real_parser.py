"""fMRIPrep's own parser accepts every command line of ours, finds the same runs, and names its files as we foretell.

Its Python package is the real one (25.2.7, from PyPI), without the programs that it calls: nothing is preprocessed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neurofm.files import write_json
from neurofm.fmriprep import FmriprepOptions, Inside, Participant, arguments, expected_outputs, find_participants
from neurofm.fmriprep.crash import read_crash
from neurofm.fmriprep.extra import REFUSED, complaint_about
from tests.servers.clients import client_python

pytestmark = pytest.mark.long

INSIDE = Path(__file__).with_name("inside_fmriprep.py")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("01", {}),
    "every space": (
        "01",
        {
            "output_spaces": [
                "MNI152NLin2009cAsym",
                "MNI152NLin6Asym:res-2",
                "MNIPediatricAsym:cohort-2:res-1",
                "MNI152Lin:res-native",
                "T1w",
                "func",
                "fsnative",
                "fsaverage5",
                "fsaverage",
            ],
            "cifti_output": "170k",
            "task": "mixedgamblestask",
            "dummy_scans": 0,
            "nthreads": 2,
            "omp_nthreads": 1,
            "mem_mb": 9000,
            "random_seed": 7,
            "ignore": ["fieldmaps", "t2w"],
            "low_mem": True,
        },
    ),
    "no surfaces, precomputed": (
        "01",
        {
            "fs_no_reconall": True,
            "derivatives": {"smriprep": "smriprep", "fmriprep": "minimal"},
            "extra": ["-vv", "--force", "no-bbr", "--fd-spike-threshold", "0.3"],
        },
    ),
    "one session": ("02", {"sessions": ["a"], "cifti_output": "91k"}),
    "sessions, echoes, phases": ("02", {"bids_filters": {"t1w": {"session": "a"}}}),
    "a run by number": ("01", {"bids_filters": {"bold": {"run": "2"}}}),
    "runs by number": ("01", {"bids_filters": {"bold": {"run": ["1", "03"]}}}),
    "without an entity": ("02", {"bids_filters": {"bold": {"echo": None}}}),
    "with any": ("02", {"bids_filters": {"bold": {"echo": "*"}}}),
    "by acquisition": ("02", {"bids_filters": {"bold": {"acquisition": "fast", "direction": "AP"}}}),
}


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder of fMRIPrep's package."""
    python = client_python("fmriprep")
    (found,) = python.parent.parent.glob("lib/python3*/site-packages/fmriprep")
    return found


@pytest.fixture(scope="module")
def roots(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The dataset that fMRIPrep brings for its own tests (ds000005), with a second participant who has sessions."""
    folder = tmp_path_factory.mktemp("fmriprep")
    bids = folder / "bids"
    shutil.copytree(package / "data" / "tests" / "ds000005", bids)
    bold = bids / "sub-01" / "func" / "sub-01_task-mixedgamblestask_run-02_bold.nii.gz"
    for name in (
        "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-1_bold.nii.gz",
        "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-2_bold.nii.gz",
        "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-3_bold.nii.gz",
        "sub-02/ses-b/func/sub-02_ses-b_task-rest_part-mag_bold.nii.gz",
        "sub-02/ses-b/func/sub-02_ses-b_task-rest_part-phase_bold.nii.gz",
        "sub-02/ses-b/func/sub-02_ses-b_task-nback_acq-fast_dir-AP_run-1_bold.nii.gz",
    ):
        (bids / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bold, bids / name)
    (bids / "sub-02" / "ses-a" / "anat").mkdir()
    shutil.copy(bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz", bids / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz")
    for name in ("smriprep", "minimal"):
        (folder / "derivatives" / name).mkdir(parents=True)
    (folder / "license.txt").touch()
    return Inside(
        bids=bids,
        output=folder / "out",
        work=folder / "work",
        licence=folder / "license.txt",
        templates=folder / "templateflow",
        filters=folder / "filters",
        derivatives=folder / "derivatives",
    )


def options_of(case: str) -> FmriprepOptions:
    return FmriprepOptions.parse(CASES[case][1], where=case, mend="")


def participant_of(case: str, roots: Inside) -> Participant:
    found = find_participants(roots.bids, options=options_of(case))
    (one,) = (one for one in found if one.label == CASES[case][0])
    return one


def line_of(case: str, roots: Inside) -> tuple[str, ...]:
    folders = Inside(
        **{
            **vars(roots),
            "output": roots.output / case,
            "work": roots.work / case,
            "filters": roots.filters.with_name(f"{case}.json"),
        }
    )
    options = options_of(case)
    if options.bids_filters:
        write_json(folders.filters, CASES[case][1]["bids_filters"])
    return arguments(CASES[case][0], options, inside=folders)


def ask(roots: Inside, lines: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Let fMRIPrep's Python answer for command lines."""
    folder = roots.bids.parent
    done = subprocess.run(
        [str(client_python("fmriprep")), "-I", str(INSIDE)],
        input=json.dumps([{"arguments": line} for line in lines]),
        env={
            **os.environ,
            "HOME": str(folder),
            "TEMPLATEFLOW_HOME": str(roots.templates),
            "TEMPLATEFLOW_AUTOUPDATE": "off",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


CROOKED = {
    "shortened": ("--participant-l", "02", "--mem-m", "1000"),
    "attached": ("-w/elsewhere",),
    "unknown": ("--use-aroma",),
}
"""Further arguments that ours do not let through."""


@pytest.fixture(scope="module")
def answers(roots: Inside) -> dict[str, dict[str, Any]]:
    """What fMRIPrep took from each command line."""
    crooked = {name: (*line_of("defaults", roots), *words) for name, words in CROOKED.items()}
    lines = {case: line_of(case, roots) for case in CASES} | crooked
    return dict(zip(lines, ask(roots, list(lines.values())), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_values_are_read_back(case: str, roots: Inside, answers: dict[str, dict[str, Any]]) -> None:
    options, got = options_of(case), answers[case]
    assert got["participant"] == CASES[case][0]
    assert got["work_dir"] == str(roots.work / case)
    assert got["fmriprep_dir"] == str(roots.output / case)
    assert got["fs_subjects_dir"] == str(roots.output / case / "sourcedata" / "freesurfer")
    assert got["fs_license_file"] == str(roots.licence)
    assert got["derivatives"] == {name: str(roots.derivatives / name) for name in options.derivatives}
    assert got["task"] == options.task
    assert tuple(got["sessions"] or ()) == options.sessions
    assert (got["level"], got["notrack"], got["stop_on_first_crash"]) == ("full", True, True)
    assert (got["cifti_output"] or None) == options.cifti_output
    assert got["run_reconall"] is not options.fs_no_reconall
    assert tuple(got["ignore"]) == options.ignore
    assert got["dummy_scans"] == options.dummy_scans
    assert (got["nprocs"], got["omp_nthreads"]) == (options.nthreads, options.omp_nthreads)
    assert got["memory_gb"] == pytest.approx(options.mem_mb / 1000)
    assert (got["seed"], got["skull_strip_fixed_seed"]) == (options.random_seed, True)
    assert got["low_mem"] is options.low_mem
    assert (got["force"], got["regressors_fd_th"]) == ((["no-bbr"], 0.3) if options.extra else ([], 0.5))


@pytest.mark.parametrize("case", CASES)
def test_the_same_images_are_found(case: str, roots: Inside, answers: dict[str, dict[str, Any]]) -> None:
    one = participant_of(case, roots)
    assert not one.missing
    assert sorted(str(path) for run in one.runs for path in run.files) == answers[case]["bold"]
    assert sorted(str(path) for path in one.anatomical) == answers[case]["t1w"]


@pytest.mark.parametrize("case", CASES)
def test_outputs_have_the_names_that_its_sink_gives(
    case: str, roots: Inside, answers: dict[str, dict[str, Any]]
) -> None:
    foretold = {one.name for one in expected_outputs(participant_of(case, roots), options_of(case))}
    of_runs = {name for name in foretold if "/func/" in name}
    # Masks and surfaces have side files too, which a run is not judged by.
    written = {name for name in answers[case]["names"] if not name.endswith(("mask.json", "space-fsaverage_bold.json"))}
    assert of_runs == written


def test_what_would_have_changed_a_run_is_refused_here(answers: dict[str, dict[str, Any]]) -> None:
    """Shortened arguments mean the whole ones to it, and the last of several counts."""
    assert (answers["shortened"]["participant"], answers["shortened"]["memory_gb"]) == ("02", 1)
    assert answers["attached"]["work_dir"] == "/elsewhere"
    assert answers["unknown"] == {"refused": "2"}
    for words in (CROOKED["shortened"], CROOKED["attached"]):
        assert complaint_about(words)


def test_every_refused_argument_is_one_of_its(package: Path) -> None:
    source = (package / "cli" / "parser.py").read_text() + "'--help'"
    assert [flag for flag in REFUSED if f"'{flag}'" not in source] == []


def test_a_real_crash_file_is_read(package: Path) -> None:
    (path,) = (package / "data" / "tests" / "crash_files").glob("crash-*.txt")
    crash = read_crash(path)
    assert crash.node == "bold_confounds_wf.dvars"
    assert crash.error
