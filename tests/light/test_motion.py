"""Known rigid motions of real volumes are found again: by how many mm and degrees, and with which signs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from neurofm.light.ants_process import Ants
from neurofm.light.images import Grid, lay_out_bold
from neurofm.light.motion import PARAMETERS, estimate_motion, framewise_displacement, motion_parameters
from neurofm.light.reference import alignment_mask, brain_of, centre_mm
from tests.light.conftest import image_of, moved, rigid

MOTIONS = (
    ((0.3, -0.2, 0.1), (0.2, -0.1, 0.3)),
    ((1.0, -0.5, 0.8), (1.0, 0.5, -0.7)),
    ((-2.0, 1.5, 2.0), (-2.0, 1.5, 2.0)),
    ((0.05, 0.05, -0.05), (0.05, 0.0, 0.05)),
)


def test_known_motions_of_real_volumes(real_run: Any, tmp_path: Path, ants: Ants) -> None:
    """Each volume has noise of its own, and what little motion its authors left in it: the same volume tells that."""
    volumes, affine = real_run.get_fdata(dtype=np.float32), real_run.affine
    grid = Grid(shape=volumes.shape[:3], affine=affine)
    brain = brain_of(volumes[..., 0], grid, name="run")
    about = np.array(centre_mm(brain, grid))
    truth = [rigid(*motion, about_mm=about) for motion in MOTIONS]
    series = [volumes[..., 0]]
    for number in (30, 60):
        series += [volumes[..., number], *(moved(volumes[..., number], affine, matrix) for matrix in truth)]
    image_of(np.stack(series, axis=-1), affine).to_filename(tmp_path / "run.nii.gz")
    bold = lay_out_bold(tmp_path / "run.nii.gz", folder=tmp_path)
    found = estimate_motion(bold, reference=0, mask=alignment_mask(brain), ants=ants).matrices

    head = np.c_[np.argwhere(brain), np.ones(brain.sum())] @ affine.T
    assert np.abs(found[0] - np.eye(4)).max() < 0.03
    for at in (1, 6):
        for estimate, matrix in zip(found[at + 1 : at + 5], truth, strict=True):
            expected = matrix @ found[at]
            apart_mm = np.linalg.norm((head @ estimate.T - head @ expected.T)[:, :3], axis=1)
            turn = Rotation.from_matrix(estimate[:3, :3].T @ expected[:3, :3]).magnitude()
            assert apart_mm.max() < 0.1
            assert np.degrees(turn) < 0.1


@pytest.mark.parametrize("flip", [(), (0,), (0, 1, 2)], ids=["as it is", "other hand", "all axes reversed"])
def test_signs_are_the_scanner_s_whatever_the_order_of_voxels(
    flip: tuple[int, ...], real_run: Any, tmp_path: Path, ants: Ants
) -> None:
    volume, affine = np.asarray(real_run.dataobj[..., 0], dtype=np.float32), real_run.affine
    grid = Grid(shape=volume.shape, affine=affine)
    about = np.array(centre_mm(brain_of(volume, grid, name="run"), grid))
    series = np.stack([volume, moved(volume, affine, rigid((1.5, -1.0, 0.7), (1.0, -1.5, 2.0), about_mm=about))], -1)
    for axis in flip:
        series = np.flip(series, axis)
        turned = np.eye(4)
        turned[axis, axis], turned[axis, 3] = -1, volume.shape[axis] - 1
        affine = affine @ turned
    image_of(series, affine).to_filename(tmp_path / "run.nii.gz")
    bold = lay_out_bold(tmp_path / "run.nii.gz", folder=tmp_path)
    brain = brain_of(bold.volumes()[0].copy(), bold.grid, name="run")
    found = estimate_motion(bold, reference=0, mask=alignment_mask(brain), ants=ants)
    parameters = motion_parameters(found.matrices, centre_mm=(about[0], about[1], about[2])).iloc[1]
    assert parameters[:3].to_numpy(float) == pytest.approx([1.5, -1.0, 0.7], abs=0.1)
    assert np.degrees(parameters[3:].to_numpy(float)) == pytest.approx([1.0, -1.5, 2.0], abs=0.1)


@pytest.mark.parametrize(
    ("turn_deg", "point", "goes"),
    [
        ((5.0, 0.0, 0.0), (0, 80, 0), (0, 0, 1)),  # the face is lifted
        ((0.0, 5.0, 0.0), (0, 0, 80), (1, 0, 0)),  # the top of the head goes to its right
        ((0.0, 0.0, 5.0), (0, 80, 0), (-1, 0, 0)),  # the nose goes to its left
    ],
)
def test_what_positive_rotations_mean(
    turn_deg: tuple[float, ...], point: tuple[int, ...], goes: tuple[int, ...]
) -> None:
    matrix = rigid((0.0, 0.0, 0.0), turn_deg, about_mm=np.zeros(3))
    assert (matrix[:3, :3] @ point - point) @ goes > 5
    found = motion_parameters(matrix[None], centre_mm=(0.0, 0.0, 0.0)).iloc[0]
    np.testing.assert_allclose(found, [0, 0, 0, *np.radians(turn_deg)], atol=1e-12)


def test_translations_are_those_of_the_centre() -> None:
    about = np.array([10.0, -20.0, 30.0])
    matrix = rigid((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), about_mm=about)
    found = motion_parameters(matrix[None], centre_mm=(10.0, -20.0, 30.0)).iloc[0]
    np.testing.assert_allclose(found, [1, 2, 3, *np.radians([4, 5, 6])], atol=1e-12)


def test_framewise_displacement() -> None:
    # 1 mm and -2 mm, and 0.01 rad, which is 0.5 mm at 50 mm; nipype 1.11's agreed with it to 1e-15.
    rows = [[0.0] * 6, [1.0, -2.0, 0, 0.01, 0, 0], [1.0, -2.0, 0, 0.01, 0, 0]]
    found = framewise_displacement(pd.DataFrame(rows, columns=list(PARAMETERS)))
    np.testing.assert_allclose(found, [np.nan, 3.5, 0.0])
