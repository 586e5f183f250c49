"""Atlases by name: TemplateFlow's real names and tables, a real image of each kind, and what is missing."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.parcels import Atlas, find_atlas, find_surface_atlas, load_atlas, on_grid

SPACE = "MNI152NLin2009cAsym"
STEM = f"tpl-{SPACE}/tpl-{SPACE}"
PART = "atlas-Schaefer2018_desc-200Parcels7Networks_dseg"
DEEP_OF_AAL = {  # Harvard-Oxford's label and the same structure in AAL
    4: "Thalamus_L",
    5: "Caudate_L",
    6: "Putamen_L",
    7: "Pallidum_L",
    9: "Hippocampus_L",
    10: "Amygdala_L",
    15: "Thalamus_R",
    16: "Caudate_R",
    17: "Putamen_R",
    18: "Pallidum_R",
    19: "Hippocampus_R",
    20: "Amygdala_R",
}
NIFTI: Any = nib.Nifti1Image  # untyped in nibabel


@pytest.fixture(scope="module")
def schaefer(shared_data: Path) -> Path:
    return shared_data / "atlas" / f"tpl-{SPACE}_res-01_{PART}.nii.gz"


@pytest.fixture(scope="module")
def deep(shared_data: Path, schaefer: Path) -> Atlas:
    """Stand in for Harvard-Oxford's subcortical atlas, which no package has: AAL's structures under its labels.

    Its cortex is there too, as in the original.
    """
    folder = shared_data / "atlas"
    aal = load_atlas(folder / "aal.nii.gz", space=SPACE, names=folder / "aal.nii.txt")
    aal = on_grid(aal, grid=load_atlas(schaefer, space=SPACE).grid)
    table = np.zeros(max(aal.ids) + 1, dtype=np.int32)
    for label, name in zip(aal.ids, aal.names, strict=True):
        table[label] = 2 if name.endswith("_L") else 13
    for label, name in DEEP_OF_AAL.items():
        table[aal.ids[aal.names.index(name)]] = label
    return Atlas(
        name="deep",
        space=SPACE,
        digest="",
        labels=table[aal.labels],
        affine=aal.affine,
        ids=tuple(range(1, 22)),
        names=tuple(map(str, range(1, 22))),
    )


@pytest.fixture(scope="module")
def templates(skeleton: Path, schaefer: Path, deep: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TemplateFlow's folder in which the images of one atlas were fetched."""
    folder = tmp_path_factory.mktemp("fetched")
    tables = [f"{STEM}_{PART}.tsv", "tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_atlas-HOSPA_dseg.tsv"]
    for path in tables:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).symlink_to(skeleton / path)
    (folder / f"{STEM}_res-01_{PART}.nii.gz").symlink_to(schaefer)
    NIFTI(deep.labels.astype(np.int16), deep.affine).to_filename(
        folder / f"{STEM}_res-01_atlas-HOSPA_desc-th25_dseg.nii.gz"
    )
    return folder


def test_schaefer_by_its_name(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = find_atlas("schaefer-200", space=SPACE, resolution=1, templates=templates)
    assert (atlas.name, atlas.space, len(atlas)) == ("schaefer-200", SPACE, 200)
    assert (atlas.names[0], atlas.names[-1]) == ("7Networks_LH_Vis_1", "7Networks_RH_Default_PCC_3")
    assert atlas.digest == "7395671a6045355bb773395ad6b8c35705cd8dcffd7f4b32cce656944f8b5ede"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(templates))
    assert find_atlas("schaefer-200-7networks", space=SPACE, resolution=1).digest == atlas.digest


def test_subcortex_is_added_where_no_cortex_is(templates: Path, deep: Atlas) -> None:
    cortex = find_atlas("schaefer-200", space=SPACE, resolution=1, templates=templates)
    both = find_atlas("schaefer-200+subcortex", space=SPACE, resolution=1, templates=templates)
    assert both.name == "schaefer-200+subcortex"
    assert both.digest not in {cortex.digest, deep.digest}
    assert both.ids[:200] == cortex.ids
    assert both.names[:200] == cortex.names
    assert both.names[200:] == (
        "Left Thalamus",
        "Left Caudate",
        "Left Putamen",
        "Left Pallidum",
        "Brainstem",
        "Left Hippocampus",
        "Left Amygdala",
        "Left Accumbens",
        "Right Thalamus",
        "Right Caudate",
        "Right Putamen",
        "Right Pallidum",
        "Right Hippocampus",
        "Right Amygdala",
        "Right Accumbens",
    )
    np.testing.assert_array_equal(both.labels[cortex.labels > 0], cortex.labels[cortex.labels > 0])
    free = cortex.labels == 0
    for label in DEEP_OF_AAL:
        voxels = free & (deep.labels == label)
        assert voxels.any()
        assert (both.labels[voxels] == 200 + label).all()
    below = free & np.isin(deep.labels, list(DEEP_OF_AAL))
    assert (both.labels[free & ~below] == 0).all()
    # AAL has neither brain stem nor accumbens.
    assert [name for name, voxels in zip(both.names, both.voxels, strict=True) if not voxels] == [
        "Brainstem",
        "Left Accumbens",
        "Right Accumbens",
    ]


def _files_in(mend: str) -> list[Path]:
    words = shlex.split(mend)
    assert words[:3] == ["curl", "-fL", "--create-dirs"]
    return [Path(path) for option, path in pairwise(words) if option == "-o"]


def test_templateflow_has_every_name(skeleton: Path) -> None:
    """The skeleton has all of TemplateFlow's names: an image that it lacks would be said not to be there."""
    sizes = (100, 200, 300, 400, 500, 600, 800, 1000)
    for size, networks, space, resolution in product(sizes, (7, 17), (SPACE, "MNI152NLin6Asym"), (1, 2)):
        name = f"schaefer-{size}-{networks}networks+subcortex"
        with pytest.raises(UserError, match=r"is an empty file \(TemplateFlow's mark .*, and 1 more") as told:
            find_atlas(name, space=space, resolution=resolution, templates=skeleton)
        files = _files_in(told.value.mend)  # the two images, and no table
        assert len(files) == 2
        assert all(file.is_file() and file.is_relative_to(skeleton) for file in files)
    with pytest.raises(UserError, match=r"CBIG/Schaefer2018_700Parcels.*, and 2 more") as told:
        find_surface_atlas("schaefer-700", templates=skeleton)
    labels, *surfaces = _files_in(told.value.mend)
    assert labels == skeleton / "CBIG" / "Schaefer2018_700Parcels_7Networks_order.dlabel.nii"
    assert len(surfaces) == 2
    assert all(file.is_file() for file in surfaces)


def test_missing_files_are_one_command(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    with pytest.raises(UserError, match=r"^atlas schaefer-400: .* is not in .*a folder, and 1 more\. Mend: ") as told:
        find_atlas("schaefer-400", space=SPACE, templates=folder)
    assert "\n" not in str(told.value)
    image, table = _files_in(told.value.mend)
    assert image.parent == folder / f"tpl-{SPACE}"
    assert image.name == f"tpl-{SPACE}_res-02_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
    assert table.name == f"tpl-{SPACE}_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.tsv"
    urls = re.findall(r"https://\S+", told.value.mend)
    assert urls[0] == f"https://templateflow.s3.amazonaws.com/tpl-{SPACE}/{image.name}"
    assert not folder.exists()


def test_link_of_a_clone_is_said(tmp_path: Path) -> None:
    image = tmp_path / f"{STEM}_res-02_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
    image.parent.mkdir()
    image.symlink_to("../.git/annex/objects/0b/MD5E")
    with pytest.raises(UserError, match=r"is a link to nothing \(of a clone") as told:
        find_atlas("schaefer-400", space=SPACE, templates=tmp_path)
    assert told.value.mend == f"cd {tmp_path} && datalad get {image.relative_to(tmp_path)}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aal-116", r"aal_for_SPM12\.tar\.gz.*`atlas_file:`"),
        ("a424", r"A424\+2mm\.nii\.gz of https.*`atlas_file:`"),
        ("schaefer-700", "with 700 parcels. Mend: choose one of 100, 200"),
        ("schaefer-450", "with 450 parcels"),
        ("schaefer-400-9networks", "with 9 networks. Mend: choose one of 7, 17"),
        ("schaefer-400+thalamus", "no such name"),
        ("Schaefer400", "no such name. Mend: write schaefer-400"),
    ],
)
def test_what_is_no_name(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"^atlas {re.escape(name)}: .*{said}") as told:
        find_atlas(name, space=SPACE, templates=tmp_path)
    assert "\n" not in str(told.value)


def test_what_is_no_space_and_no_resolution(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in space scanner\. Mend: choose one of MNI152NLin2009cAsym, "):
        find_atlas("schaefer-400", space="scanner", templates=tmp_path)
    with pytest.raises(UserError, match="resolution of 3 mm"):
        find_atlas("schaefer-400", space=SPACE, resolution=3, templates=tmp_path)


def test_names_for_cifti_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it labels voxels alone"):
        find_surface_atlas("aal-116", templates=tmp_path)
    with pytest.raises(UserError, match=r"A424\.dlabel\.nii"):
        find_surface_atlas("a424", templates=tmp_path)
    assert len(find_surface_atlas("subcortex", templates=tmp_path)) == 19
