"""A raw BIDS dataset under DVC, participant by participant through podman, with an image named ``stand_in``."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neurofm.files import write_json
from neurofm.recording import UnitStatus
from neurofm.sources import read_manifest
from tests.integration.study import OPTIONS, STUDY, TASK, Study, equip, make_study
from tests.servers.http_files import FileServer
from tests.servers.podman import Podman

BOLD = "study-bold"
SPACE = "space-MNI152NLin2009cAsym_res-2"
ENTRY = {
    "id": BOLD,
    "title": "one run of OpenNeuro ds000205, as a stand-in for fMRIPrep left it",
    "modality": "fmri",
    "reader": "fmriprep",
    "source": {"archive": "local", "path": f"data/derivatives/{STUDY}"},
    "recordings": {
        "pattern": rf"sub-(?P<subject>[^/]+)/func/sub-[^_]+_{TASK}_{SPACE}_desc-preproc_bold\.nii\.gz",
        "task": "functionallocalizer",
        "roles": {
            "mask": f"sub-{{subject}}/func/sub-{{subject}}_{TASK}_{SPACE}_desc-brain_mask.nii.gz",
            "confounds": f"sub-{{subject}}/func/sub-{{subject}}_{TASK}_desc-confounds_timeseries.tsv",
        },
    },
    "subject_namespace": "openneuro-ds000205",
    "species": "Homo sapiens",
    "licence": "Apache-2.0",
    "redistribute": True,
    "citation": "Kim et al. 2016",
}


@pytest.fixture(scope="module")
def surroundings(store: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment of a machine where fMRIPrep can run: podman, a licence, templates, a disk of its own."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        equip(folder, patch)
        yield folder


@pytest.fixture(scope="module")
def study(surroundings: Path, stand_in: Path, sample_raw: Callable[[str], Path]) -> Study:
    """Two participants, after the first ``dvc repro`` of what rests on them."""
    project = make_study(surroundings, stand_in=stand_in, raw=sample_raw("ds205-bold"), labels=("01", "02"))
    write_json(project.root / "data" / "catalog" / f"{BOLD}.yaml", ENTRY)
    local = {"modality": "fmri", "reader": "fmriprep", "path": f"data/derivatives/{STUDY}"}
    project.set(["local"], {BOLD: local})
    # Only what is asked for: the reader of derivatives is another stage's.
    assert project.repro(f"manifest_local@{BOLD}") == [f"derivatives@{STUDY}", f"manifest_local@{BOLD}"]
    return project


def test_derivatives_are_in_place_and_a_dataset_reads_them(study: Study, stand_in: Path) -> None:
    pin = json.loads((stand_in / "containers" / "images.yaml").read_text())["images"]["fmriprep"]
    receipts = study.receipts()
    assert {unit: receipt.status for unit, receipt in receipts.items()} == dict.fromkeys(
        ("sub-01", "sub-02"), UnitStatus.SUCCEEDED
    )
    for receipt in receipts.values():
        assert receipt.cost is not None
        assert receipt.cost.container == pin["digest"]
        assert receipt.facts["engine"] == "fmriprep"
    func = study.made / "sub-01" / "func"
    mask = nib.Nifti1Image.from_filename(func / f"sub-01_{TASK}_{SPACE}_desc-brain_mask.nii.gz")
    volumes = nib.Nifti1Image.from_filename(func / f"sub-01_{TASK}_{SPACE}_desc-preproc_bold.nii.gz")
    assert volumes.shape == (*mask.shape, 82)
    assert 0.1 < np.mean(mask.get_fdata()) < 0.9
    table = (func / f"sub-01_{TASK}_desc-confounds_timeseries.tsv").read_text().splitlines()
    assert len(table) == 1 + 82
    described = json.loads((study.made / "dataset_description.json").read_text())
    assert described["GeneratedBy"][0]["Name"] == "stand_in"
    assert {path.name for path in study.made.iterdir()} == {
        *("dataset_description.json", "logs", "sourcedata"),
        *("sub-01", "sub-02", "sub-01.html", "sub-02.html"),
    }
    manifest = read_manifest(study.root / "data" / "manifests" / f"{BOLD}.json")
    assert [recording.subject for recording in manifest.recordings] == [
        "openneuro-ds000205:01",
        "openneuro-ds000205:02",
    ]
    assert set(manifest.recordings[0].files) == {"main", "mask", "confounds"}
    (told,) = json.loads(study.run("neurofm", "status", STUDY, "--json").stdout)
    assert (told["group"], told["recordings"]["units"], told["recordings"]["left"]) == ("derivatives", 2, 0)
    assert told["recordings"]["containers"] == {pin["digest"]: 2}
    explained = study.run("neurofm", "explain", f"data/manifests/{BOLD}.json").stdout
    assert f"derivatives@{STUDY}" in explained
    assert "../bids, " in explained
    # Neither what was staged nor what was worked on stays.
    assert not list((study.root / ".neurofm" / "derivatives" / STUDY).glob("sub-*"))
    assert not list(study.scratch.glob("neurofm-fmriprep-*/*/sub-*"))


def test_nothing_changed_runs_nothing_and_a_lost_file_its_participant_alone(study: Study) -> None:
    assert study.repro(f"manifest_local@{BOLD}") == []
    before = study.files("01"), study.files("02")
    lost = study.made / "sub-02" / "func" / f"sub-02_{TASK}_desc-confounds_timeseries.tsv"
    lost.unlink()
    assert study.runs_again() == f"{STUDY}: 1 participants processed, 1 whole already"
    assert study.files("01") == before[0]
    # The stand-in's bytes are always the same; those of fMRIPrep are not.
    assert study.digests("02") == {name: digest for name, (digest, _) in before[1].items()}
    assert study.repro(f"manifest_local@{BOLD}") == []


def test_one_that_crashes_fails_alone_and_what_it_had_begun_is_gone_on_with(study: Study) -> None:
    before = study.files("01")
    study.order("02", "crash")
    write_json(study.bids / "sub-02" / "func" / f"sub-02_{TASK}_bold.json", {"RepetitionTime": 2.2, "TaskName": "x"})
    done = study.dvc("repro", f"derivatives@{STUDY}")
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "1 of 2 participants failed (`derivatives.study.max_failed_fraction` allows 0)" in error
    assert "sub-02: fMRIPrep crashed (exit code 1): bold_hmc_wf.mcflirt: RuntimeError" in error
    assert f"{STUDY}: 1 participants processed, 1 whole already" in done.stdout
    assert study.files("01") == before
    assert study.files("02") == {}
    assert study.receipts()["sub-02"].status is UnitStatus.FAILED
    assert list(study.scratch.glob("neurofm-fmriprep-*/*/sub-02-*/stand_in"))
    study.order("02", "whole")
    assert study.runs_again() == f"{STUDY}: 1 participants processed, 1 whole already"
    assert study.files("01") == before
    assert not [name for name in study.files("02") if "crash" in name]
    assert not list(study.scratch.glob("neurofm-fmriprep-*/*/sub-*"))


def test_ctrl_c_loses_nothing_and_leaves_nothing_half(
    study: Study, podman: Podman, sample_raw: Callable[[str], Path]
) -> None:
    before = study.files("01"), study.files("02")
    (bold,) = sample_raw("ds205-bold").glob("*_volreg.nii.gz")
    (parcels,) = sample_raw("ds205-bold").glob("*_parc.nii.gz")
    study.add("03", bold=bold, parcels=parcels)
    study.order("03", "hang")
    text = study.interrupted_at_work("03", study.root.parent / "interrupted.txt")
    assert "interrupted; run it again to go on where it stopped" in text
    assert "Traceback" not in text
    assert podman.containers() == []
    assert (study.files("01"), study.files("02")) == before
    assert study.files("03") == {}
    study.order("03", "whole")
    assert study.runs_again() == f"{STUDY}: 1 participants processed, 2 whole already"
    assert study.receipts()["sub-03"].status is UnitStatus.SUCCEEDED


def test_who_cannot_be_processed_says_why_and_who_left_is_gone(study: Study) -> None:
    shutil.rmtree(study.bids / "sub-03", ignore_errors=True)
    (study.bids / "sub-02" / "anat" / "sub-02_T1w.nii.gz").unlink()
    study.set(["derivatives", STUDY, "max_failed_fraction"], 0.5)
    assert study.runs_again() == f"{STUDY}: 0 participants processed, 1 whole already"
    assert set(study.receipts()) == {"sub-01", "sub-02"}
    assert "sub-02: no T1-weighted image (anat/*_T1w.nii.gz)" in study.receipts()["sub-02"].reason
    assert {path.name for path in study.made.glob("sub-*")} == {"sub-01", "sub-01.html"}
    assert {path.name for path in (study.made / "logs").iterdir()} == {"sub-01", "CITATION.md"}


def test_raw_bids_of_an_archive_is_fetched_first_and_links_by_its_folder(study: Study) -> None:
    paths = ("sub-01/anat/sub-01_T1w.nii.gz", f"sub-01/func/sub-01_{TASK}_bold.nii.gz", "dataset_description.json")
    files = {path: (study.bids / path).read_bytes() for path in paths}
    entry = ENTRY | {
        "id": "raw",
        "recordings": {
            "pattern": rf"sub-(?P<subject>[^/]+)/func/sub-[^_]+_{TASK}_bold\.nii\.gz",
            "task": "functionallocalizer",
            # All that fMRIPrep reads beside the volumes: what is not named here is not fetched.
            "extra": r"(sub-(?P<subject>[^/]+)/.+|[^/]+)",
        },
    }
    with FileServer({f"/{path}": content for path, content in files.items()}) as server:
        entry["source"] = {
            "archive": "http",
            "version": "1",
            "files": [
                {
                    "url": f"{server.url}/{path}",
                    "path": path,
                    "size": len(content),
                    "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                }
                for path, content in files.items()
            ],
        }
        write_json(study.root / "data" / "catalog" / "raw.yaml", entry)
        study.set(["bids"], {"raw": {}})
        study.set(["derivatives", "fetched"], {"bids": "data/raw/raw", "options": dict(OPTIONS)})
        stages = study.repro("derivatives@fetched")
    assert stages == ["manifest_bids@raw", "download_bids@raw", "derivatives@fetched"]
    made = study.root / "data" / "derivatives" / "fetched"
    assert (made / "sub-01" / "func" / f"sub-01_{TASK}_{SPACE}_desc-preproc_bold.nii.gz").is_file()
    assert study.repro("derivatives@fetched") == []


def test_what_is_missing_is_said_in_one_line_before_anybody_starts(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(*expected: str) -> None:
        done = study.run(sys.executable, "stages/derivatives.py", STUDY)
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert all(text in done.stderr for text in expected), done.stderr

    study.set(["derivatives", STUDY, "participants"], ["sub-1"])
    says("there is no participant '1'", "did you mean 01")
    study.set(["derivatives", STUDY, "participants"], ["01"])
    # Where everything is whole, none of it is needed.
    with monkeypatch.context() as patch:
        patch.delenv("FS_LICENSE")
        done = study.run(sys.executable, "stages/derivatives.py", STUDY)
        assert done.stdout.strip() == f"{STUDY}: 0 participants processed, 1 whole already", done.stderr
        study.set(["derivatives", STUDY, "options"], {**OPTIONS, "random_seed": 7})
        says("FS_LICENSE is not set")
    study.set(["derivatives", STUDY, "options"], {**OPTIONS, "output_spaces": ["MNI152NLin6Asym"]})
    says("TemplateFlow's templates MNI152NLin6Asym are not there")
    study.set(["derivatives", STUDY, "options"], {**OPTIONS, "random_seed": 7})
    study.set(["derivatives", STUDY, "image"], "nobody")
    says("no image 'nobody'")
