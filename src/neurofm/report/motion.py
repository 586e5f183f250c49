"""Motion and quality of every fMRI recording of a dataset, and why some take no part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.recording import UnitStatus
from neurofm.report.inputs import ReportInputs
from neurofm.report.words import MISSING, number
from neurofm.report.written import RecordingQuality

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


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One recording."""

    recording: str
    quality: RecordingQuality
    reason: str
    """Why it takes no part; empty if it does."""

    @property
    def fd_mm(self) -> float:
        """Mean framewise displacement; NaN where it is not known."""
        return self.measure("fd_mean_mm")

    def measure(self, name: str) -> float:
        """Return a quality measure; NaN where it is not known."""
        value = self.quality.quality.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def moved_of(dataset: str, inputs: ReportInputs) -> list[Moved]:
    """Return every recording of a dataset, those that take no part first, with the reason that came first.

    That is: it could not be preprocessed; preprocessing excluded it; it gave no matrix; the split left it out.
    """
    found = inputs.connectivity.get(dataset)
    unconnected = found.left_out if found else {}
    unsplit = (
        {left.recording: left.reason for left in inputs.splits.left_out if left.dataset == dataset and not left.trains}
        if inputs.splits
        else {}
    )
    recordings = []
    for name, quality in inputs.recordings(dataset).items():
        reasons = (
            (quality.reason or quality.status) if quality.status != UnitStatus.SUCCEEDED else "",
            str(quality.quality.get("excluded_reason") or ""),
            unconnected.get(name, ""),
            unsplit.get(name, ""),
        )
        recordings.append(Moved(recording=name, quality=quality, reason=next(filter(None, reasons), "")))
    return sorted(recordings, key=lambda one: (not one.reason, one.recording))


def recording_rows(moved: Sequence[Moved], *, most: int) -> tuple[tuple[tuple[str, ...], ...], int]:
    """Return rows for the page and how many are not shown. Whatever takes no part is shown, with its reason."""
    out = sum(bool(one.reason) for one in moved)
    shown = moved[: max(most, out)]
    return tuple(map(_row, shown)), len(moved) - len(shown)


def _row(one: Moved) -> tuple[str, ...]:
    share = one.measure("fd_outlier_fraction")
    quality = one.quality
    return (
        one.recording,
        f"no: {one.reason}" if one.reason else "yes",
        number(one.fd_mm),
        MISSING if math.isnan(share) else f"{100 * share:.1f} %",
        number(one.measure("dvars_median")),
        number(one.measure("tsnr_median")),
        number(one.measure("usable_minutes")),
        f"{quality.usable_channels} of {quality.channels}" if quality.channels else MISSING,
        number(one.measure("parcels_low_coverage")),
        number(one.measure("coverage_median")),
    )
