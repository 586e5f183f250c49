"""Head motion: one rigid transform for each volume, and its six parameters under fMRIPrep's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurofm.light.ants_process import Ants
from neurofm.light.images import Bold, Flags, Floats, saved

PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
_SAMPLES = 40_000
"""Points at which two volumes are compared; more were hardly more exact (docs/light.md)."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """How the head moved."""

    matrices: Floats
    """[volume, 4, 4] where a point of the reference lies in each volume, mm (RAS+)."""
    transforms: tuple[str, ...]
    """The same as ITK's files, for resampling."""


def estimate_motion(bold: Bold, *, reference: int, mask: Flags, ants: Ants) -> Motion:
    """Register every volume to the reference, rigidly, by mutual information (ANTs).

    Parameters
    ----------
    bold
        The run.
    reference
        Number of the volume that the others are registered to.
    mask
        [x, y, z] where volumes are compared.
    ants
        The process.

    Raises
    ------
    Unreadable
        If ANTs cannot register a volume.
    """
    answer = ants.ask(
        "motion",
        about=bold.name,
        reference=saved(bold.volumes()[reference], bold.grid, path=ants.folder / "reference.npy"),
        mask=saved(mask, bold.grid, path=ants.folder / "mask.npy"),
        volumes=str(bold.array),
        samples=_SAMPLES,
        prefix=str(ants.folder / "motion_"),
    )
    found = answer["transforms"]
    return Motion(matrices=np.stack([_matrix(one) for one in found]), transforms=tuple(one["path"] for one in found))


def _matrix(found: dict[str, Any]) -> Floats:
    """[4, 4] in RAS+ of ITK's ``y = R (x - c) + c + t`` in LPS."""
    parameters, centre = np.array(found["parameters"]), np.array(found["centre"])
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return np.asarray(_LPS @ matrix @ _LPS)


def motion_parameters(matrices: Floats, *, centre_mm: tuple[float, float, float]) -> pd.DataFrame:
    """Return six parameters for each volume.

    They say how the head moved from the reference to the volume, in the scanner's axes (RAS+: x to the right, y to
    the front, z to the top of the head), whatever the order in which voxels are stored. A point ``p`` of the head
    lies at ``R (p - c) + c + t`` in the volume, where ``t`` is (`trans_x`, `trans_y`, `trans_z`) in mm, ``c`` the
    centre of the brain, and ``R = Rx Ry Rz`` by the right-hand rule about each axis, in radians. A positive `rot_x`
    lifts the face, `rot_y` tips the head to its right, `rot_z` turns the face to its left.

    fMRIPrep has MCFLIRT's, which turn about another point and in FSL's axes, from the volume back to the reference:
    signs and translations differ from these; framewise displacement and what is regressed out hardly do.

    Parameters
    ----------
    matrices
        [volume, 4, 4] as in `Motion`.
    centre_mm
        Centre of rotation.
    """
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  # heavy

    centre = np.array(centre_mm)
    translations = matrices[:, :3, :3] @ centre + matrices[:, :3, 3] - centre
    rotations = Rotation.from_matrix(matrices[:, :3, :3]).as_euler("XYZ")
    return pd.DataFrame(np.hstack([translations, rotations]), columns=list(PARAMETERS))


def framewise_displacement(parameters: pd.DataFrame) -> pd.Series[float]:
    """Sum up how far the head went from one volume to the next, mm, with rotations as arcs on a sphere of 50 mm.

    Power et al. (2012), 10.1016/j.neuroimage.2011.10.018. The first is NaN.
    """
    arcs = parameters[list(PARAMETERS)].to_numpy() * np.array([1.0] * 3 + [HEAD_RADIUS_MM] * 3)
    moved = np.abs(np.diff(arcs, axis=0)).sum(axis=1)
    return pd.Series(np.append(np.nan, moved), name="framewise_displacement")
