"""Atlases: the shared real ones, their names and digests, and images and tables that are none."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from neurofm.errors import UserError
from neurofm.parcels import Atlas, load_atlas

SCHAEFER = "tpl-MNI152NLin2009cAsym_res-01_atlas-Schaefer2018_desc-200Parcels7Networks_dseg.nii.gz"


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "atlas"


@pytest.fixture(scope="module")
def aal(folder: Path) -> Atlas:
    return load_atlas(folder / "ROI_MNI_V4.nii.gz", space="MNI152", names=folder / "ROI_MNI_V4.txt", name="AAL")


def test_aal_by_its_codes(aal: Atlas) -> None:
    assert (len(aal), aal.name, aal.space) == (116, "AAL", "MNI152")
    assert (aal.ids[0], aal.names[0]) == (2001, "Precentral_L")
    assert (aal.ids[-1], aal.names[-1]) == (9170, "Vermis_10")
    assert aal.digest == "4b60cf08c21dc76a2cb87ec57b92ace6632d26ddc7a17670091846556d5315bf"


def test_aal_by_numbers_has_the_same_names(aal: Atlas, folder: Path) -> None:
    numbered = load_atlas(folder / "aal.nii.gz", space="MNI152", names=folder / "aal.nii.txt")
    assert numbered.ids == tuple(range(1, 117))
    assert tuple(name.replace("Cerebelum", "Cerebellum") for name in numbered.names) == aal.names
    assert numbered.digest != aal.digest
    # Two images of one atlas: 1 mm and 2 mm.
    np.testing.assert_allclose(numbered.position_mm, aal.position_mm, atol=2.0)


def test_left_is_left(aal: Atlas) -> None:
    for name, (x, _, _) in zip(aal.names, aal.position_mm, strict=True):
        if name.endswith(("_L", "_R")):
            assert (x < 0) == name.endswith("_L"), name


def test_schaefer_and_a424_have_numbers_for_names(folder: Path) -> None:
    schaefer = load_atlas(folder / SCHAEFER, space="MNI152NLin2009cAsym")
    assert schaefer.names == tuple(str(label) for label in range(1, 201))
    assert schaefer.digest == "7395671a6045355bb773395ad6b8c35705cd8dcffd7f4b32cce656944f8b5ede"
    assert (schaefer.position_mm[:100, 0] < 0).all()  # 1-100 is the left hemisphere
    assert (schaefer.position_mm[100:, 0] > 0).all()
    a424 = load_atlas(folder / "A424+4mm.nii.gz", space="MNI152NLin6Asym")  # float32
    assert (a424.name, len(a424), a424.voxels.sum()) == ("A424+4mm", 424, (a424.labels > 0).sum())


def test_table_of_templateflow(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "atlas-Schaefer2018_dseg.tsv"
    rows = [f"{label}\t7Networks_{label}\t#781283" for label in range(202)]  # 0 is background, 201 has no voxel
    table.write_text("\n".join(["index\tname\tcolor", *rows]) + "\n")
    atlas = load_atlas(folder / SCHAEFER, space="MNI152NLin2009cAsym", names=table)
    assert (atlas.ids, atlas.names[0]) == (tuple(range(1, 202)), "7Networks_1")
    assert atlas.voxels[-1] == 0
    assert np.isnan(atlas.position_mm[-1]).all()
    assert np.isfinite(atlas.position_mm[:-1]).all()


def _write(path: Path, values: npt.NDArray[Any]) -> Path:
    image: Any = nib.Nifti1Image  # untyped in nibabel
    image(values, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    labels = np.random.default_rng(1).integers(0, 4, (20, 20, 20)).astype(np.int16)
    return _write(tmp_path / "small.nii.gz", labels)


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _wrong_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def _with(values: npt.NDArray[Any]) -> Callable[[Path], None]:
    return lambda path: (_write(path, values), None)[1]


ONES = np.ones((4, 4, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "no such file"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("no image"), "not readable"),
        (lambda path: path.write_bytes(gzip.compress(b"no image")), "not readable"),
        (_cut, "not readable"),
        (_wrong_checksum, "CRC check failed"),
        (_with(np.ones((4, 4, 4, 2), dtype=np.int16)), "4-D image"),
        (_with(0 * ONES), "no label"),
        (_with(ONES / 2), "no whole numbers"),
        (_with(-ONES), "between -1 and -1"),
        (_with(np.nan * ONES), "no number"),
        (_with(ONES * 1j), "complex"),
    ],
)
def test_what_is_no_atlas(small: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(small)
    with pytest.raises(UserError, match=rf"^atlas small\.nii\.gz: .*{said}.* Mend: ") as told:
        load_atlas(small, space="MNI152")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "it is empty"),
        (b"1 a\n2 b\n", r"no name for 1 of its 3 labels \(3\)"),
        (b"1 a\n2 b\n3 c\n3 d\n", "label 3 occurs twice"),
        (b"1 a\n2 b\n3 c\n4294967296 d\n", "label 4294967296 is beyond"),
        (b"1 a\n2 b\n3 c\n" + b"9" * 5000 + b" d\n", "is beyond"),
        (b"1 a\nb\n", "line 2 is neither"),
        (b"a b c d\n", "line 1 is neither"),
        (b"index\tname\n1\ta\nb\n", "a row has the label 'b' and the name None"),
        (b"index\tname\n1\t\n", "the name ''"),
        (b"\xff\xfe1", "no UTF-8"),
        (None, "No such file"),
    ],
)
def test_what_is_no_table(small: Path, tmp_path: Path, table: bytes | None, said: str) -> None:
    names = tmp_path / "names.txt"
    if table is not None:
        names.write_bytes(table)
    with pytest.raises(UserError, match=rf"names\.txt.*{said}.* Mend: ") as told:
        load_atlas(small, space="MNI152", names=names)
    assert "\n" not in str(told.value)
