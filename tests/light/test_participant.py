"""A participant from raw BIDS to files that are read as fMRIPrep's are, and never taken for fMRIPrep's."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds_strategy

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.fmriprep import FmriprepOptions, find_participants
from neurofm.light import LightOptions, files_of, write_description
from neurofm.light.ants_process import Ants
from neurofm.light.participant import RunOutcome, process_participant
from neurofm.light.template import load_template
from neurofm.recording import Unreadable
from tests.light.conftest import PROJECT, image_of
from tests.servers.isolated import isolated_python

OPTIONS = LightOptions(resolution_mm=4)
VOLUMES = 6


@pytest.fixture(scope="module")
def root(real_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A raw dataset of one participant without T1w: a whole run, and one that is cut off."""
    isolated_python("antspyx")
    root = tmp_path_factory.mktemp("project")
    func = root / "bids" / "sub-03" / "ses-a" / "func"
    func.mkdir(parents=True)
    (root / "bids" / "dataset_description.json").write_text(json.dumps({"Name": "n", "BIDSVersion": "1.10.0"}))
    whole = func / "sub-03_ses-a_task-x_run-1_bold.nii.gz"
    real_run.slicer[..., :VOLUMES].to_filename(whole)
    content = whole.read_bytes()
    (func / "sub-03_ses-a_task-x_run-2_bold.nii.gz").write_bytes(content[: len(content) // 2])
    (root / ".neurofm").mkdir()
    (root / "containers").symlink_to(PROJECT / "containers")
    (root / ".neurofm" / "envs").symlink_to(PROJECT / ".neurofm" / "envs")
    yield root
    shutil.rmtree(root)


def process(root: Path, output: Path) -> tuple[RunOutcome, ...]:
    (participant,) = find_participants(root / "bids", options=FmriprepOptions())
    work = root / ".neurofm"
    outcomes = process_participant(participant, bids=root / "bids", output=output, work=work, options=OPTIONS)
    assert list((work / "light").iterdir()) == []
    return outcomes


@pytest.fixture(scope="module")
def outcomes(root: Path) -> tuple[RunOutcome, ...]:
    output = root / "out"
    write_description(output)
    old = output / "sub-03/ses-a/func/sub-03_ses-a_task-x_run-2_desc-confounds_timeseries.tsv"
    old.parent.mkdir(parents=True)
    old.write_text("of a run that was whole once")
    return process(root, output)


def test_names_values_and_labels(root: Path, outcomes: tuple[RunOutcome, ...]) -> None:
    whole, cut = outcomes
    (participant,) = find_participants(root / "bids", options=FmriprepOptions())
    files = files_of(participant.runs[0], output=root / "out", space=OPTIONS.space)
    assert (whole.files, whole.reason) == (files.all, "")
    stem = "sub-03/ses-a/func/sub-03_ses-a_task-x_run-1"
    assert files.bold == root / "out" / f"{stem}_space-MNI152NLin2009aSym_desc-preproc_bold.nii.gz"
    assert files.mask == root / "out" / f"{stem}_space-MNI152NLin2009aSym_desc-brain_mask.nii.gz"
    assert files.confounds == root / "out" / f"{stem}_desc-confounds_timeseries.tsv"
    assert (cut.stem, cut.files) == ("sub-03_ses-a_task-x_run-2", ())
    assert cut.reason.startswith("sub-03_ses-a_task-x_run-2_bold.nii.gz: ")
    assert {path for path in (root / "out").rglob("*") if path.is_file()} == {
        *files.all,
        root / "out" / "dataset_description.json",
    }
    template = load_template(OPTIONS)
    bold: Any = nib.load(files.bold)
    mask: Any = nib.load(files.mask)
    assert bold.shape == (*template.grid.shape, VOLUMES)
    np.testing.assert_array_equal(bold.affine, template.grid.affine)
    np.testing.assert_array_equal(mask.affine, template.grid.affine)
    inside = np.asarray(mask.dataobj) > 0
    assert (template.mask | ~inside).all()
    said = json.loads(files.bold_json.read_text())
    assert inside.sum() / template.mask.sum() == pytest.approx(said["TemplateBrainCovered"], abs=1e-3)
    assert said["TemplateBrainCovered"] > 0.9
    assert said["RepetitionTime"] == 2.2
    assert said["SkullStripped"] is False
    assert said["T1w"] is None
    assert "there is no T1w" in said["Normalisation"]
    for text in (files.bold_json.read_text(), files.confounds_json.read_text()):
        assert "This is not fMRIPrep" in text
    # The brain of the run came to lie where the template's is: it is bright there, and dark around.
    mean = bold.get_fdata().mean(axis=-1)
    assert 2 * (inside & (mean > 400)).sum() / ((mean > 400).sum() + inside.sum()) > 0.9


@pytest.mark.filterwarnings("ignore:All volumes were marked")  # of six
def test_nilearn_reads_it_as_fmriprep_s(outcomes: tuple[RunOutcome, ...]) -> None:
    bold, _, mask_path, table_path, _ = outcomes[0].files
    mask: Any = nib.load(mask_path)
    image: Any = nib.load(bold)
    table = pd.read_csv(table_path, sep="\t")
    values = image.get_fdata()[np.asarray(mask.dataobj) > 0]
    np.testing.assert_allclose(table["global_signal"], values.mean(axis=0), rtol=1e-6)
    assert table_path.read_text().splitlines()[1].split("\t")[table.columns.get_loc("framewise_displacement")] == "n/a"
    for strategy, columns in (("simple", 26), ("scrubbing", 32)):
        confounds, _ = load_confounds_strategy(str(bold), denoise_strategy=strategy)
        assert confounds.shape == (VOLUMES, columns)


def test_the_same_bytes_again(root: Path, outcomes: tuple[RunOutcome, ...]) -> None:
    again, _ = process(root, root / "again")
    assert [sha256_of(path) for path in again.files] == [sha256_of(path) for path in outcomes[0].files]


def test_description_says_what_made_it(tmp_path: Path) -> None:
    write_description(tmp_path)
    write_description(tmp_path)
    path = tmp_path / "dataset_description.json"
    said = json.loads(path.read_text())
    assert said["DatasetType"] == "derivative"
    (by,) = said["GeneratedBy"]
    assert by["Name"] == "neurofm-light"
    assert "This is not fMRIPrep" in by["Description"]
    path.write_text(json.dumps(said | {"GeneratedBy": [{"Name": "fMRIPrep"}]}))
    with pytest.raises(UserError, match=r"outputs of another program \(fMRIPrep\)"):
        write_description(tmp_path)


def test_by_way_of_an_anatomy_and_echoes_are_refused(root: Path, tmp_path: Path) -> None:
    """The anatomy is the template's brain where the template has it, which is near enough to this head."""
    template = load_template(LightOptions(resolution_mm=3))
    image_of(1000 * template.brain, template.grid.affine).to_filename(tmp_path / "sub-03_T1w.nii.gz")
    (participant,) = find_participants(root / "bids", options=FmriprepOptions())
    run = participant.runs[0]
    echoes = replace(run, stem="sub-03_ses-a_task-y", files=run.files * 2)
    participant = replace(participant, anatomical=(tmp_path / "sub-03_T1w.nii.gz",), runs=(echoes, run))
    refused, whole = process_participant(
        participant, bids=root / "bids", output=tmp_path, work=root / ".neurofm", options=OPTIONS
    )
    assert refused.reason == "sub-03_ses-a_task-y: 2 files (echoes); the engine `light` takes one"
    said = json.loads(whole.files[1].read_text())
    assert said["T1w"] == "sub-03_T1w.nii.gz"
    assert said["Normalisation"].startswith("BOLD to T1w (rigid), T1w to template")
    assert said["TemplateBrainCovered"] > 0.8  # rigid: the two heads are not of the same size


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    with (
        Ants(python=Path(sys.executable), folder=tmp_path, seed=1) as ants,  # there is no antspyx in ours
        pytest.raises(Unreadable, match=r"^a\.nii: ANTs ended with code 1 in 'motion': ModuleNotFoundError: .*ants"),
    ):
        ants.ask("motion", about="a.nii")
