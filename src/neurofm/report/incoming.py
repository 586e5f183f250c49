"""What came in: two panels per dataset, the signals in time and how the channels lie or belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurofm.catalog import CatalogEntry
from neurofm.recording import Modality
from neurofm.report.excerpts import Excerpt, choose_excerpt, evenly, is_angle, names_of
from neurofm.report.figures.eeg import draw_montage
from neurofm.report.figures.parcels import correlation, draw_carpet, draw_correlation
from neurofm.report.figures.raster import angle_of, draw_angle, draw_raster, draw_target, draw_tuning, tuning
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.figures.traces import draw_rois, draw_traces
from neurofm.report.inputs import ReportInputs
from neurofm.report.settings import ReportSettings
from neurofm.report.words import MODALITY_WORDS, number, unit_name
from neurofm.shards import Shard

_METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing and what is seen in it."""

    drawing: Markup
    caption: str


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """One dataset as it came in."""

    dataset: str
    title: str
    modality: str
    shown: str
    """Which recording is drawn, and how much of it."""
    panels: tuple[Panel, ...]


def incoming(
    inputs: ReportInputs, *, shards: Path, settings: ReportSettings
) -> tuple[list[Incoming], dict[str, Excerpt]]:
    """Draw every dataset that has a shard.

    Parameters
    ----------
    inputs
        What the earlier stages left.
    shards
        ``data/shards``.
    settings
        How much is drawn.

    Returns
    -------
    drawn
        One per dataset.
    excerpts
        By dataset: the same recordings, for the provenance and the overview.
    """
    excerpts: dict[str, Excerpt] = {}
    drawn = []
    for entry in inputs.entries:
        excerpt = choose_excerpt(
            shards / entry.id,
            preferred=inputs.taking_part(entry.id),
            seconds=settings.excerpt_s.of(entry.modality),
        )
        if excerpt is not None:
            excerpts[entry.id] = excerpt
            drawn.append(_incoming(entry, excerpt, inputs, settings))
    return drawn, excerpts


def _incoming(entry: CatalogEntry, excerpt: Excerpt, inputs: ReportInputs, settings: ReportSettings) -> Incoming:
    recording = excerpt.shard.recording
    length_s = (excerpt.stop - excerpt.start) / excerpt.shard.sampling_rate_hz
    whole_s = len(excerpt.shard.stored) / excerpt.shard.sampling_rate_hz
    shown = (
        f"Drawn: {excerpt.recording} ({recording.subject}; {recording.species}), {number(length_s)} s of "
        f"{number(whole_s)} s, {excerpt.shard.stored.shape[1]} channels at {number(excerpt.shard.sampling_rate_hz)} Hz"
    )
    count = len(inputs.recordings(entry.id))
    if count > 1:
        shown += f"; one of {count} recordings"
    if inputs.splits is not None and excerpt.recording not in inputs.taking_part(entry.id):
        shown += "; not used, for the reason given below"
    panels = (in_time(entry, excerpt, settings), _together(entry, excerpt))
    return Incoming(
        dataset=entry.id,
        title=entry.title,
        modality=MODALITY_WORDS[entry.modality],
        shown=f"{shown}.",
        panels=tuple(panel for panel in panels if panel is not None),
    )


def in_time(entry: CatalogEntry, excerpt: Excerpt, settings: ReportSettings) -> Panel | None:
    """Draw the excerpt with what was measured beneath; None where no channel is usable."""
    if not excerpt.shard.usable.any():
        return None
    with drawing(f"in-time-{entry.id}"):
        figure, caption = _TIME_PANELS[entry.modality](excerpt, settings)
        return Panel(drawing=svg(figure, alt=f"{entry.id}. {caption}"), caption=caption)


def _raster_panel(excerpt: Excerpt, settings: ReportSettings) -> tuple[Figure, str]:
    channels = len(excerpt.shard.recording.channels)
    height = min(1.2 + 0.14 * channels, 4.5)
    if not excerpt.target:
        figure = new_figure(height_in=height)
        axes = figure.subplots()
        draw_time(axes, excerpt, settings)
        axes.set_xlabel("time (s)")
        return figure, f"Spikes of {channels} units; one tick is one spike."
    figure = new_figure(height_in=height + 1.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(height, 1.0))
    draw_time(upper, excerpt, settings)
    measured = excerpt.shard.recording.targets[excerpt.target]
    values = measured.values[excerpt.start : excerpt.stop]
    name = excerpt.target.replace("_", " ")
    if is_angle(measured):
        draw_angle(lower, time_s=excerpt.time_s, degrees=angle_of(values), name=name)
    else:
        label = f"{name} ({measured.unit})"
        draw_target(lower, time_s=excerpt.time_s, values=values, columns=measured.columns, name=label)
    lower.set_xlabel("time (s)")
    return figure, f"Spikes of {channels} units, one tick per spike, with the measured {name} beneath."


def _trace_panel(excerpt: Excerpt, settings: ReportSettings) -> tuple[Figure, str]:
    shown = len(evenly(excerpt.shard.usable, most=settings.traces))
    usable, unit = int(excerpt.shard.usable.sum()), unit_name(excerpt.shard.units)
    figure = new_figure(height_in=0.8 + 0.22 * shown)
    draw_time(figure.subplots(), excerpt, settings)
    which = f"{shown} of {usable} usable channels, evenly through the table"
    if excerpt.shard.recording.modality is not Modality.EEG:
        what = "Magnetic field" if excerpt.shard.recording.modality is Modality.MEG else "Fluorescence"
        return figure, f"{what} of {which}; each trace is drawn in its own SDs."
    events = len(_events_within(excerpt))
    lines = f" Vertical lines: {events} events." if events else ""
    return figure, f"Voltage of {which}, on one scale ({unit}).{lines}"


def _carpet_panel(excerpt: Excerpt, settings: ReportSettings) -> tuple[Figure, str]:
    figure = new_figure(height_in=3.6)
    draw_time(figure.subplots(), excerpt, settings)
    usable = int(excerpt.shard.usable.sum())
    return figure, f"Carpet: BOLD of {usable} usable parcels, one row each, in SDs from the parcel's mean."


_TIME_PANELS: Mapping[Modality, Callable[[Excerpt, ReportSettings], tuple[Figure, str]]] = {
    Modality.SPIKES: _raster_panel,
    Modality.CALCIUM: _trace_panel,
    Modality.MINISCOPE: _trace_panel,
    Modality.FMRI: _carpet_panel,
    Modality.EEG: _trace_panel,
    Modality.MEG: _trace_panel,
}


def draw_time(axes: Axes, excerpt: Excerpt, settings: ReportSettings) -> None:
    """Draw the excerpt's signal on one pair of axes, in the way of its modality."""
    shard = excerpt.shard
    if shard.recording.modality is Modality.FMRI:
        draw_carpet(axes, time_s=excerpt.time_s, values=excerpt.values[:, shard.usable], rows="parcel")
        return
    if shard.recording.spikes is not None:
        draw_raster(
            axes,
            time_s=shard.recording.spikes.time_s,
            channel=shard.recording.spikes.channel,
            names=shard.recording.channels.id,
            span_s=(float(excerpt.time_s[0]), float(excerpt.time_s[-1])),
        )
        return
    channels = evenly(shard.usable, most=settings.traces)
    draw_traces(
        axes,
        time_s=excerpt.time_s,
        values=excerpt.values[:, channels],
        names=names_of(shard, channels),
        unit=unit_name(shard.units),
        common_scale=shard.recording.modality is Modality.EEG,
        events_s=_events_within(excerpt),
    )


def _events_within(excerpt: Excerpt) -> list[float]:
    events = excerpt.shard.recording.events
    if events is None:
        return []
    first, last = excerpt.time_s[0], excerpt.time_s[-1]
    return [float(onset) for onset in events.onset_s if first <= onset <= last]


def _together(entry: CatalogEntry, excerpt: Excerpt) -> Panel | None:
    """Draw tuning, a map of the channels, or their correlations: the first that the recording has."""
    for panel in (_tuning_panel, _montage_panel, _roi_panel, _correlation_panel):
        with drawing(f"together-{entry.id}"):
            drawn = panel(excerpt)
            if drawn is not None:
                figure, caption = drawn
                return Panel(drawing=svg(figure, alt=f"{entry.id}. {caption}"), caption=caption)
    return None


def _tuning_panel(excerpt: Excerpt) -> tuple[Figure, str] | None:
    shard = excerpt.shard
    if shard.recording.modality is not Modality.SPIKES or not excerpt.target:
        return None
    target = shard.recording.targets[excerpt.target]
    if not is_angle(target):
        return None
    units = evenly(shard.usable, most=20)
    degrees = angle_of(target.values)
    minutes = np.isfinite(degrees).sum() / shard.sampling_rate_hz / 60
    rates = tuning(shard.values()[:, units], degrees, rate_hz=shard.sampling_rate_hz)
    figure = new_figure(height_in=1.15 * -(-len(units) // 5))
    draw_tuning(figure, rates_hz=rates, names=names_of(shard, units))
    name = excerpt.target.replace("_", " ")
    return figure, (
        f"Tuning to {name} over the {number(float(minutes))} min in which it was measured: mean firing rate of "
        f"{len(units)} units, each curve scaled to its peak, which is written above it."
    )


def _placed(
    shard_position: npt.NDArray[np.floating], usable: npt.NDArray[np.bool_], *, axes: int
) -> npt.NDArray[np.bool_]:
    known: npt.NDArray[np.bool_] = usable & np.isfinite(shard_position[:, :axes]).all(axis=1)
    return known


def _trusted(shard: Shard) -> npt.NDArray[np.float32]:
    """[time, channel] the valid samples; all of them where none is valid."""
    return shard.values()[shard.valid] if shard.valid.any() else shard.values()


def _montage_panel(excerpt: Excerpt) -> tuple[Figure, str] | None:
    shard, channels = excerpt.shard, excerpt.shard.recording.channels
    known = _placed(channels.position, shard.usable, axes=3)
    if shard.recording.modality is not Modality.EEG or known.sum() < 4 or channels.position_unit not in _METRES:
        return None
    index = np.flatnonzero(known).astype(np.int64)
    sd = _trusted(shard)[:, index].std(axis=0)
    figure = new_figure(height_in=3.2)
    draw_montage(
        figure.subplots(),
        position_m=channels.position[index] * _METRES[channels.position_unit],
        names=names_of(shard, index),
        shade=sd,
        label=f"SD ({unit_name(shard.units)})",
    )
    return figure, (
        f"Montage: {len(index)} electrodes seen from above, nose up; colour is the SD of each channel's voltage over "
        f"the whole recording ({unit_name(shard.units)}), interpolated between electrodes."
    )


def _roi_panel(excerpt: Excerpt) -> tuple[Figure, str] | None:
    shard, channels = excerpt.shard, excerpt.shard.recording.channels
    known = _placed(channels.position, shard.usable, axes=2)
    if shard.recording.modality not in (Modality.CALCIUM, Modality.MINISCOPE) or known.sum() < 3:
        return None
    values = _trusted(shard)[:, known].astype(np.float64)
    centred = values - values.mean(axis=0)
    skewness = (centred**3).mean(axis=0) / np.maximum(centred.std(axis=0), 1e-12) ** 3
    figure = new_figure(height_in=3.4)
    draw_rois(
        figure.subplots(),
        position=channels.position[known],
        shade=skewness,
        unit=channels.position_unit,
        label="skewness",
    )
    return figure, (
        f"Where the {int(known.sum())} usable regions of interest lie in the imaging plane ({channels.position_unit}); "
        "colour is the skewness of the fluorescence: high where rare transients stand above the baseline."
    )


def _correlation_panel(excerpt: Excerpt) -> tuple[Figure, str] | None:
    shard = excerpt.shard
    values = _trusted(shard)
    varies = shard.usable & (np.ptp(values, axis=0) > 0)
    if varies.sum() < 2:
        return None
    figure = new_figure(height_in=3.6)
    draw_correlation(figure.subplots(), matrix=correlation(values[:, varies]), rows="channel")
    minutes = len(values) / shard.sampling_rate_hz / 60
    return figure, (
        f"Connectome: correlation between {int(varies.sum())} channels over {number(minutes)} min "
        "of samples, in the order of the channel table."
    )
