"""Motion and quality of the recordings of an fMRI dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neurofm.report.recordings import ReportRecording
from neurofm.report.words import MISSING, number

RECORDING_COLUMNS = (
    "recording",
    "included",
    "mean FD (mm)",
    "FD over limit",
    "DVARS",
    "tSNR",
    "usable min",
    "parcels usable",
    "low coverage",
    "coverage",
)


def fd_mm(one: ReportRecording) -> float:
    """Return a recording's mean framewise displacement; NaN where it is not known."""
    return one.measure("fd_mean_mm")


def recording_rows(moved: Sequence[ReportRecording], *, most: int) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Return rows for the page and how many are not shown. Whatever takes no part is shown, with its reason."""
    out = sum(bool(one.reason) for one in moved)
    shown = moved[: max(most, out)]
    return tuple(map(_row, shown)), len(moved) - len(shown)


def _row(one: ReportRecording) -> tuple[str, ...]:
    share = one.measure("fd_outlier_fraction")
    quality = one.quality
    return (
        one.recording,
        f"no: {one.reason}" if one.reason else "yes",
        number(fd_mm(one)),
        MISSING if math.isnan(share) else f"{100 * share:.1f} %",
        number(one.measure("dvars_median")),
        number(one.measure("tsnr_median")),
        number(one.measure("usable_minutes")),
        f"{quality.usable_channels} of {quality.channels}" if quality.channels else MISSING,
        number(one.measure("parcels_low_coverage")),
        number(one.measure("coverage_median")),
    )
