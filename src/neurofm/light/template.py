"""The brain that runs are brought to, and its tissues, on the grid of the output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.light.images import Flags, Grid, Singles, load_volume, nifti
from neurofm.light.options import LightOptions
from neurofm.parcels.volumes import same_grid
from neurofm.recording import Unreadable

_SURE = 0.9
"""Probability of a tissue, to count as it."""
_NEITHER = 0.05
_DEEP_MM, _WHITE_MM, _FLUID_MM = 5.0, 2.0, 1.0
"""How far fluid is from the brain's surface (ventricles, and no sulci beside grey matter), and what is taken off
the surface of white matter and of fluid, since BOLD's voxels mix tissues."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """A template on the grid of the output; arrays are [x, y, z]."""

    space: str
    grid: Grid
    brain: Singles
    mask: Flags
    white_matter: Flags
    csf: Flags


def load_template(options: LightOptions) -> Template:
    """Load the template and its tissues: nilearn's packaged ICBM 2009a, or the files that the options name.

    nilearn packages no map of fluid: there it is what lies deep in the brain and is neither grey nor white matter.

    Raises
    ------
    UserError
        If a file of the options cannot be used, or no voxel of a tissue is left at this resolution.
    """
    from scipy.ndimage import binary_fill_holes  # noqa: PLC0415  # heavy

    brain, grid, white, fluid = _packaged() if options.template is None else _named(options)
    mask = np.asarray(binary_fill_holes(brain > 0), dtype=np.bool_)  # fluid may be black
    deep = _eroded(mask, grid, by_mm=_DEEP_MM)
    masks = {
        "mask": mask,
        "white_matter": _eroded(white > _SURE, grid, by_mm=_WHITE_MM),
        "csf": _eroded((fluid > _SURE) & deep, grid, by_mm=_FLUID_MM),
    }
    coarse = _resampled(brain, grid, options.resolution_mm, "continuous")
    on_grid = {
        name: np.asarray(_resampled(values, grid, options.resolution_mm, "nearest").dataobj) > 0
        for name, values in masks.items()
    }
    for name, voxels in on_grid.items():
        if not voxels.any():
            raise UserError(
                f"the template {options.space} has no voxel of {name} at {options.resolution_mm} mm.",
                mend="choose a smaller `resolution_mm`, or another `template`",
            )
    bright = np.where(on_grid["mask"], np.clip(np.asarray(coarse.dataobj), 0, None), 0).astype(np.float32)
    x, y, z = bright.shape
    return Template(
        space=options.space,
        grid=Grid(shape=(x, y, z), affine=np.asarray(coarse.affine)),
        brain=bright,
        mask=on_grid["mask"],
        white_matter=on_grid["white_matter"],
        csf=on_grid["csf"],
    )


def _packaged() -> tuple[Singles, Grid, Singles, Singles]:
    """Return brain, grid, white matter and fluid, at 1 mm."""
    from nilearn import datasets  # noqa: PLC0415  # heavy

    image: Any = datasets.load_mni152_template(resolution=1)
    grey, white = (
        np.asarray(load(resolution=1).dataobj, dtype=np.float32)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    fluid = ((grey < _NEITHER) & (white < _NEITHER)).astype(np.float32)
    grid = Grid(shape=image.shape, affine=np.asarray(image.affine, dtype=np.float64))
    return np.asarray(image.dataobj, dtype=np.float32), grid, white, fluid


def _named(options: LightOptions) -> tuple[Singles, Grid, Singles, Singles]:
    assert options.template is not None
    brain, grid = _opened(options.template.brain)
    tissues = []
    for path in (options.template.white_matter, options.template.csf):
        values, its_grid = _opened(path)
        if not same_grid((its_grid.shape, its_grid.affine), (grid.shape, grid.affine)):
            raise UserError(
                f"{path}: its grid is not that of {options.template.brain.name}.", mend="name images of one template"
            )
        tissues.append(values)
    return brain, grid, tissues[0], tissues[1]


def _opened(path: Path) -> tuple[Singles, Grid]:
    try:
        return load_volume(path)
    except Unreadable as error:
        raise UserError(f"template {path}: {error}.", mend="name a readable 3-D NIfTI image in `template`") from None


def _eroded(mask: Flags, grid: Grid, *, by_mm: float) -> Flags:
    """Take about so much off the surface of a mask, in steps of a voxel through its faces."""
    from scipy.ndimage import binary_erosion  # noqa: PLC0415  # heavy

    edge_mm = float(np.linalg.norm(grid.affine[:3, :3], axis=0).mean())
    steps = max(1, round(by_mm / edge_mm))
    return np.asarray(binary_erosion(mask, iterations=steps), dtype=np.bool_)


def _resampled(values: npt.NDArray[Any], grid: Grid, resolution_mm: int, interpolation: str) -> Any:
    from nilearn.image import resample_img  # noqa: PLC0415  # heavy

    return resample_img(nifti(values.astype(np.float32), grid), np.eye(3) * resolution_mm, interpolation=interpolation)
