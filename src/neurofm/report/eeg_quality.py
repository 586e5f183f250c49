"""What was measured of every EEG recording of a dataset, which limits it breaks, and which are looked at first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.eeg.quality import LIMITS, Exclude
from neurofm.recording import UnitStatus
from neurofm.report.recordings import ReportRecording
from neurofm.report.words import MISSING, number

RECORDING_COLUMNS = (
    "recording",
    "included",
    "usable",
    "line noise",
    "bad channels",
    "blinks",
    "muscle",
    "rejected",
    "slope",
    "alpha",
    "alpha over 1/f",
)
MEASURE_COLUMNS = ("measure", "limit", "recordings beyond it", "measured in", "median", "lowest", "highest")

Write = Callable[[float], str]


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.3g} %"


def _with(unit: str) -> Write:
    def write(value: float) -> str:
        return MISSING if math.isnan(value) else f"{number(value)} {unit}".rstrip()

    return write


@dataclass(frozen=True, kw_only=True)
class _Measure:
    name: str
    """In a recording's quality."""
    words: str
    write: Write
    worse: int
    """1: high values are suspicious; -1: low ones; 0: neither."""


_MEASURES = (
    _Measure(name="usable_s", words="usable time", write=_with("s"), worse=-1),
    _Measure(name="line_ratio", words="line noise over its surroundings", write=_with(""), worse=1),
    _Measure(name="bad_channel_fraction", words="share of bad channels", write=_percent, worse=1),
    _Measure(name="blink_fraction", words="share of time with blinks", write=_percent, worse=1),
    _Measure(name="muscle_fraction", words="share of time with muscle", write=_percent, worse=1),
    _Measure(name="rejected_fraction", words="share of rejected samples", write=_percent, worse=1),
    _Measure(name="spectral_slope", words="exponent of the spectrum (slope)", write=_with(""), worse=1),
    _Measure(name="alpha_peak_hz", words="alpha peak", write=_with("Hz"), worse=0),
    _Measure(name="alpha_peak_db", words="alpha peak over 1/f", write=_with("dB"), worse=0),
    _Measure(name="occipital_relative_alpha", words="relative alpha, occipital", write=_percent, worse=0),
)


def measured(one: ReportRecording, name: str) -> float:
    """Return a measure of a recording; NaN where it is not known.

    Where no step looks for bad channels (the tiers ``filter`` and ``challenge``), their share is that of channels that
    are not usable: flat, without numbers, or marked by the archive.
    """
    value = one.measure(name)
    quality = one.quality
    if name == "bad_channel_fraction" and math.isnan(value) and quality.channels:
        return 1 - quality.usable_channels / quality.channels
    return value


def recording_row(one: ReportRecording) -> tuple[str, ...]:
    """Return the cells of `RECORDING_COLUMNS`."""
    written = {measure.name: measure.write(measured(one, measure.name)) for measure in _MEASURES}
    return (
        one.recording,
        f"no: {one.reason}" if one.reason else "yes",
        written["usable_s"],
        written["line_ratio"],
        _bad_channels(one),
        written["blink_fraction"],
        written["muscle_fraction"],
        written["rejected_fraction"],
        written["spectral_slope"],
        written["alpha_peak_hz"],
        written["alpha_peak_db"],
    )


def _bad_channels(one: ReportRecording) -> str:
    quality = one.quality
    if not quality.channels:
        return MISSING
    found = named_bad(one)
    count = quality.channels - quality.usable_channels if found is None else len(found)
    return f"{count} of {quality.channels}"


def named_bad(one: ReportRecording) -> list[str] | None:
    """Name the channels that cleaning found bad; None where no step looked for them."""
    names = one.quality.quality.get("bad_channels")
    return [name for name in names.split(", ") if name] if isinstance(names, str) else None


def measure_rows(recordings: Sequence[ReportRecording], *, limits: Exclude) -> tuple[tuple[str, ...], ...]:
    """Return, of each measure, its limit and how it is spread over the recordings that could be preprocessed."""
    read = [one for one in recordings if one.quality.status == UnitStatus.SUCCEEDED]
    bounds: Mapping[str, float | None] = limits.model_dump()
    limit_of = {measure: limit for limit, measure, _, _ in LIMITS}
    rows = []
    for measure in _MEASURES:
        values = _values(read, measure.name)
        known = values[np.isfinite(values)]
        limit = limit_of.get(measure.name, "")
        bound = bounds.get(limit)
        beyond = 0 if bound is None else int((known > bound if limit.startswith("max_") else known < bound).sum())
        word = "at most" if limit.startswith("max_") else "at least"
        rows.append(
            (
                measure.words,
                "none" if bound is None else f"{word} {measure.write(bound)} ({limit})",
                MISSING if bound is None else str(beyond),
                f"{len(known)} of {len(read)}",
                *(measure.write(float(how(known))) if len(known) else MISSING for how in (np.median, np.min, np.max)),
            )
        )
    return tuple(rows)


def most_suspicious(recordings: Sequence[ReportRecording]) -> list[ReportRecording]:
    """Order recordings for a person to look at: those left out first, then by mean rank over all measures.

    A measure's rank goes from 0 for the best recording to 1 for the worst, with equal ones sharing theirs; what was
    not measured has no rank. Ties go by name.
    """
    from scipy.stats import rankdata  # noqa: PLC0415  # a second, and only a dataset with EEG needs it

    ranks = []
    for measure in _MEASURES:
        values = measure.worse * _values(recordings, measure.name)
        known = np.isfinite(values)
        if measure.worse and known.sum() > 1:
            rank = np.full(len(values), np.nan)
            rank[known] = (rankdata(values[known]) - 1) / (known.sum() - 1)
            ranks.append(rank)
    mean = np.zeros(len(recordings))
    if ranks:
        every = np.array(ranks)
        counted = np.isfinite(every)
        mean = np.where(counted, every, 0.0).sum(axis=0) / np.maximum(1, counted.sum(axis=0))
    order = sorted(
        range(len(recordings)),
        key=lambda i: (not recordings[i].reason, -round(float(mean[i]), 9), recordings[i].recording),
    )
    return [recordings[i] for i in order]


def _values(recordings: Sequence[ReportRecording], name: str) -> npt.NDArray[np.float64]:
    return np.array([measured(one, name) for one in recordings], dtype=np.float64)
