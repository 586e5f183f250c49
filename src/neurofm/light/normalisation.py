"""From the template to a run: transforms that are composed, so that the run is resampled once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurofm.light.ants_process import Ants
from neurofm.light.images import Flags, Grid, Singles, load_volume, saved
from neurofm.light.template import Template

_MARGIN_VOXELS = 3
"""Of the template around its brain, where the head is compared and cut."""

Transforms = tuple[str, ...]
"""ITK's files, in the order in which a point of the template goes through them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Anatomy:
    """A participant's T1-weighted image, and where the template lies in it."""

    name: str
    brain: Singles
    """[x, y, z] 0 outside of the brain."""
    grid: Grid
    from_template: Transforms


def normalise_anatomy(path: Path, *, template: Template, ants: Ants) -> Anatomy:
    """Bring a T1-weighted image to the template: affine with the head, then affine and SyN with the brain.

    The brain is what the affine leads the template's mask, with a margin, to. Nothing corrects for uneven
    intensities; mutual information bears those of usual coils.

    Raises
    ------
    Unreadable
        For a damaged image, one that is not 3-D, or if ANTs cannot register it.
    """
    from scipy.ndimage import binary_dilation  # noqa: PLC0415  # heavy

    head, grid = load_volume(path)
    near = np.asarray(binary_dilation(template.mask, iterations=_MARGIN_VOXELS), dtype=np.bool_)
    fixed = saved(template.brain, template.grid, path=ants.folder / "template.npy")
    mask = saved(near, template.grid, path=ants.folder / "near.npy")
    (rough,) = ants.ask(
        "register",
        about=path.name,
        fixed=fixed,
        mask=mask,
        moving=saved(head, grid, path=ants.folder / "head.npy"),
        kind="affine",
        prefix=str(ants.folder / "rough_"),
    )["transforms"]
    (back,) = ants.ask("invert", about=path.name, transform=rough, to=str(ants.folder / "rough_inverse.mat"))[
        "transforms"
    ]
    np.save(ants.folder / "near_one.npy", near[None].astype(np.float32))
    cut = ants.folder / "cut.npy"
    ants.ask(
        "resample",
        about=path.name,
        volumes={"array": str(ants.folder / "near_one.npy"), **template.grid.itk()},
        target=grid.itk(),
        transforms=[[back]],
        interpolator="nearestNeighbor",
        to=str(cut),
    )
    brain = np.where(np.load(cut)[0] > 0, head, 0).astype(np.float32)
    found = ants.ask(
        "register",
        about=path.name,
        fixed=fixed,
        moving=saved(brain, grid, path=ants.folder / "brain.npy"),
        kind="syn-fine",
        prefix=str(ants.folder / "anatomy_"),
    )
    return Anatomy(name=path.name, brain=brain, grid=grid, from_template=tuple(found["transforms"]))


def template_to_run(
    mean: Singles,
    brain: Flags,
    grid: Grid,
    *,
    name: str,
    anatomy: Anatomy | None,
    template: Template,
    ants: Ants,
) -> Transforms:
    """Find where the template lies in a run's reference: by way of the T1-weighted image, or directly without one.

    Parameters
    ----------
    mean, brain, grid
        Mean of the aligned volumes, and the brain in it, [x, y, z].
    name
        File name, for messages.
    anatomy
        None to register affine and SyN to the template directly, which blood flow's contrast makes less exact.
    template
        The template.
    ants
        The process.

    Raises
    ------
    Unreadable
        If ANTs cannot register it.
    """
    run = saved(np.where(brain, mean, 0), grid, path=ants.folder / "run.npy")
    if anatomy is None:
        fixed = saved(template.brain, template.grid, path=ants.folder / "template.npy")
        prefix = str(ants.folder / "direct_")
        found = ants.ask("register", about=name, fixed=fixed, moving=run, kind="syn", prefix=prefix)
        return tuple(found["transforms"])
    moving = saved(anatomy.brain, anatomy.grid, path=ants.folder / "brain.npy")
    # The run is the fixed one, since its grid is the coarser: minutes less. Its transform is then turned round.
    (to_anatomy,) = ants.ask(
        "register", about=name, fixed=run, moving=moving, kind="rigid", prefix=str(ants.folder / "run_")
    )["transforms"]
    back = ants.ask("invert", about=name, transform=to_anatomy, to=str(ants.folder / "run_inverse.mat"))
    return (*anatomy.from_template, *back["transforms"])


def resample_run(
    array: Path,
    grid: Grid,
    *,
    target: Grid,
    common: Transforms,
    motion: Transforms,
    name: str,
    ants: Ants,
    to: Path,
    interpolator: str = "bSpline",
) -> Singles:
    """Resample every volume once, through normalisation and its own motion together.

    Parameters
    ----------
    array, grid
        ``.npy`` [volume, x, y, z] and where its voxels lie.
    target
        Grid of the output.
    common
        From the output to the reference; nothing for the reference's own space.
    motion
        For each volume, from the reference to it.
    name
        File name, for messages.
    ants
        The process.
    to
        ``.npy`` to write.
    interpolator
        One of ANTs's; cubic splines as fMRIPrep's.

    Returns
    -------
    Singles
        [volume, x, y, z] mapped from `to`; exactly 0 outside of the run's field of view.

    Raises
    ------
    Unreadable
        If ANTs cannot do it.
    """
    ants.ask(
        "resample",
        about=name,
        volumes={"array": str(array), **grid.itk()},
        target=target.itk(),
        transforms=[[*common, one] for one in motion],
        interpolator=interpolator,
        to=str(to),
    )
    mapped: Singles = np.load(to, mmap_mode="r")
    return mapped
