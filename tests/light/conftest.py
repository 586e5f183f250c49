"""A real run, ANTs in its own environment, and rigid motions that are known since scipy made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from neurofm.light.ants_process import Ants
from tests.servers.isolated import isolated_python

PROJECT = Path(__file__).resolve().parents[2]
Floats = npt.NDArray[np.float64]


@pytest.fixture
def ants(tmp_path: Path) -> Iterator[Ants]:
    folder = tmp_path / "ants"
    folder.mkdir()
    with Ants(python=isolated_python("antspyx"), folder=folder, seed=42) as process:
        yield process


@pytest.fixture(scope="session")
def real_run(sample_raw: Callable[[str], Path]) -> Any:
    """BOLD of 4 mm, 82 volumes, TR 2.2 s, already realigned by its authors."""
    folder = sample_raw("ds205-bold")
    image: Any = nib.load(folder / "sub-ds205s03_task-functionallocalizer_run-01_bold_volreg.nii.gz")
    return image


def image_of(values: npt.NDArray[Any], affine: Floats, *, tr_s: float | None = 2.2) -> Any:
    make: Any = nib.Nifti1Image
    image = make(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    if tr_s is not None and values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    return image


def rigid(shift_mm: tuple[float, ...], turn_deg: tuple[float, ...], *, about_mm: Floats) -> Floats:
    """[4, 4] turn about x, y, z (R = Rx Ry Rz) at a point, then shift; mm in RAS+."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("XYZ", turn_deg, degrees=True).as_matrix()
    matrix[:3, 3] = np.array(shift_mm) + about_mm - matrix[:3, :3] @ about_mm
    return matrix


def moved(volume: npt.NDArray[Any], affine: Floats, matrix: Floats) -> npt.NDArray[np.float32]:
    """The volume of a head that moved so: what was at x is at ``matrix x``. By scipy's cubic splines, not by ANTs."""
    to_source = np.linalg.inv(affine) @ np.linalg.inv(matrix) @ affine
    values = affine_transform(volume.astype(np.float64), to_source[:3, :3], to_source[:3, 3], order=3, mode="nearest")
    return np.asarray(values, dtype=np.float32)
