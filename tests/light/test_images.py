"""What is refused before anything is computed, and NIfTI that is the same bytes each time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from neurofm.light.images import lay_out_bold, load_volume, write_nifti
from neurofm.light.sidecars import metadata, repetition_time_s
from neurofm.recording import Unreadable
from tests.light.conftest import image_of

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
RUN = np.random.default_rng(1).normal(100, 10, (9, 10, 11, 4)).astype(np.float32)
SHEARED = AFFINE + 0.5 * np.eye(4, k=1) * [[1], [0], [0], [0]]
NAME = "sub-01_task-x_bold.nii.gz"


def test_a_run_is_laid_out_as_nibabel_has_it(real_run: Any, tmp_path: Path) -> None:
    some = real_run.slicer[..., :3]
    some.to_filename(tmp_path / NAME)
    bold = lay_out_bold(tmp_path / NAME, folder=tmp_path)
    assert (bold.name, bold.length, bold.grid.shape) == (NAME, 3, (53, 53, 27))
    written: Any = nib.load(tmp_path / NAME)
    np.testing.assert_allclose(np.moveaxis(bold.volumes(), 0, -1), written.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "affine", "said"),
    [
        (RUN[..., 0], AFFINE, "3-D image of shape"),
        (RUN[..., :1], AFFINE, "one volume, expected a run"),
        (RUN[:, :, :7], AFFINE, r"\(9, 10, 7\) voxels; with less than 8"),
        (RUN, SHEARED, "axes are not at right angles"),
        (np.repeat(RUN[..., :1], 4, axis=-1), AFFINE, "all volumes are the same"),
    ],
)
def test_what_is_no_run(values: Any, affine: Any, said: str, tmp_path: Path) -> None:
    image = image_of(values, affine)
    image.set_sform(affine, code=1)
    image.to_filename(tmp_path / NAME)
    with pytest.raises(Unreadable, match=rf"^{NAME}: .*{said}"):
        lay_out_bold(tmp_path / NAME, folder=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "checksum"])
def test_a_damaged_run(damage: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    image_of(RUN, AFFINE).to_filename(path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content[: len(content) // 2] if damage == "cut" else content))
    with pytest.raises(Unreadable, match=rf"^{NAME}: "):
        lay_out_bold(path, folder=tmp_path)


@pytest.mark.parametrize(
    ("header_s", "root", "near", "said"),
    [
        (2.2, None, None, 2.2),
        (0.0, {"RepetitionTime": 0.72}, None, 0.72),
        (0.0, {"RepetitionTime": 0.72}, {"RepetitionTime": 0.8}, 0.8),
        (2.2, {"RepetitionTime": 2.2}, {"TaskName": "x"}, 2.2),
        (0.0, None, {"TaskName": "x"}, "no repetition time in header or sidecar"),
        (0.0, None, {"RepetitionTime": "2"}, "repetition time '2'"),
        (2.2, None, {"RepetitionTime": math.nan}, "repetition time nan"),
        (0.0, None, {"RepetitionTime": math.inf}, "repetition time inf"),
        (2.2, None, {"RepetitionTime": 0.72}, "repetition time 2.2 s in the header, 0.72 s in the sidecar"),
    ],
)
def test_repetition_time(header_s: float, root: Any, near: Any, said: float | str, tmp_path: Path) -> None:
    path = tmp_path / "sub-01" / "func" / NAME
    path.parent.mkdir(parents=True)
    image_of(RUN, AFFINE, tr_s=header_s).to_filename(path)
    (tmp_path / "task-other_bold.json").write_text(json.dumps({"RepetitionTime": 9.0}))
    if root is not None:
        (tmp_path / "task-x_bold.json").write_text(json.dumps(root))
    if near is not None:
        path.with_name("sub-01_task-x_bold.json").write_text(json.dumps(near))
    if isinstance(said, float):
        assert repetition_time_s(path, bids=tmp_path) == said
    else:
        with pytest.raises(Unreadable, match=rf"^{NAME}: {said}"):
            repetition_time_s(path, bids=tmp_path)


def test_a_sidecar_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "task-x_bold.json").write_text("{")
    with pytest.raises(Unreadable, match=r"^task-x_bold\.json: not readable"):
        metadata(tmp_path / NAME, bids=tmp_path)


def test_nifti_is_read_by_nibabel_and_the_same_twice(tmp_path: Path) -> None:
    paths = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    for path in paths:
        volumes = np.moveaxis(RUN, -1, 0)
        write_nifti(path, volumes, shape=RUN.shape, dtype=np.float32, affine=AFFINE, repetition_time_s=2.2)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    image: Any = nib.load(paths[0])
    np.testing.assert_array_equal(np.asarray(image.dataobj), RUN)
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert (image.header.get_zooms()[3], image.header.get_xyzt_units()) == (np.float32(2.2), ("mm", "sec"))
    values, grid = load_volume(_first(image, tmp_path))
    np.testing.assert_array_equal(values, RUN[..., 0])
    assert grid.shape == (9, 10, 11)


def _first(image: Any, folder: Path) -> Path:
    image.slicer[..., 0].to_filename(folder / "first.nii")
    return folder / "first.nii"
