"""A small BIDS tree, of the names that matter; its images are a few bytes that nobody reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

NAMES = (
    "sub-01/anat/sub-01_T1w.nii.gz",
    "sub-01/func/sub-01_task-rest_run-01_bold.nii.gz",
    "sub-01/func/sub-01_task-rest_run-02_bold.nii.gz",
    "sub-01/func/sub-01_task-rest_run-02_sbref.nii.gz",
    "sub-01/func/sub-01_task-nback_acq-fast_dir-AP_bold.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
    "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-1_bold.nii.gz",
    "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-2_bold.nii.gz",
    "sub-02/ses-a/func/sub-02_ses-a_task-rest_echo-3_bold.nii.gz",
    "sub-02/ses-b/func/sub-02_ses-b_task-rest_part-mag_bold.nii.gz",
    "sub-02/ses-b/func/sub-02_ses-b_task-rest_part-phase_bold.nii.gz",
)


def add(bids: Path, names: Iterable[str]) -> None:
    for name in names:
        (bids / name).parent.mkdir(parents=True, exist_ok=True)
        (bids / name).write_bytes(b"x")


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    folder = tmp_path / "bids"
    add(folder, NAMES)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "n", "BIDSVersion": "1.10.0"}))
    return folder
