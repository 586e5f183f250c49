"""The volume that all others of a run are aligned to, and the brain in it."""

from __future__ import annotations

import warnings

import numpy as np

from neurofm.light.images import Bold, Flags, Grid, Singles, nifti
from neurofm.recording import Unreadable

_MARGIN, _EDGE = 2, 2
"""Voxels around the brain that help alignment, and at the edge of the image, where motion brings other tissue in."""


def reference_number(bold: Bold) -> int:
    """Return which volume is nearest to the run's mean: sharp, as the mean is not, and of the steady state."""
    volumes = bold.volumes()
    mean = mean_volume(volumes)
    apart = [float(np.square(volume - mean, dtype=np.float64).sum()) for volume in volumes]
    return int(np.argmin(apart))


def mean_volume(volumes: Singles) -> Singles:
    """Average over volumes, one at a time.

    Parameters
    ----------
    volumes
        [volume, x, y, z].

    Returns
    -------
    Singles
        [x, y, z].
    """
    total = np.zeros(volumes.shape[1:], dtype=np.float64)
    for volume in volumes:
        total += volume
    return (total / len(volumes)).astype(np.float32)


def brain_of(volume: Singles, grid: Grid, *, name: str) -> Flags:
    """Find the brain in BOLD by nilearn's `compute_epi_mask` (histogram and opening), holes filled.

    Raises
    ------
    Unreadable
        If there is none.
    """
    from nilearn.masking import compute_epi_mask  # noqa: PLC0415  # heavy
    from scipy.ndimage import binary_fill_holes  # noqa: PLC0415  # heavy

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty mask is refused below
            mask = compute_epi_mask(nifti(volume, grid))
    except (ValueError, TypeError) as error:
        raise Unreadable(f"{name}: no brain is found in it: {' '.join(str(error).split())}") from None
    brain = np.asarray(binary_fill_holes(np.asarray(mask.dataobj) > 0), dtype=np.bool_)
    if not brain.any():
        raise Unreadable(f"{name}: no brain is found in it")
    return brain


def alignment_mask(brain: Flags) -> Flags:
    """Return where alignment looks: the brain and a margin, without the edge of the image."""
    from scipy.ndimage import binary_dilation  # noqa: PLC0415  # heavy

    inner = np.zeros_like(brain)
    inner[(slice(_EDGE, -_EDGE),) * 3] = True
    return np.asarray(binary_dilation(brain, iterations=_MARGIN) & inner, dtype=np.bool_)


def centre_mm(brain: Flags, grid: Grid) -> tuple[float, float, float]:
    """Return the centre of the brain, mm."""
    x, y, z, _ = grid.affine @ np.append(np.argwhere(brain).mean(axis=0), 1.0)
    return float(x), float(y), float(z)
