"""The page about EEG: how good each recording is, which limits it breaks, and MNE's reports of the suspicious ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from neurofm.catalog import CatalogEntry
from neurofm.eeg.quality import Exclude
from neurofm.files import write_atomic
from neurofm.recording import Modality
from neurofm.report.carpets import shard_of
from neurofm.report.eeg_quality import (
    MEASURE_COLUMNS,
    RECORDING_COLUMNS,
    measure_rows,
    most_suspicious,
    recording_row,
)
from neurofm.report.figures.eeg import Line, draw_alpha, draw_badness, draw_spectra
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.inputs import ReportInputs
from neurofm.report.mne_pages import recording_page
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.spectra import Seen, seen
from neurofm.report.words import counted, number, quality_value
from neurofm.shards import read_shard

_RANGE_HZ = (0.5, 100.0)
"""Widest range of spectra that is drawn; none goes beyond what its recordings have."""


@dataclass(frozen=True, kw_only=True)
class EegRow:
    """A recording on the page."""

    cells: tuple[str, ...]
    page: str
    """Address of MNE's report, relative to the page; empty where there is none."""


@dataclass(frozen=True, kw_only=True)
class EegDataset:
    """One dataset on the page."""

    dataset: str
    title: str
    summary: str
    rows: tuple[EegRow, ...]
    hidden: int
    measures: tuple[tuple[str, ...], ...]
    panels: tuple[Panel, ...]
    """Spectra, bad channels on the head, alpha peaks."""

    columns: tuple[str, ...] = RECORDING_COLUMNS
    measure_columns: tuple[str, ...] = MEASURE_COLUMNS


def eeg_datasets(
    inputs: ReportInputs, *, root: Path, settings: ReportSettings, limits: Exclude, pages: Path
) -> list[EegDataset]:
    """Return all that the page says of every EEG dataset that was preprocessed, and write MNE's reports.

    Parameters
    ----------
    inputs
        What the earlier stages left.
    root
        The project's root, for shards.
    settings
        Rows per table, shards that are read, reports of MNE.
    limits
        Which recordings preprocessing keeps out.
    pages
        Folder ``<dataset>/<recording>.html`` is written to, emptied before; the page that links to it lies beside it.

    Raises
    ------
    Unreadable
        For a damaged shard.
    """
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    chosen = [entry for entry in inputs.entries if entry.modality is Modality.EEG and inputs.recordings(entry.id)]
    return [_dataset(entry, inputs, root=root, settings=settings, limits=limits, pages=pages) for entry in chosen]


def _dataset(
    entry: CatalogEntry, inputs: ReportInputs, *, root: Path, settings: ReportSettings, limits: Exclude, pages: Path
) -> EegDataset:
    shards = root / "data" / "shards" / entry.id
    recordings = recordings_of(entry.id, inputs)
    suspicious = most_suspicious(recordings)
    written = _write_pages(entry.id, suspicious, shards=shards, most=settings.eeg_pages, pages=pages)
    # Whatever takes no part is shown, and whatever has a report of its own.
    shown = suspicious[: max(settings.table_rows, settings.eeg_pages, sum(bool(one.reason) for one in recordings))]
    found = seen(recordings, shards=shards, most=settings.eeg_shards)
    of = (
        ""
        if len(found) == len(recordings)
        else f" Shards read: {len(found)} of {counted(len(recordings), 'recording')}."
    )
    return EegDataset(
        dataset=entry.id,
        title=entry.title,
        summary=_summary(recordings, written),
        rows=tuple(EegRow(cells=recording_row(one), page=written.get(one.recording, "")) for one in shown),
        hidden=len(suspicious) - len(shown),
        measures=measure_rows(recordings, limits=limits),
        panels=(*_spectra(entry.id, found, of=of), *_badness(entry.id, found, of=of), *_alpha(entry.id, recordings)),
    )


def _write_pages(
    dataset: str, suspicious: Sequence[ReportRecording], *, shards: Path, most: int, pages: Path
) -> Mapping[str, str]:
    """Write MNE's report of the first `most` recordings that have a shard; returns its address by recording."""
    here = [one for one in suspicious if shard_of(one.recording, shards=shards).is_file()][:most]
    written = {}
    for one in here:
        file = pages / dataset / f"{one.recording}.html"
        shard = read_shard(shard_of(one.recording, shards=shards))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(
            file, recording_page(shard, name=one.recording, reason=one.reason, back=f"../../{pages.name}.html")
        )
        written[one.recording] = quote(f"{pages.name}/{dataset}/{file.name}")
    return written


def _summary(recordings: Sequence[ReportRecording], written: Mapping[str, str]) -> str:
    out = sum(bool(one.reason) for one in recordings)
    seconds = np.array([one.measure("usable_s") for one in recordings if not one.reason])
    minutes = float(np.nansum(seconds)) / 60
    tiers = sorted({quality_value(tier) for one in recordings if (tier := one.quality.quality.get("tier")) is not None})
    tier = f" Cleaned by the tier {', '.join(tiers)}." if tiers else ""
    reports = f" {counted(len(written), 'MNE report')}, the most suspicious recordings first." if written else ""
    return (
        f"{counted(len(recordings), 'recording')}: {len(recordings) - out} included, {number(minutes)} usable minutes, "
        f"{out} left out.{tier}{reports}"
    )


def _spectra(dataset: str, found: Sequence[Seen], *, of: str) -> tuple[Panel, ...]:
    lines = [
        Line(frequency_hz=one.frequency_hz, power=one.power, used=one.used) for one in found if len(one.frequency_hz)
    ]
    if not lines:
        return ()
    highest = min(_RANGE_HZ[1], *(float(line.frequency_hz[-1]) for line in lines))
    out = sum(not line.used for line in lines)
    median = "; black: the median of those included" if len(lines) - out > 1 else ""
    orange = f"; orange: {out} left out" if out else ""
    short = len(found) - len(lines)
    missing = f" {short} without 4 s of valid samples not drawn." if short else ""
    caption = (
        f"Power spectra, {counted(len(lines), 'recording')}, one line each: the median usable channel, after "
        f"preprocessing{median}{orange}.{missing}{of}"
    )
    with drawing(f"spectra-{dataset}"):
        figure = new_figure(height_in=3.0)
        draw_spectra(figure.subplots(), lines=lines, range_hz=(_RANGE_HZ[0], highest))
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)


def _badness(dataset: str, found: Sequence[Seen], *, of: str) -> tuple[Panel, ...]:
    place = {name: at for one in reversed(found) for name, at in one.position_m.items()}
    if len(place) < 4:
        return ()
    names = list(place)
    share = np.array([np.mean([one.bad[name] for one in found if name in one.bad]) for name in names])
    unplaced = len({name for one in found for name in one.bad} - set(names))
    never = int((share == 0).sum())
    worst = sorted(zip(-share, names, strict=True))[: min(3, len(names) - never)]
    most = ", ".join(f"{name} {-100 * value:.0f} %" for value, name in worst)
    most = f" Most often {most}." if most else ""
    without = f" {counted(unplaced, 'channel')} without a position not drawn." if unplaced else ""
    caption = (
        f"How often each of {counted(len(names), 'electrode')} was bad, over {counted(len(found), 'recording')}: "
        f"{never} never (hollow).{most}{without}{of}"
    )
    with drawing(f"bad-channels-{dataset}"):
        figure = new_figure(height_in=3.4)
        draw_badness(figure.subplots(), position_m=np.array(list(place.values())), names=names, share=share)
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)


def _alpha(dataset: str, recordings: Sequence[ReportRecording]) -> tuple[Panel, ...]:
    known = [
        one for one in recordings if np.isfinite((one.measure("alpha_peak_hz"), one.measure("alpha_peak_db"))).all()
    ]
    if not known:
        return ()
    peak_hz = np.array([one.measure("alpha_peak_hz") for one in known])
    used = np.array([not one.reason for one in known])
    without = len(recordings) - len(known)
    caption = (
        f"Alpha peak of {counted(len(known), 'recording')}, one dot each, median {number(float(np.median(peak_hz)))} "
        f"Hz; {without or 'none'} without one."
    )
    if not used.all():
        caption += f" Hollow: {int((~used).sum())} left out."
    with drawing(f"alpha-{dataset}"):
        figure = new_figure(height_in=2.6)
        draw_alpha(
            figure.subplots(),
            peak_hz=peak_hz,
            peak_db=np.array([one.measure("alpha_peak_db") for one in known]),
            used=used,
        )
        return (Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption),)
