"""Atlases of grayordinates: names, digests and positions of a real one, and files that are none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.parcels import SUBCORTEX, find_surface_atlas, load_surface_atlas, structures_alone
from tests.parcels.labels import AXES, CIFTI, CORTICAL, Parcellation, models_of


def test_names_and_digests(dlabel: Path) -> None:
    atlas = load_surface_atlas(dlabel)
    assert (atlas.name, len(atlas), atlas.ids) == ("mmp", 360, tuple(range(1, 361)))
    assert (atlas.names[0], atlas.names[180]) == ("L_V1", "R_V1")
    assert atlas.digest == sha256_of(dlabel)
    assert {structure: len(labels) for structure, labels in atlas.vertices.items()} == {
        "CIFTI_STRUCTURE_CORTEX_LEFT": 32492,
        "CIFTI_STRUCTURE_CORTEX_RIGHT": 32492,
    }
    both = load_surface_atlas(dlabel, structures=True)
    assert (both.ids[-1], both.names[-1]) == (379, "THALAMUS_RIGHT")
    assert len({atlas.digest, both.digest, structures_alone("subcortex").digest}) == 3


def test_structures_are_those_of_the_hcp(dtseries: Path) -> None:
    in_file = [name.removeprefix("CIFTI_STRUCTURE_") for name, _, _ in models_of(dtseries).iter_structures()]
    assert tuple(in_file[2:]) == SUBCORTEX


def test_positions(dlabel: Path, dtseries: Path, mmp: Parcellation, midthickness: tuple[Path, Path]) -> None:
    atlas = load_surface_atlas(dlabel, midthickness=midthickness)
    points = [nib.load(path).darrays[0].data for path in midthickness]  # type: ignore[attr-defined]
    models = models_of(dtseries)
    at = np.concatenate(
        [points[number][model.vertex] for number, (_, _, model) in enumerate(list(models.iter_structures())[:2])]
    )
    for label in (1, 100, 181, 360):
        centre = at[mmp.labels[CORTICAL] == label].astype(float).mean(axis=0)
        np.testing.assert_allclose(atlas.position_mm[label - 1], centre)
    # In V1 the occipital pole, in 4 the top; left is left.
    assert atlas.position_mm[atlas.names.index("L_V1"), 1] < -75
    assert atlas.position_mm[atlas.names.index("L_4"), 2] > 45
    assert (atlas.position_mm[:180, 0] < 0).all()
    assert (atlas.position_mm[180:, 0] > 0).all()
    assert np.isnan(load_surface_atlas(dlabel).position_mm).all()


def test_by_its_name(dlabel: Path, midthickness: tuple[Path, Path], tmp_path: Path) -> None:
    """Schaefer's file has this form; its own is in no package, MMP stands in for it."""
    (tmp_path / "CBIG").mkdir()
    (tmp_path / "tpl-fsLR").mkdir()
    shutil.copy(dlabel, tmp_path / "CBIG" / "Schaefer2018_300Parcels_17Networks_order.dlabel.nii")
    for side, surface in zip("LR", midthickness, strict=True):
        (tmp_path / "tpl-fsLR" / f"tpl-fsLR_den-32k_hemi-{side}_midthickness.surf.gii").symlink_to(surface)
    atlas = find_surface_atlas("schaefer-300-17networks+subcortex", templates=tmp_path)
    assert (atlas.name, len(atlas)) == ("schaefer-300-17networks+subcortex", 379)
    assert atlas.digest == load_surface_atlas(dlabel, structures=True).digest
    assert np.isfinite(atlas.position_mm[:360]).all()
    assert len(find_surface_atlas("schaefer-300-17networks", templates=tmp_path)) == 360


Spoil = Callable[[Path, Any], object]


def _map_of(labels: np.ndarray[Any, Any], table: dict[int, Any]) -> Spoil:
    def spoil(path: Path, models: Any) -> None:
        maps = AXES.LabelAxis([f"map {number}" for number in range(len(labels))], [table] * len(labels))
        CIFTI(labels, header=(maps, models[: labels.shape[1]])).to_filename(path)

    return spoil


def _series(path: Path, models: Any) -> None:
    CIFTI(np.ones((1, 10), np.float32), header=(AXES.SeriesAxis(0, 1, 1), models[:10])).to_filename(path)


TABLE = {0: ("???", (0, 0, 0, 0)), 1: ("one", (1, 1, 1, 1))}
ONES = np.ones((1, 10), dtype=np.float32)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path, models: None, "no such file"),
        (lambda path, models: path.write_bytes(b""), "the file is empty"),
        (lambda path, models: path.write_text("no image"), "not readable"),
        (_series, "CIFTI of SERIES by BRAIN_MODELS, expected a map of labels"),
        (_map_of(np.ones((2, 10), dtype=np.float32), TABLE), "2 maps of labels"),
        (_map_of(0 * ONES, TABLE), "no label"),
        (_map_of(2 * ONES, TABLE), "label 2 has no name"),
        (_map_of(-ONES, TABLE), "its values are no labels"),
        (_map_of(0.5 * ONES, TABLE), "its values are no labels"),
        (_map_of(np.nan * ONES, TABLE), "its values are no labels"),
    ],
)
def test_what_is_no_atlas(dtseries: Path, tmp_path: Path, spoil: Spoil, said: str) -> None:
    path = tmp_path / "small.dlabel.nii"
    spoil(path, models_of(dtseries))
    with pytest.raises(UserError, match=rf"^atlas small\.dlabel\.nii: .*{said}.* Mend: ") as told:
        load_surface_atlas(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("fraction", [0.02, 0.6, 0.999])
def test_truncated(dlabel: Path, tmp_path: Path, fraction: float) -> None:
    content = dlabel.read_bytes()
    path = tmp_path / "cut.dlabel.nii"
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UserError, match=r"^atlas cut\.dlabel\.nii: not readable"):
        load_surface_atlas(path)


def test_what_does_not_fit(
    dlabel: Path, dlabel_with_voxels: Path, midthickness: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="it has labels below the cortex"):
        load_surface_atlas(dlabel_with_voxels, structures=True)
    gifti: Any = nib.gifti
    short = gifti.GiftiDataArray(np.zeros((32491, 3), np.float32), intent="NIFTI_INTENT_POINTSET")
    gifti.GiftiImage(darrays=[short]).to_filename(tmp_path / "short.surf.gii")
    with pytest.raises(UserError, match="CORTEX_LEFT has 32492 vertices, the surface 32491"):
        load_surface_atlas(dlabel, midthickness=(tmp_path / "short.surf.gii", midthickness[1]))
    (tmp_path / "broken.surf.gii").write_text("<GIFTI")
    with pytest.raises(UserError, match=r"^surface broken\.surf\.gii: not readable"):
        load_surface_atlas(dlabel, midthickness=(midthickness[0], tmp_path / "broken.surf.gii"))
    with pytest.raises(UserError, match=r"^surface mmp\.dlabel\.nii: not readable"):
        load_surface_atlas(dlabel, midthickness=(dlabel, midthickness[1]))
