"""BOLD volumes averaged over parcels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import new_img_like

from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable

Source = Callable[..., ReaderInput]


@pytest.fixture(scope="module")
def whole(sample_source: Source) -> Recording:
    return read_recording("nifti", sample_source("ds205-bold"), {"atlas": "carpet"})


def test_parcels_are_means_over_their_voxels(whole: Recording, sample_source: Source) -> None:
    source = sample_source("ds205-bold")
    bold: Any = nib.load(source.path())
    labels_image: Any = nib.load(source.path("labels"))
    volumes, labels = bold.get_fdata(), np.rint(labels_image.get_fdata()).astype(int)
    assert whole.signal is not None
    assert whole.signal.values.shape == (82, 116)
    for label in (1, 101, 255):
        column = whole.channels.id.index(f"carpet-{label:03d}")
        inside = labels == label
        np.testing.assert_allclose(whole.signal.values[:, column], volumes[inside].mean(axis=0), rtol=1e-5)
        assert whole.channels.quality["voxels"][column] == inside.sum()
        centre = np.argwhere(inside).mean(axis=0)
        expected = bold.affine[:3, :3] @ centre + bold.affine[:3, 3]
        np.testing.assert_allclose(whole.channels.position[column], expected)


def test_repetition_time_comes_from_the_header(whole: Recording) -> None:
    assert whole.signal is not None
    assert whole.signal.sampling_rate_hz == 1 / 2.2
    assert (whole.channels.position_unit, whole.channels.space) == ("mm", "scanner")


@pytest.fixture
def crop(sample_source: Source, source_of: Source, tmp_path: Path) -> Callable[..., ReaderInput]:
    """Return a function that writes ten real volumes of a corner of the brain with a header of choice, and labels."""

    def make(*, tr: float = 2.2, unit: str = "sec", shift_mm: float = 0.0) -> ReaderInput:
        source = sample_source("ds205-bold")
        bold: Any = nib.load(source.path())
        labels: Any = nib.load(source.path("labels"))
        small = new_img_like(bold, np.asarray(bold.dataobj[20:32, 20:32, 10:18, :10]), copy_header=True)
        small.header.set_xyzt_units("mm", unit)
        small.header["pixdim"][4] = tr
        moved = labels.affine.copy()
        moved[0, 3] += shift_mm
        parcels = new_img_like(labels, np.asarray(labels.dataobj)[20:32, 20:32, 10:18], moved)
        parcels.to_filename(tmp_path / "labels.nii.gz")
        small.to_filename(tmp_path / "bold.nii.gz")
        return source_of(tmp_path / "bold.nii.gz", Modality.FMRI, roles={"labels": "labels.nii.gz"})

    return make


def test_excluded_labels_make_no_channel(crop: Callable[..., ReaderInput]) -> None:
    source = crop()
    every = read_recording("nifti", source, {"atlas": "a"})
    some = read_recording("nifti", source, {"atlas": "a", "exclude_labels": [1, 2]})
    assert set(every.channels.id) - set(some.channels.id) == {"a-001", "a-002"}
    assert every.signal is not None
    assert some.signal is not None
    kept = [every.channels.id.index(channel) for channel in some.channels.id]
    np.testing.assert_array_equal(every.signal.values[:, kept], some.signal.values)


@pytest.mark.parametrize(
    ("header", "option", "rate_hz"),
    [
        ({"tr": 2200.0, "unit": "msec"}, None, 1 / 2.2),
        ({"tr": 0.0}, 1.5, 1 / 1.5),
        ({"tr": 2.2}, 2.2, 1 / 2.2),
        ({"tr": 2200.0, "unit": "unknown"}, 2.2, 1 / 2.2),
    ],
)
def test_repetition_time(
    crop: Callable[..., ReaderInput], header: dict[str, Any], option: float | None, rate_hz: float
) -> None:
    recording = read_recording("nifti", crop(**header), {"atlas": "a", "tr_s": option})
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == pytest.approx(rate_hz)


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ({"tr": 2200.0, "unit": "unknown"}, {}, r"bold\.nii\.gz: no repetition time in the header"),
        ({"tr": 0.0}, {}, r"bold\.nii\.gz: no repetition time.*`tr_s`"),
        ({}, {"tr_s": 2.0}, "2.2 s in the header, 2.0 s in the catalogue"),
        ({"shift_mm": 1.0}, {}, r"bold\.nii\.gz: its grid is not that of atlas labels"),
    ],
)
def test_contradictions(
    crop: Callable[..., ReaderInput], header: dict[str, Any], options: dict[str, float], said: str
) -> None:
    with pytest.raises(Unreadable, match=said):
        read_recording("nifti", crop(**header), {"atlas": "a", **options})


def test_three_dimensional_image(crop: Callable[..., ReaderInput], source_of: Source, tmp_path: Path) -> None:
    crop()
    source = source_of(tmp_path / "labels.nii.gz", Modality.FMRI, roles={"labels": "labels.nii.gz"})
    with pytest.raises(Unreadable, match=r"labels\.nii\.gz: 3-D image"):
        read_recording("nifti", source, {"atlas": "a"})


@pytest.mark.parametrize("role", ["main", "labels"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.6])
def test_truncated_image(crop: Callable[..., ReaderInput], role: str, fraction: float) -> None:
    source = crop()
    path = source.path(role)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(Unreadable, match=path.name):
        read_recording("nifti", source, {"atlas": "a"})


def test_labels_must_be_named(crop: Callable[..., ReaderInput], source_of: Source, tmp_path: Path) -> None:
    crop()
    with pytest.raises(Unreadable, match="no 'labels' file"):
        read_recording("nifti", source_of(tmp_path / "bold.nii.gz", Modality.FMRI), {"atlas": "a"})
