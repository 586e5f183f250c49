"""Real atlases on other grids than their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from neurofm.parcels import Atlas, load_atlas, on_grid, parcel_means
from neurofm.recording import Unreadable

# fMRIPrep's grid of a run of 3 x 3 x 3.5 mm, and an oblique one; no voxel lies half way between two of an atlas.
STRAIGHT = np.array([[-3.0, 0, 0, 90.313], [0, 3, 0, -126.317], [0, 0, 3.5, -72.331], [0, 0, 0, 1]])
OBLIQUE = STRAIGHT @ np.array([[1, 0.0511, 0, 0], [-0.0511, 1, 0.0973, 0], [0, -0.0973, 1, 0], [0, 0, 0, 1]])
SHAPE = (60, 73, 36)


@pytest.fixture(scope="module", params=["A424+4mm", "ROI_MNI_V4", "aal"])
def atlas(request: pytest.FixtureRequest, shared_data: Path) -> Atlas:
    return load_atlas(shared_data / "atlas" / f"{request.param}.nii.gz", space="MNI152NLin6Asym")


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_nearest_label(atlas: Atlas, affine: npt.NDArray[np.float64]) -> None:
    found = on_grid(atlas, grid=(SHAPE, affine))
    voxels = np.indices(SHAPE).reshape(3, -1).T
    at = voxels @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(atlas.affine)
    nearest = np.rint(at @ back[:3, :3].T + back[:3, 3]).astype(int)
    inside = ((nearest >= 0) & (nearest < atlas.labels.shape)).all(axis=1)
    expected = np.zeros(len(voxels), dtype=np.int32)
    expected[inside] = atlas.labels[tuple(nearest[inside].T)]
    np.testing.assert_array_equal(found.labels, expected.reshape(SHAPE))
    assert found.labels.dtype == np.int32
    assert (found.digest, found.ids, found.names, found.space) == (atlas.digest, atlas.ids, atlas.names, atlas.space)
    np.testing.assert_array_equal(found.position_mm, atlas.position_mm)
    np.testing.assert_array_equal(found.in_grid, [(found.labels == label).sum() for label in atlas.ids])
    # Its top lies beyond the 36 slices, and is counted all the same.
    assert found.voxels.sum() > found.in_grid.sum()
    size = abs(np.linalg.det(affine[:3, :3]) / np.linalg.det(atlas.affine[:3, :3]))
    cut = found.voxels > found.in_grid
    assert 5 < cut.sum() < len(atlas) / 2
    assert found.voxels[cut].sum() * size == pytest.approx(atlas.voxels[cut].sum(), rel=0.05)
    assert found.in_grid[cut].sum() * size < 0.8 * atlas.voxels[cut].sum()


def test_small_parcels_vanish_and_keep_their_place(shared_data: Path) -> None:
    atlas = load_atlas(shared_data / "atlas" / "A424+4mm.nii.gz", space="MNI152NLin6Asym")
    coarse = on_grid(
        atlas, grid=((12, 14, 12), np.diag([-16.0, 16, 16, 1]) + np.outer([90, -126, -72, 0], np.eye(4)[3]))
    )
    assert len(coarse) == 424
    gone = coarse.voxels == 0
    assert 0 < gone.sum() < 424
    assert coarse.beyond is not None
    assert not coarse.beyond.any()
    np.testing.assert_array_equal(coarse.position_mm, atlas.position_mm)


def test_means_of_a_run_that_ends_early(shared_data: Path) -> None:
    atlas = load_atlas(shared_data / "atlas" / "A424+4mm.nii.gz", space="MNI152NLin6Asym")
    found = on_grid(atlas, grid=(SHAPE, STRAIGHT))
    values = np.random.default_rng(1).normal(100, 20, (*SHAPE, 3)).astype(np.float32)
    image: Any = nib.Nifti1Image  # untyped in nibabel
    means = parcel_means(image(values, STRAIGHT), atlas=found, space="MNI152NLin6Asym")
    assert found.beyond is not None
    np.testing.assert_array_equal(means.outside_mask, found.beyond)
    np.testing.assert_allclose(means.coverage, found.in_grid / np.maximum(found.voxels, 1))
    assert 0 < (means.coverage < 0.9).sum() < 100
    with pytest.raises(Unreadable, match="its grid is not that of atlas"):
        parcel_means(image(values, STRAIGHT), atlas=atlas, space="MNI152NLin6Asym")


def test_twice_is_as_once(shared_data: Path) -> None:
    """What lies beyond the first grid stays beyond."""
    atlas = load_atlas(shared_data / "atlas" / "ROI_MNI_V4.nii.gz", space="MNI152NLin6Asym")
    once = on_grid(atlas, grid=((*SHAPE[:2], 30), STRAIGHT))
    twice = on_grid(once, grid=(SHAPE, STRAIGHT))
    np.testing.assert_array_equal(twice.voxels, once.voxels)
    np.testing.assert_array_equal(twice.position_mm, atlas.position_mm)


def test_its_own_grid_is_left_alone(shared_data: Path) -> None:
    atlas = load_atlas(shared_data / "atlas" / "A424+4mm.nii.gz", space="MNI152NLin6Asym")
    assert on_grid(atlas, grid=atlas.grid) is atlas
