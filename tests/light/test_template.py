"""The packaged template and its tissues, a template of one's own, and options that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nilearn.datasets import load_mni152_template, load_mni152_wm_template

from neurofm.errors import UserError
from neurofm.light import LightOptions, TemplateFiles
from neurofm.light.template import load_template
from tests.light.conftest import image_of


@pytest.mark.parametrize("resolution_mm", [2, 4])
def test_tissues_of_the_packaged_template(resolution_mm: int) -> None:
    template = load_template(LightOptions(resolution_mm=resolution_mm))
    image: Any = load_mni152_template(resolution=resolution_mm)
    assert template.grid.shape == image.shape
    np.testing.assert_array_equal(template.grid.affine, image.affine)
    assert not (template.csf & template.white_matter).any()
    assert (template.mask | ~(template.csf | template.white_matter)).all()
    assert template.mask.sum() * resolution_mm**3 / 1e6 == pytest.approx(1.89, abs=0.02)  # litres
    # In T1 fluid is dark and white matter bright; the ventricles' bodies are there, on both sides.
    assert template.brain[template.csf].mean() < 0.35
    assert template.brain[template.white_matter].mean() > 0.8
    at_mm = np.argwhere(template.csf) * resolution_mm + template.grid.affine[:3, 3]
    body = at_mm[(abs(at_mm[:, 1]) < 25) & (at_mm[:, 2] > 5) & (at_mm[:, 2] < 30)]
    assert (body[:, 0] < -4).any()
    assert (body[:, 0] > 4).any()
    assert abs(at_mm[:, 0]).max() < 45


@pytest.fixture
def own(tmp_path: Path) -> TemplateFiles:
    brain: Any = load_mni152_template(resolution=2)
    white: Any = load_mni152_wm_template(resolution=2)
    fluid = np.zeros(brain.shape, dtype=np.float32)
    fluid[45:55, 50:70, 40:50] = 1.0
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("brain", "white_matter", "csf")}
    brain.to_filename(paths["brain"])
    white.to_filename(paths["white_matter"])
    image_of(fluid, brain.affine).to_filename(paths["csf"])
    return TemplateFiles(**paths)


def test_a_template_of_one_s_own(own: TemplateFiles) -> None:
    template = load_template(LightOptions(space="MNIPediatricAsym", template=own, resolution_mm=3))
    assert template.space == "MNIPediatricAsym"
    assert template.grid.shape == (67, 79, 64)
    at_mm = np.argwhere(template.csf) * 3 + template.grid.affine[:3, 3]
    box_mm = np.array([[-8, -34, 8], [10, 4, 26]])  # of fluid, by its voxels' centres
    assert (at_mm.min(axis=0) > box_mm[0] - 2).all()
    assert (at_mm.max(axis=0) < box_mm[1] + 2).all()


def test_templates_that_cannot_be_used(own: TemplateFiles) -> None:
    image_of(np.ones((20, 20, 20), dtype=np.float32), np.eye(4)).to_filename(own.csf)
    with pytest.raises(UserError, match=r"csf\.nii\.gz: its grid is not that of brain\.nii\.gz"):
        load_template(LightOptions(space="X", template=own))
    own.white_matter.write_bytes(b"")
    with pytest.raises(UserError, match=r"white_matter\.nii\.gz: the file is empty.+Mend"):
        load_template(LightOptions(space="X", template=own))


def test_a_tissue_that_no_voxel_has(own: TemplateFiles) -> None:
    brain: Any = load_mni152_template(resolution=2)
    image_of(np.zeros(brain.shape, dtype=np.float32), brain.affine).to_filename(own.csf)
    with pytest.raises(UserError, match="the template X has no voxel of csf at 2 mm"):
        load_template(LightOptions(space="X", template=own))


def test_options_as_a_file_has_them() -> None:
    own = {"brain": "a.nii", "white_matter": "b.nii", "csf": "c.nii"}
    options = LightOptions.parse({"space": "X", "template": own, "seed": 1}, where="params.yaml, light", mend="")
    assert options.template == TemplateFiles(brain=Path("a.nii"), white_matter=Path("b.nii"), csf=Path("c.nii"))


@pytest.mark.parametrize(
    "given",
    [
        {"space": "MNI152NLin6Asym"},
        {"template": {"brain": "a.nii", "white_matter": "b.nii", "csf": "c.nii"}},
        {"space": "MNI_152", "template": {"brain": "a.nii", "white_matter": "b.nii", "csf": "c.nii"}},
        {"resolution_mm": 0},
        {"seed": 0},
        {"slice_timing": True},
    ],
)
def test_options_that_contradict_themselves(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"params\.yaml, light: "):
        LightOptions.parse(given, where="params.yaml, light", mend="correct it")
