"""Means of parcels: nilearn's on a real run, and what is done with voxels that carry no signal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nilearn.maskers import NiftiLabelsMasker

from neurofm.parcels import Atlas, ParcelMeans, load_atlas, parcel_means
from neurofm.recording import Unreadable

AFFINE = np.array([[-3.0, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3.5, -72], [0, 0, 0, 1]])
SHAPE = (7, 6, 5)
NIFTI: Any = nib.Nifti1Image  # untyped in nibabel
HEADER: Any = nib.Nifti1Header


@pytest.fixture(scope="module")
def run(sample_raw: Callable[[str], Path]) -> Path:
    return sample_raw("ds205-bold") / "sub-ds205s03_task-functionallocalizer_run-01_bold_volreg.nii.gz"


@pytest.fixture(scope="module")
def parcellation(run: Path) -> Path:
    return run.with_name(run.name.replace("volreg", "parc"))


@pytest.fixture(scope="module")
def atlas(parcellation: Path) -> Atlas:
    return load_atlas(parcellation, space="scanner")


def _nilearn(bold: object, labels: Path, **options: object) -> npt.NDArray[np.float64]:
    """[volume, parcel], those that it leaves out left out."""
    masker = NiftiLabelsMasker(str(labels), standardize=None, reports=False, **options)
    return np.asarray(masker.fit_transform(bold), dtype=np.float64)


def test_real_run_is_as_nilearn_has_it(run: Path, parcellation: Path, atlas: Atlas) -> None:
    # 53 x 53 x 27 x 82 int16 with slope and intercept; the two affines differ in the last digits.
    found = parcel_means(run, atlas=atlas, space="scanner")
    assert found.values.shape == (82, 116)
    np.testing.assert_allclose(found.values, _nilearn(str(run), parcellation), rtol=1e-5)
    assert found.present.all()
    assert (found.coverage == 1).all()
    assert (found.outside_mask + found.not_finite + found.constant == 0).all()
    in_memory: Any = nib.load(run)
    np.testing.assert_array_equal(parcel_means(in_memory, atlas=atlas, space="scanner").values, found.values)


@pytest.mark.filterwarnings("ignore:After applying mask")
def test_real_run_in_a_mask(run: Path, parcellation: Path, atlas: Atlas, tmp_path: Path) -> None:
    inside = np.zeros(atlas.labels.shape, dtype=np.uint8)
    inside[:, :, 9:] = 1
    mask = NIFTI(inside, atlas.affine)
    mask.to_filename(tmp_path / "mask.nii.gz")
    found = parcel_means(run, atlas=atlas, space="scanner", mask=tmp_path / "mask.nii.gz")
    expected = _nilearn(str(run), parcellation, mask_img=mask)
    assert 0 < found.present.sum() < len(atlas)
    np.testing.assert_allclose(found.values[:, found.present], expected, rtol=1e-5)
    assert np.isnan(found.values[:, ~found.present]).all()
    for column, label in enumerate(atlas.ids):
        assert found.coverage[column] == pytest.approx(inside[atlas.labels == label].mean())
    np.testing.assert_array_equal(found.position_mm, atlas.position_mm)


def test_memory_of_a_real_run(run: Path, atlas: Atlas) -> None:
    parcel_means(run, atlas=atlas, space="scanner")
    tracemalloc.start()
    try:
        parcel_means(run, atlas=atlas, space="scanner")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * 53 * 53 * 27 * 82 * 4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = np.random.default_rng(1).integers(0, 5, SHAPE).astype(np.int16)
    path = tmp_path_factory.mktemp("small") / "labels.nii.gz"
    NIFTI(labels, AFFINE).to_filename(path)
    return path


def _expected(values: npt.NDArray[np.float64], labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """[volume, parcel] by the definition: means over voxels that are finite and change."""
    carrying = np.isfinite(values).all(axis=-1) & (values != values[..., :1]).any(axis=-1)
    columns = [values[(labels == label) & carrying] for label in range(1, 5)]
    return np.stack(
        [voxels.mean(axis=0) if len(voxels) else np.full(values.shape[-1], np.nan) for voxels in columns], axis=1
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_definition(data: st.DataObject, small: Path, tmp_path: Path) -> None:
    """Any stored type, byte order, scaling, memory order, kind of file; constant, absent and broken voxels."""
    atlas = load_atlas(small, space="scanner")
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    dtype = np.dtype(data.draw(st.sampled_from(["<i2", ">i2", "<f4", ">f4", "<u1", "<i4", "<f8"])))
    values = draw.normal(100, 20, (*SHAPE, data.draw(st.sampled_from([2, 3, 33])))).astype(dtype)
    labels = atlas.labels
    values[draw.random(SHAPE) < 0.2] = 7  # constant
    if data.draw(st.booleans()):
        values[labels == data.draw(st.integers(1, 4))] = 7  # a parcel outside the field of view
    if dtype.kind == "f" and data.draw(st.booleans()):
        values[draw.random(SHAPE) < 0.1] = data.draw(st.sampled_from([np.nan, np.inf, -3e38]))  # in all volumes
        values[draw.random(SHAPE) < 0.1, -1] = np.nan  # in the last one
    image = NIFTI(data.draw(st.sampled_from([np.ascontiguousarray, np.asfortranarray]))(values), AFFINE)
    expected = _expected(values.astype(np.float64), labels)
    _same(parcel_means(image, atlas=atlas, space="scanner"), expected)

    path = tmp_path / data.draw(st.sampled_from(["run.nii", "run.nii.gz"]))
    header: Any = HEADER(endianness=">" if dtype.byteorder == ">" else "<")
    header.set_data_dtype(dtype)
    slope, inter = data.draw(st.sampled_from([(1.0, 0.0), (0.25, 818.0)]))
    stored = NIFTI(values, AFFINE, header=header)
    stored.to_filename(path)
    if path.suffix == ".nii":  # nibabel chooses slope and intercept by itself; put ours into the bytes
        with path.open("r+b") as file:
            file.seek(112)
            file.write(np.array([slope, inter], dtype=f"{header.endianness}f4").tobytes())
        expected = slope * expected + inter
    _same(parcel_means(path, atlas=atlas, space="scanner"), expected)


def _same(found: ParcelMeans, expected: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.present, np.isfinite(expected).all(axis=0))
    left_out = found.outside_mask + found.not_finite + found.constant
    np.testing.assert_allclose(found.coverage, 1 - left_out / found.voxels)


@pytest.mark.filterwarnings("ignore:After applying mask")
def test_voxels_without_signal_are_counted_and_left_out(small: Path) -> None:
    """What is left is what nilearn gives with the voxels that carry signal as its mask."""
    atlas = load_atlas(small, space="scanner")
    values = np.random.default_rng(2).normal(100, 20, (*SHAPE, 12)).astype(np.float32)
    first, second, third = (np.argwhere(atlas.labels == label) for label in (1, 2, 3))
    values[tuple(first[0])] = 0.0
    values[tuple(first[1])] = -3.4e38  # some programs fill with the smallest float32
    values[tuple(second[0])] = np.nan
    values[(*second[1], 7)] = np.inf
    values[tuple(third.T)] = 0.0
    found = parcel_means(NIFTI(values, AFFINE), atlas=atlas, space="scanner")
    assert found.constant.tolist() == [2, 0, len(third), 0]
    assert found.not_finite.tolist() == [0, 2, 0, 0]
    assert found.coverage.tolist() == pytest.approx([1 - 2 / len(first), 1 - 2 / len(second), 0.0, 1.0])
    assert found.present.tolist() == [True, True, False, True]
    carrying = np.isfinite(values).all(axis=-1) & (values != values[..., :1]).any(axis=-1)
    clean = NIFTI(np.where(carrying[..., None], values, 0), AFFINE)
    expected = _nilearn(clean, small, mask_img=NIFTI(carrying.astype(np.uint8), AFFINE))
    np.testing.assert_allclose(found.values[:, found.present], expected, rtol=1e-5)


def _image(values: npt.NDArray[Any], affine: npt.NDArray[np.float64] = AFFINE) -> nib.Nifti1Image:
    image: nib.Nifti1Image = NIFTI(values, affine)
    return image


RUN = np.random.default_rng(3).normal(100, 20, (*SHAPE, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (_image(RUN[..., 0]), "3-D image of shape"),
        (_image(RUN[..., None]), "5-D image of shape"),
        (_image(RUN[..., :1]), "one volume"),
        (_image(RUN.astype(np.complex64)), "values of type complex64"),
        (_image(RUN[:-1]), "its grid is not that of atlas labels"),
        (_image(RUN, AFFINE + np.eye(4, k=3)), "its grid is not that of atlas labels"),
        (_image(np.ones_like(RUN)), "no parcel of atlas labels carries signal"),
        (_image(np.full_like(RUN, np.nan)), "no parcel of atlas labels carries signal"),
    ],
)
def test_what_is_no_run(small: Path, tmp_path: Path, image: nib.Nifti1Image, said: str) -> None:
    atlas = load_atlas(small, space="scanner")
    image.to_filename(tmp_path / "run.nii.gz")
    with pytest.raises(Unreadable, match=rf"^run\.nii\.gz: .*{said}") as told:
        parcel_means(tmp_path / "run.nii.gz", atlas=atlas, space="scanner")
    assert "\n" not in str(told.value)


def test_a_parcel_that_only_the_table_names_says_nothing_of_the_run(small: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("1 a\n2 b\n3 c\n4 d\n99 nowhere\n")
    atlas = load_atlas(small, space="scanner", names=tmp_path / "names.txt")
    values = np.random.default_rng(3).normal(size=(*atlas.labels.shape, 5))
    values[atlas.labels == 1] = 0
    found = parcel_means(NIFTI(values, atlas.affine), atlas=atlas, space="scanner")
    assert found.coverage[0] == 0
    assert np.isnan(found.coverage[atlas.voxels == 0]).all()
    assert not found.present[[0, -1]].any()


def test_another_space_and_a_mask_on_another_grid(small: Path) -> None:
    atlas = load_atlas(small, space="MNI152NLin6Asym")
    with pytest.raises(Unreadable, match="it is in space scanner, atlas labels in MNI152NLin6Asym"):
        parcel_means(_image(RUN), atlas=atlas, space="scanner")
    with pytest.raises(Unreadable, match="its grid is not that of image"):
        parcel_means(_image(RUN), atlas=atlas, space="MNI152NLin6Asym", mask=_image(np.ones((4, 4, 4), np.uint8)))


@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.6, 0.999])
def test_truncated_run(small: Path, tmp_path: Path, name: str, fraction: float) -> None:
    path = tmp_path / name
    _image(RUN).to_filename(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(Unreadable, match=rf"^{path.name}: "):
        parcel_means(path, atlas=load_atlas(small, space="scanner"), space="scanner")


def test_damaged_checksum(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.nii.gz"
    _image(RUN).to_filename(path)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"run\.nii\.gz: not readable, BadGzipFile: CRC check failed"):
        parcel_means(path, atlas=load_atlas(small, space="scanner"), space="scanner")
