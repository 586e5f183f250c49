"""fMRIPrep's own command line builds its whole workflow from what we ask for; only the programs are lacking.

The package is the real one (25.2.7, from PyPI), and so is the BOLD. What it looks for and cannot be had here is stood
in for, so that it comes to the last thing it checks before it starts: TemplateFlow's files are placeholders under
their real names (its builder looks whether they are there), and ``mri_convert``, with which it tries FreeSurfer's
licence, is a script that does nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import index_img, new_img_like

from neurofm.containers import Ending
from neurofm.fmriprep import FmriprepOptions, Inside, arguments, find_participants, judge
from neurofm.recording import UnitStatus
from tests.servers.clients import client_python

pytestmark = pytest.mark.long

CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    # options; programs that this needs; programs that it must not need
    "surfaces and grayordinates": (
        {"output_spaces": ["MNI152NLin2009cAsym:res-2"], "cifti_output": "91k"},
        ("recon-all", "wb_command -volume-to-surface-mapping", "antsRegistration"),
        (),
    ),
    "volumes alone": (
        {"output_spaces": ["MNI152NLin6Asym:res-2", "T1w"], "fs_no_reconall": True, "ignore": ["slicetiming"]},
        ("flirt", "antsRegistration"),
        ("recon-all", "wb_command -volume-to-surface-mapping"),
    ),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, sample_raw: Callable[[str], Path]) -> Inside:
    folder = tmp_path_factory.mktemp("workflow")
    bids = folder / "bids"
    for name in ("anat", "func"):
        (bids / "sub-03" / name).mkdir(parents=True)
    (source,) = sample_raw("ds205-bold").glob("*_bold_volreg.nii.gz")
    shutil.copy(source, bids / "sub-03" / "func" / "sub-03_task-localizer_bold.nii.gz")
    sidecar = {"RepetitionTime": 2.2, "TaskName": "localizer"}
    (bids / "sub-03" / "func" / "sub-03_task-localizer_bold.json").write_text(json.dumps(sidecar))
    # Nothing looks at what is in it.
    index_img(source, 0).to_filename(bids / "sub-03" / "anat" / "sub-03_T1w.nii.gz")
    (bids / "dataset_description.json").write_text(json.dumps({"Name": "n", "BIDSVersion": "1.10.0"}))
    (folder / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    (folder / "programs").mkdir()
    (folder / "programs" / "mri_convert").write_text("#!/bin/sh\nexit 0\n")
    (folder / "programs" / "mri_convert").chmod(0o755)
    _placeholders(folder / "templateflow", like=source)
    return Inside(
        bids=bids,
        output=folder / "out",
        work=folder / "work",
        licence=folder / "license.txt",
        templates=folder / "templateflow",
    )


def _placeholders(folder: Path, *, like: Path) -> None:
    """Unpack the skeleton that TemplateFlow's package carries: the name of every file; and give them something."""
    python = client_python("fmriprep")
    (skeleton,) = python.parent.parent.glob("lib/python3*/site-packages/templateflow/conf/templateflow-skel.zip")
    with zipfile.ZipFile(skeleton) as packed:
        packed.extractall(folder)
    image: Any = nib.load(like)
    new_img_like(image, np.asarray(image.dataobj[:4, :4, :4, 0])).to_filename(folder / "placeholder.nii.gz")
    for path in folder.rglob("*"):
        if path.is_file() and not path.stat().st_size:
            shutil.copy(folder / "placeholder.nii.gz", path)


@pytest.mark.parametrize("case", list(CASES))
def test_the_whole_workflow_is_built(case: str, roots: Inside, tmp_path: Path) -> None:
    wanted, needed, unneeded = CASES[case]
    options = FmriprepOptions.parse(wanted | {"nthreads": 2, "omp_nthreads": 1, "mem_mb": 8000}, where=case, mend="")
    (participant,) = find_participants(roots.bids, options=options)
    inside = Inside(**{**vars(roots), "output": tmp_path / "out", "work": tmp_path / "work"})
    command = client_python("fmriprep").with_name("fmriprep")
    log = tmp_path / "log"
    with log.open("w") as file:
        done = subprocess.run(
            [str(command), *arguments("03", options, inside=inside)],
            env={
                "PATH": f"{roots.licence.parent / 'programs'}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "TEMPLATEFLOW_HOME": str(roots.templates),
                "TEMPLATEFLOW_AUTOUPDATE": "off",
                "FREESURFER_HOME": str(tmp_path),
            },
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=600,
        )
    said = log.read_text()
    assert done.returncode == 127, said
    for program in needed:
        assert f"* {program} (Interface" in said, program
    for program in unneeded:
        assert f"* {program} (Interface" not in said, program
    ending = Ending(code=done.returncode, reason="", seconds=1.0, image="", log=log, container="c")
    verdict = judge(ending, participant=participant, options=options, output=inside.output)
    assert verdict.status is UnitStatus.FAILED
    assert "sub-03: fMRIPrep lacks programs (exit code 127): " in verdict.reason
    assert " more; " in verdict.reason
