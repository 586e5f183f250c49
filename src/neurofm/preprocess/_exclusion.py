"""Which recordings are kept out, and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings


class Exclude(Settings):
    """The section ``preprocess.fmri.exclude`` of params.yaml. ``null`` switches a limit off."""

    max_mean_fd_mm: float | None = Field(default=0.5, gt=0)
    """Mean framewise displacement. Parkes 2018 (10.1016/j.neuroimage.2017.12.073) compared 0.55 and 0.25 mm, by a
    measure that gives about half of Power's, which is the one here."""
    max_fd_outlier_fraction: float | None = Field(default=0.5, ge=0, le=1)
    """Share of volumes whose displacement is beyond ``scrub.fd_threshold_mm``."""
    min_usable_minutes: float | None = Field(default=2.0, ge=0)
    """Minutes of volumes that are fit for use. For rest 4 (Parkes 2018) or 5 (Van Dijk 2010,
    10.1152/jn.00783.2009) are asked for; runs of a task are shorter."""
    min_tsnr: float | None = Field(default=20.0, ge=0)
    """Median over parcels of the temporal signal-to-noise ratio. Means of parcels have 100 to 500."""
    min_covered_fraction: float | None = Field(default=0.8, ge=0, le=1)
    """Share of the atlas's parcels whose coverage is ``min_coverage`` or more."""
    min_dof_left: int | None = Field(default=10, ge=1)
    """Degrees of freedom that volumes left out, and regressors, leave."""


FMRI_LIMITS = (
    ("max_mean_fd_mm", "fd_mean_mm", "mean framewise displacement", " mm"),
    ("max_fd_outlier_fraction", "fd_outlier_fraction", "share of volumes with motion", ""),
    ("min_usable_minutes", "usable_minutes", "usable time", " min"),
    ("min_tsnr", "tsnr_median", "median tSNR of parcels", ""),
    ("min_covered_fraction", "covered_fraction", "share of parcels that are covered", ""),
    ("min_dof_left", "dof_left", "degrees of freedom left", ""),
)
"""Limit, the measure that it is for, the measure in words, and its unit."""


def exclusion_reason(
    quality: Mapping[str, JsonScalar], *, exclude: Settings, limits: tuple[tuple[str, str, str, str], ...] = FMRI_LIMITS
) -> str:
    """Return every limit that a recording breaks, with the value measured, joined by "; "; empty where it breaks none.

    What was not measured (no confounds table, parcels that came centred) breaks no limit.

    Parameters
    ----------
    quality
        What was measured.
    exclude
        The limits; None is none.
    limits
        For each limit its name, the measure that it is for, the measure in words, and its unit.
    """
    bounds = exclude.model_dump()
    reasons = []
    for limit, measure, words, unit in limits:
        bound, value = bounds[limit], quality.get(measure)
        if bound is None or value is None:
            continue
        measured = float(value)
        if measured > bound if limit.startswith("max_") else measured < bound:
            relation = "more" if limit.startswith("max_") else "less"
            reasons.append(f"{words} {measured:.4g}{unit}, {relation} than {bound:g}{unit} ({limit})")
    return "; ".join(reasons)
