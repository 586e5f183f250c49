"""Every recording of a dataset with its quality, and why some take no part."""

from __future__ import annotations

from dataclasses import dataclass

from neurofm.recording import UnitStatus
from neurofm.report.inputs import ReportInputs
from neurofm.report.written import RecordingQuality


@dataclass(frozen=True, kw_only=True)
class ReportRecording:
    """A recording of any modality, as the pages about its dataset list it."""

    recording: str
    quality: RecordingQuality
    reason: str
    """Why it takes no part; empty if it does."""

    def measure(self, name: str) -> float:
        """Return a quality measure; NaN where it is not known."""
        value = self.quality.quality.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def recordings_of(dataset: str, inputs: ReportInputs) -> list[ReportRecording]:
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
        recordings.append(ReportRecording(recording=name, quality=quality, reason=next(filter(None, reasons), "")))
    return sorted(recordings, key=lambda one: (not one.reason, one.recording))
