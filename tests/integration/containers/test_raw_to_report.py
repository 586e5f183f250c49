"""From raw BIDS to the report with one ``dvc repro``: podman and the stand-in, reader, cleaning, scores, pages.

No fMRIPrep runs here (``stand_in/stand_in.py``). The BOLD is real: stretches of one run of OpenNeuro ds000205, under
five names; the atlas is the parcellation that came with it, so that its space is one only by name.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nilearn.image import index_img
from nilearn.interfaces.fmriprep import load_confounds_strategy
from nilearn.maskers import NiftiLabelsMasker

from neurofm.files import write_json
from neurofm.shards import read_shard
from neurofm.shards.quantise import MAX_ERROR_SD
from tests.integration.conftest import small_project
from tests.integration.test_pipeline import Project
from tests.servers.podman import Podman

STUDY, BOLD = "study", "study-bold"
SPACE = "MNI152NLin2009cAsym"
STRETCHES = {"01": (0, 74), "02": (2, 76), "03": (4, 78), "04": (6, 80), "05": (8, 82)}
ENTRY: dict[str, Any] = {
    "id": BOLD,
    "title": "one run of OpenNeuro ds000205, as a stand-in for fMRIPrep left it",
    "modality": "fmri",
    "reader": "fmriprep",
    "reader_options": {"atlas": "carpet", "atlas_file": "../labels.nii.gz", "atlas_space": SPACE},
    "source": {"archive": "local", "path": f"data/derivatives/{STUDY}"},
    "recordings": {
        "pattern": r"sub-(?P<subject>[^/]+)/func/.+_task-(?P<task>[^_]+)_.+_desc-preproc_bold\.nii\.gz",
        "extra": r"(sub-(?P<subject>[^/]+)/func/.+(tsv|json|mask\.nii\.gz)|[^/]+\.(json|tsv))",
    },
    "subject_namespace": "openneuro-ds000205",
    "species": "Homo sapiens",
    "licence": "Apache-2.0",
    "redistribute": True,
    "citation": "Kim et al. 2016",
}


@pytest.fixture
def project(
    stand_in: Path, sample_raw: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    """A project, and raw BIDS beside it."""
    project = small_project(tmp_path / "neurofm")
    beside = project.root.parent
    shutil.copytree(stand_in / "containers", project.root / "containers")
    raw = sample_raw("ds205-bold")
    (bold,) = raw.glob("*_volreg.nii.gz")
    (parcels,) = raw.glob("*_parc.nii.gz")
    shutil.copy(parcels, beside / "labels.nii.gz")
    for label, (start, stop) in STRETCHES.items():
        for name in ("anat", "func"):
            (beside / "bids" / f"sub-{label}" / name).mkdir(parents=True)
        # The stand-in looks at its name only, and no real one is at hand.
        shutil.copy(parcels, beside / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz")
        stretch = index_img(bold, slice(start, stop))
        stretch.to_filename(beside / "bids" / f"sub-{label}" / "func" / f"sub-{label}_task-localizer_bold.nii.gz")
    write_json(beside / "bids" / "task-localizer_bold.json", {"RepetitionTime": 2.2, "TaskName": "localizer"})
    write_json(beside / "bids" / "dataset_description.json", {"Name": "study", "BIDSVersion": "1.10.0"})
    ages = "".join(f"sub-{label}\t2{label[-1]}\n" for label in STRETCHES)
    (beside / "bids" / "participants.tsv").write_text(f"participant_id\tage\n{ages}")
    (beside / "license.txt").write_text("someone@example.org\n1\n *C\n FS\n")
    for name in (SPACE, "OASIS30ANTs", "fsaverage", "fsLR"):
        (beside / "templateflow" / f"tpl-{name}").mkdir(parents=True)
        (beside / "templateflow" / f"tpl-{name}" / "stand_in.nii.gz").write_bytes(b"stand_in")
    (beside / "scratch").mkdir()
    monkeypatch.setenv("FS_LICENSE", str(beside / "license.txt"))
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(beside / "templateflow"))
    monkeypatch.setenv("TMPDIR", str(beside / "scratch"))
    write_json(project.root / "data" / "catalog" / f"{BOLD}.yaml", ENTRY)
    local = {"modality": "fmri", "reader": "fmriprep", "path": f"data/derivatives/{STUDY}"}
    project.set(["local"], {BOLD: local})
    # The stand-in's table of confounds is of somebody who moved by 2 mm, who would be kept out.
    for limit in ("max_mean_fd_mm", "max_fd_outlier_fraction"):
        project.set(["preprocess", "fmri", "exclude", limit], None)
    project.set(["windows", "fmri"], {"window_samples": 16, "patch_samples": 4})  # the runs are short
    options = {"mem_mb": 8000, "nthreads": 1, "omp_nthreads": 1}
    project.set(["derivatives"], {STUDY: {"bids": "../bids", "options": options}})
    return project


@pytest.mark.long
def test_raw_bids_to_a_report_that_names_the_stand_in(project: Project, podman: Podman) -> None:
    assert podman.containers() == []
    stages = project.repro()
    chain = [f"derivatives@{STUDY}", f"manifest_local@{BOLD}", f"preprocess_local@{BOLD}", "split", "connectivity"]
    assert [stage for stage in stages if stage in chain] == chain
    assert stages[-1] == "report"
    assert project.repro() == []

    page = (project.root / "reports" / "fmri.html").read_text()
    (section,) = re.findall(rf'<section id="{BOLD}">.+?</section>', page, re.DOTALL)
    assert "<b>No fMRIPrep.</b>" in section
    assert "<code>stand_in 1</code>" in section
    told = json.loads((project.root / "metrics" / "connectivity.json").read_text())
    assert "stand_in 1" in json.dumps(told)
    quality = json.loads((project.root / "metrics" / "quality" / f"{BOLD}.json").read_text())["recordings"]
    assert {name: one["status"] for name, one in quality.items()} == {
        f"sub-{label}_task-localizer": "succeeded" for label in STRETCHES
    }

    # What is in the shard are the numbers of nilearn, from the files that the container left.
    run = project.root / "data" / "derivatives" / STUDY / "sub-02" / "func" / "sub-02_task-localizer"
    bold = f"{run}_space-{SPACE}_res-2_desc-preproc_bold.nii.gz"
    confounds, kept = load_confounds_strategy(bold, denoise_strategy="simple")
    masker = NiftiLabelsMasker(
        project.root.parent / "labels.nii.gz",
        mask_img=f"{run}_space-{SPACE}_res-2_desc-brain_mask.nii.gz",
        detrend=True,
        standardize=None,
        resampling_target=None,
        reports=False,
    )
    theirs = masker.fit_transform(bold, confounds=confounds, sample_mask=kept)
    shard = read_shard(project.root / "data" / "shards" / BOLD / "sub-02_task-localizer.zarr.zip")
    assert shard.recording.steps[0].name == "stand_in"
    assert shard.recording.scalars == {"age": 22}
    labels = [int(label) for column, label in masker.region_ids_.items() if column != "background"]
    columns = np.array([shard.recording.channels.id.index(f"carpet-{label:03d}") for label in labels])
    rows = np.arange(len(shard.stored)) if kept is None else np.asarray(kept)
    ours = shard.values()[np.ix_(rows, columns)]
    usable = shard.usable[columns]
    assert usable.sum() > 100
    error_sd = np.abs(ours - theirs)[:, usable].max(axis=0) / theirs[:, usable].std(axis=0)
    assert error_sd.max() <= MAX_ERROR_SD
