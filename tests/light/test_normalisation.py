"""A head that is the template itself, turned, shrunk and recoloured: where each of its points lies is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import affine_transform

from neurofm.light import LightOptions
from neurofm.light.ants_process import Ants
from neurofm.light.images import Grid
from neurofm.light.normalisation import Transforms, normalise_anatomy, resample_run, template_to_run
from neurofm.light.template import Template, load_template
from neurofm.recording import Unreadable
from tests.light.conftest import image_of, rigid


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(LightOptions(resolution_mm=4))


def points_in(
    target: Grid, transforms: Transforms, template: Template, *, folder: Path, ants: Ants
) -> npt.NDArray[np.float64]:
    """[voxel of the template's brain, 3] where the transforms lead it, mm: by resampling images of coordinates."""
    at_mm = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1) @ target.affine[:3, :3].T
    coordinates = np.moveaxis(at_mm + target.affine[:3, 3], -1, 0).astype(np.float32)
    np.save(folder / "coordinates.npy", coordinates)
    found = resample_run(
        folder / "coordinates.npy",
        target,
        target=template.grid,
        common=transforms[:-1],
        motion=(transforms[-1],) * 3,
        name="coordinates",
        ants=ants,
        to=folder / "found.npy",
        interpolator="linear",
    )
    return np.asarray(found, dtype=np.float64)[:, template.mask].T


def test_anatomy_and_run_are_found(template: Template, tmp_path: Path, ants: Ants) -> None:
    scale = np.diag([0.92, 0.95, 0.9, 1.0])
    to_head = rigid((5.0, -8.0, 12.0), (6.0, -4.0, 5.0), about_mm=np.zeros(3)) @ scale
    fine = load_template(LightOptions(resolution_mm=2))
    image_of(1000 * fine.brain, to_head @ fine.grid.affine).to_filename(tmp_path / "sub-01_T1w.nii.gz")
    anatomy = normalise_anatomy(tmp_path / "sub-01_T1w.nii.gz", template=template, ants=ants)
    brain_mm = np.argwhere(template.mask) @ template.grid.affine[:3, :3].T + template.grid.affine[:3, 3]
    in_head_mm = brain_mm @ to_head[:3, :3].T + to_head[:3, 3]
    found = points_in(anatomy.grid, anatomy.from_template, template, folder=tmp_path, ants=ants)
    apart = np.linalg.norm(found - in_head_mm, axis=1)
    assert np.median(apart) < 1  # in voxels of 4 mm
    assert np.percentile(apart, 95) < 4

    # A run: the same head, somewhere else, in voxels of 3.5 mm whose values fall where those of T1w rise.
    to_run = rigid((-6.0, 4.0, 3.0), (-3.0, 5.0, 4.0), about_mm=np.zeros(3))
    grid = Grid(
        shape=(56, 64, 50), affine=np.array([[-3.5, 0, 0, 98], [0, 3.5, 0, -112], [0, 0, 3.5, -70], [0, 0, 0, 1]])
    )
    index = np.linalg.inv(to_run @ to_head @ fine.grid.affine) @ grid.affine
    t1w = affine_transform(fine.brain, index[:3, :3], index[:3, 3], output_shape=grid.shape, order=1)
    brain = t1w > 0.1
    mean = np.where(brain, 1500 - 1000 * t1w, 0).astype(np.float32)
    chain = template_to_run(mean, brain, grid, name="run", anatomy=anatomy, template=template, ants=ants)
    second = tmp_path / "second"
    second.mkdir()
    found = points_in(grid, chain, template, folder=second, ants=ants)
    apart = np.linalg.norm(found - (in_head_mm @ to_run[:3, :3].T + to_run[:3, 3]), axis=1)
    assert np.median(apart) < 1.5
    assert np.percentile(apart, 95) < 4


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_an_anatomy_that_is_no_image(content: bytes, template: Template, tmp_path: Path, ants: Ants) -> None:
    (tmp_path / "sub-01_T1w.nii.gz").write_bytes(content)
    with pytest.raises(Unreadable, match=r"^sub-01_T1w\.nii\.gz: "):
        normalise_anatomy(tmp_path / "sub-01_T1w.nii.gz", template=template, ants=ants)


def test_what_ants_cannot_do_is_said(template: Template, tmp_path: Path, ants: Ants) -> None:
    missing: Any = {"array": str(tmp_path / "none.npy"), **template.grid.itk()}
    with pytest.raises(Unreadable, match=r"^run\.nii: ANTs could not register: FileNotFoundError: .*none\.npy"):
        ants.ask("register", about="run.nii", fixed=missing, moving=missing, kind="rigid", prefix="x")
