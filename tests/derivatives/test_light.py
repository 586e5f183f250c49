"""The engine `light` behind the stage: real BOLD becomes derivatives that the reader of fMRIPrep's outputs reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_gm_template
from nilearn.image import index_img, new_img_like, resample_to_img

from neurofm.containers import EngineName
from neurofm.derivatives.dataset import derive_dataset, site_for, surroundings_of
from neurofm.derivatives.participant import process
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.errors import UserError
from neurofm.files import write_json
from neurofm.light import PACKAGED_SPACE
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import ManifestRecording, Modality, UnitStatus
from neurofm.units import UnitsSite, UnitSummary, open_executor
from tests.light.conftest import PROJECT, real_run
from tests.servers.isolated import isolated_python

__all__ = ["real_run"]
SETTINGS = {"bids": "bids", "engine": "light", "light": {"resolution_mm": 6}, "max_failed_fraction": 0.5}


@pytest.fixture
def root(tmp_path: Path, real_run: Any) -> Path:  # a fixture
    """A project with raw BIDS of two participants, neither with a T1-weighted image; one run is a single image."""
    isolated_python("antspyx")
    (tmp_path / ".neurofm").mkdir()
    (tmp_path / ".neurofm" / "envs").symlink_to(PROJECT / ".neurofm" / "envs")
    (tmp_path / "containers").symlink_to(PROJECT / "containers")
    runs = {"01": index_img(real_run, slice(0, 12)), "02": index_img(real_run, 0)}
    for label, image in runs.items():
        folder = tmp_path / "bids" / f"sub-{label}" / "func"
        folder.mkdir(parents=True)
        image.to_filename(folder / f"sub-{label}_task-rest_bold.nii.gz")
    write_json(tmp_path / "bids" / "task-rest_bold.json", {"RepetitionTime": 2.2, "TaskName": "rest"})
    write_json(tmp_path / "bids" / "dataset_description.json", {"Name": "n", "BIDSVersion": "1.10.0"})
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\tage\nsub-01\t21\n")
    return tmp_path


def derive(root: Path, **more: Any) -> UnitSummary:
    settings = DerivativesSettings.parse(SETTINGS | more, where="params.yaml", mend="-")
    site = site_for(UnitsSite(workers=1), settings)
    return derive_dataset(
        "study",
        settings,
        surroundings=surroundings_of(root, engine=EngineName.AUTO),
        runs_here=True,
        executor=open_executor(process, site=site, modality=Modality.FMRI, running=root / ".neurofm" / "running"),
    )


def test_raw_bold_becomes_derivatives_that_say_who_made_them(root: Path) -> None:
    summary = derive(root)
    assert summary.statuses == {"sub-01": UnitStatus.SUCCEEDED, "sub-02": UnitStatus.FAILED}
    assert "sub-02_task-rest_bold.nii.gz: 3-D" in summary.reasons["sub-02"]
    made = root / "data" / "derivatives" / "study"
    assert not list(made.glob("sub-02*"))

    (bold,) = made.glob("sub-01/func/*_bold.nii.gz")
    run: Any = nib.load(bold)
    # Left and right half of the template's grey matter.
    grey: Any = resample_to_img(load_mni152_gm_template(resolution=2), index_img(run, 0))
    inside = np.asarray(grey.dataobj) > 0.5
    right = np.arange(inside.shape[0])[:, None, None] > inside.shape[0] / 2
    new_img_like(grey, np.where(inside, 1 + right, 0).astype(np.int32)).to_filename(root / "halves.nii.gz")
    entry = ManifestRecording(
        id="sub-01_task-rest",
        subject="study:01",
        files={"main": bold.relative_to(made).as_posix()},
        extra=tuple(sorted(path.relative_to(made).as_posix() for path in made.rglob("*.*") if path != bold)),
    )
    source = ReaderInput(dataset="s", modality=Modality.FMRI, species="Homo sapiens", root=made, entry=entry)
    options = {"atlas": "halves", "atlas_file": str(root / "halves.nii.gz"), "atlas_space": PACKAGED_SPACE}
    recording = read_recording("fmriprep", source, options)
    assert recording.steps[0].name == "neurofm-light"
    assert "not fMRIPrep" in str(recording.steps[0].params["description"])
    assert recording.signal is not None
    assert recording.signal.values.shape == (12, 2)
    assert np.isfinite(recording.signal.values).all()
    assert recording.signal.sampling_rate_hz == 1 / 2.2
    assert recording.confounds is not None
    assert {"trans_x", "framewise_displacement", "csf"} <= set(recording.confounds.columns)
    assert recording.scalars == {"age": 21}

    (made / "participants.tsv").unlink()
    assert derive(root).ran == 1  # who failed is tried again; nobody else
    assert (made / "participants.tsv").read_text() == (root / "bids" / "participants.tsv").read_text()


def test_a_template_that_is_not_there_is_said_first(root: Path) -> None:
    template = {"brain": "b.nii.gz", "white_matter": "w.nii.gz", "csf": "c.nii.gz"}
    with pytest.raises(UserError, match=r"b\.nii\.gz: there is no such file, and `light\.template` names it"):
        derive(root, light={"space": "MNI152NLin6Asym", "template": template})
