"""Confounds: DVARS as nipype's, slow cosines, and a table that nilearn takes for fMRIPrep's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds_strategy

from neurofm.light.confounds import as_tsv, confounds, cosines, dvars
from neurofm.light.motion import PARAMETERS


def test_dvars_of_a_real_run_is_nipype_s(real_run: Any) -> None:
    voxels = real_run.get_fdata(dtype=np.float32)[15:40, 12:40, 8:20, :20].reshape(-1, 20).T
    plain, standardised = dvars(voxels)
    assert np.isnan(plain[0])
    assert np.isnan(standardised[0])
    # nipype 1.11.0, compute_dvars on the same voxels (it rounds on its way).
    np.testing.assert_allclose(plain[1:5], [17.774693, 16.699419, 15.636299, 19.138714], rtol=1e-4)
    np.testing.assert_allclose(standardised[1:5], [0.96342303, 0.90514111, 0.84751793, 1.03735565], rtol=1e-4)


@pytest.mark.parametrize(("volumes", "tr_s", "number"), [(82, 2.2, 2), (260, 1.5, 6), (20, 2.0, 0)])
def test_cosines_are_slower_than_the_high_pass(volumes: int, tr_s: float, number: int) -> None:
    found = cosines(volumes, tr_s)
    assert found.shape == (volumes, number)
    np.testing.assert_allclose(found.T @ found, np.eye(number), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-12)
    assert number / (2 * volumes * tr_s) < 1 / 128 < (number + 1) / (2 * volumes * tr_s)


def test_nilearn_takes_the_table_of_a_real_run(real_run: Any, tmp_path: Path) -> None:
    volumes = np.moveaxis(real_run.get_fdata(dtype=np.float32), -1, 0)
    brain = np.zeros(volumes.shape[1:], dtype=np.bool_)
    brain[15:40, 12:40, 8:20] = True
    inner = np.zeros_like(brain)
    inner[20:25, 20:25, 10:15] = True
    still = np.zeros((82, 6))
    still[40:] = [2.0, 0, 0, 0, 0, 0]  # one jump
    table = confounds(
        pd.DataFrame(still, columns=list(PARAMETERS)),
        volumes,
        masks={"global_signal": brain, "csf": inner, "white_matter": inner},
        brain=brain,
        repetition_time_s=2.2,
    )
    assert table["framewise_displacement"][40] == 2.0
    np.testing.assert_allclose(table["csf"], volumes[:, inner].mean(axis=1), rtol=1e-6)
    image = tmp_path / "sub-01_task-x_space-MNI152NLin2009aSym_desc-preproc_bold.nii.gz"
    image.touch()
    (tmp_path / "sub-01_task-x_desc-confounds_timeseries.json").write_text("{}")
    (tmp_path / "sub-01_task-x_desc-confounds_timeseries.tsv").write_bytes(as_tsv(table))
    simple, kept = load_confounds_strategy(str(image), denoise_strategy="simple")
    assert (simple.shape, kept) == ((82, 24 + 2 + 2), None)
    assert np.isfinite(simple.to_numpy()).all()
    scrubbed, kept = load_confounds_strategy(str(image), denoise_strategy="scrubbing")
    assert scrubbed.shape == (82, 24 + 8 + 2)
    assert 40 not in kept
    assert len(kept) < 82
