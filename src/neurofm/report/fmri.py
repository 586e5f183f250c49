"""The page about fMRI: who made the derivatives, how much each subject moved, and what cleaning did about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurofm.catalog import CatalogEntry
from neurofm.connectivity.group import GroupArrays, read_group
from neurofm.connectivity.makers import is_fmriprep
from neurofm.connectivity.matrices import BEFORE, CORRELATION
from neurofm.recording import Modality
from neurofm.report.carpets import carpet_panels, limits_mm, shard_of
from neurofm.report.figures.motion import draw_connectomes, draw_qcfc, draw_strip
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.inputs import ReportInputs
from neurofm.report.motion import RECORDING_COLUMNS, fd_mm, recording_rows
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.words import MISSING, counted, number
from neurofm.report.written import DatasetConnectivity, Measure
from neurofm.shards import read_shard

QCFC_COLUMNS = ("measure", "before cleaning", "after cleaning", "motion dealt out at random", "p after")

_SIDES = {BEFORE: "before cleaning", CORRELATION: "after cleaning"}
"""In the order of the page."""
_ALARMS = {
    "stand_in": "Stand-in derivatives, made to try the pipeline: no finding may rest on them.",
    "neurofm-light": "neurofm's own light preprocessing, without the corrections and checks of fMRIPrep.",
}
_MEASURES = {
    "median_abs_r": "median |r| of edge and mean FD",
    "share_significant": "share of edges with p < 0.05, uncorrected",
    "distance_rho": "rank correlation of r and distance",
}


@dataclass(frozen=True, kw_only=True)
class MakerLine:
    """A pipeline that made a dataset's derivatives."""

    title: str
    recordings: str
    description: str
    alarm: str
    """What a reader must not overlook; empty for fMRIPrep alone."""
    foreign: bool
    """fMRIPrep had no part in it."""


@dataclass(frozen=True, kw_only=True)
class FmriDataset:
    """One dataset on the page."""

    dataset: str
    title: str
    makers: tuple[MakerLine, ...]
    summary: str
    rows: tuple[tuple[str, ...], ...]
    hidden: int
    motion: tuple[Panel, ...]
    """Displacement per recording, and carpets."""
    group: tuple[Panel, ...]
    """Connectomes and QC-FC."""
    qcfc_rows: tuple[tuple[str, ...], ...]
    qcfc_note: str

    columns: tuple[str, ...] = RECORDING_COLUMNS
    qcfc_columns: tuple[str, ...] = QCFC_COLUMNS


def fmri_datasets(inputs: ReportInputs, *, root: Path, settings: ReportSettings) -> list[FmriDataset]:
    """Return all that the page says, of every fMRI dataset that was preprocessed.

    Parameters
    ----------
    inputs
        What the earlier stages left.
    root
        The project's root, for shards and connectivity.
    settings
        Rows per table.

    Raises
    ------
    Unreadable
        For a damaged shard.
    """
    chosen = [entry for entry in inputs.entries if entry.modality is Modality.FMRI and inputs.recordings(entry.id)]
    return [_dataset(entry, inputs, root=root, settings=settings) for entry in chosen]


def _dataset(entry: CatalogEntry, inputs: ReportInputs, *, root: Path, settings: ReportSettings) -> FmriDataset:
    found = inputs.connectivity.get(entry.id, DatasetConnectivity())
    shards = root / "data" / "shards" / entry.id
    moved = recordings_of(entry.id, inputs)
    file = root / "data" / "connectivity" / f"{entry.id}.npz"
    arrays = read_group(file) if file.is_file() else None
    rows, hidden = recording_rows(moved, most=settings.table_rows)
    return FmriDataset(
        dataset=entry.id,
        title=entry.title,
        makers=makers_of(found),
        summary=_summary(moved),
        rows=rows,
        hidden=hidden,
        motion=(*_strip(entry.id, moved, shards=shards), *carpet_panels(entry.id, moved, shards=shards)),
        group=() if arrays is None else (*_connectomes(entry.id, arrays, found), *_qcfc(entry.id, arrays)),
        qcfc_rows=_qcfc_rows(found),
        qcfc_note=_qcfc_note(found),
    )


def makers_of(found: DatasetConnectivity) -> tuple[MakerLine, ...]:
    """Return who made a dataset's derivatives, one line per pipeline and version."""
    return tuple(
        MakerLine(
            title=title,
            recordings=counted(one.recordings, "recording"),
            description=one.description,
            alarm=_alarm(one.names),
            foreign=not any(map(is_fmriprep, one.names)),
        )
        for title, one in sorted(found.made_by.items())
    )


def _alarm(names: Sequence[str]) -> str:
    others = [name for name in names if not is_fmriprep(name)]
    return " ".join(_ALARMS.get(name, f"Derivatives of {name}, another pipeline.") for name in others)


def _summary(moved: Sequence[ReportRecording]) -> str:
    out = sum(bool(one.reason) for one in moved)
    minutes = sum(one.measure("usable_minutes") for one in moved if not one.reason)
    usable = f", {number(minutes)} usable minutes" if np.isfinite(minutes) else ""
    return f"{counted(len(moved), 'recording')}: {len(moved) - out} included{usable}, {out} left out."


def _strip(dataset: str, moved: Sequence[ReportRecording], *, shards: Path) -> tuple[Panel, ...]:
    known = [one for one in moved if np.isfinite(fd_mm(one))]
    if not known:
        return ()
    here = [path for one in known if (path := shard_of(one.recording, shards=shards)).is_file()]
    limits = limits_mm(read_shard(here[0]).recording.steps) if here else {}
    fd = np.array([fd_mm(one) for one in known])
    used = np.array([not one.reason for one in known])
    caption = (
        f"Mean framewise displacement of {counted(len(known), 'recording')}, one dot each, median "
        f"{number(float(np.median(fd)))} mm. Hollow: {int((~used).sum())} left out, for the reasons in the table."
    )
    with drawing(f"fd-{dataset}"):
        figure = new_figure(height_in=1.9)
        draw_strip(figure.subplots(), fd_mm=fd, used=used, limits=limits)
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)


def _connectomes(dataset: str, arrays: GroupArrays, found: DatasetConnectivity) -> tuple[Panel, ...]:
    mean = {_SIDES[name]: arrays.mean[name] for name in _SIDES if name in arrays.mean}
    if not mean:
        return ()
    told = {"before cleaning": found.median_abs_correlation_uncleaned, "after cleaning": found.median_abs_correlation}
    strengths = ", ".join(f"{value:.3f} {name}" for name in mean if (value := told[name]) is not None)
    if len(mean) == 1:
        mean, strengths = {"": next(iter(mean.values()))}, strengths.partition(" ")[0]
    averaged = counted(found.recordings - found.other_parcels, "recording")
    caption = (
        f"Connectome: Pearson correlation, the mean over {averaged}, parcels in the atlas's order. "
        f"Median absolute correlation within a recording: {strengths or MISSING}."
    )
    if found.other_parcels:
        caption += f" {counted(found.other_parcels, 'recording')} with other parcels not in it."
    with drawing(f"connectome-{dataset}"):
        figure = draw_connectomes(mean)
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)


def _qcfc(dataset: str, arrays: GroupArrays) -> tuple[Panel, ...]:
    if CORRELATION not in arrays.qcfc:
        return ()
    sides = []
    for name, words in _SIDES.items():
        if name in arrays.qcfc:
            edges = arrays.qcfc[name][np.tril_indices(len(arrays.qcfc[name]), k=-1)].astype(np.float64)
            sides.append((words, edges[np.isfinite(edges)]))
    caption = (
        f"QC-FC: over {len(sides[-1][1]):,} edges, the correlation across recordings of the edge and mean framewise "
        "displacement. The wider than the grey null, the more connectivity follows motion."
    )
    with drawing(f"qcfc-{dataset}"):
        figure = new_figure(height_in=2.7)
        draw_qcfc(figure.subplots(), bins=arrays.bins, null=arrays.null[CORRELATION], sides=sides)
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)


def _qcfc_rows(found: DatasetConnectivity) -> tuple[tuple[str, ...], ...]:
    after, before = found.qcfc.after, found.qcfc.before
    rows = []
    for name, words in _MEASURES.items():
        now: Measure | None = getattr(after, name, None)
        then: Measure | None = getattr(before, name, None)
        if now is not None:
            null = f"{_value(now.null_low)} to {_value(now.null_high)}"
            rows.append((words, _with_interval(then), _with_interval(now), null, _value(now.p)))
    return tuple(rows)


def _with_interval(measure: Measure | None) -> str:
    if measure is None:
        return MISSING
    return f"{_value(measure.value)} ({_value(measure.ci_low)} to {_value(measure.ci_high)})"


def _value(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _qcfc_note(found: DatasetConnectivity) -> str:
    told = found.qcfc
    if told.after is None:
        return f"No QC-FC: {told.why_not or 'connectivity was not computed'}."
    change = told.change
    cleaned = (
        f" Cleaning changed the median |r| by {_with_interval(change)}."
        if change is not None and change.value is not None
        else ""
    )
    repeated = (
        f" They are of {found.subjects} subjects only, so that intervals and null are too narrow."
        if found.subjects < found.recordings - found.other_parcels
        else ""
    )
    return (
        f"QC-FC over {told.recordings} recordings. In brackets 95 %: 1.96 SDs of a bootstrap over recordings. The null "
        f"is what 95 % of permutations of displacement over recordings give.{cleaned}{repeated}"
    )
