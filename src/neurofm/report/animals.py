"""The page about spikes and calcium: quality of units and cells, activity with behaviour, and tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.catalog import CatalogEntry
from neurofm.recording import Events, Modality, Target
from neurofm.report.excerpts import Excerpt, choose_excerpt, is_angle, names_of
from neurofm.report.figures.style import drawing, short, svg
from neurofm.report.figures.tuning import draw_curves, draw_distributions, draw_levels, draw_maps
from neurofm.report.incoming import Panel, in_time
from neurofm.report.inputs import ReportInputs
from neurofm.report.recordings import ReportRecording, recordings_of
from neurofm.report.settings import ReportSettings
from neurofm.report.tuning import (
    Levels,
    Tuning,
    bins_of_angle,
    bins_of_place,
    bins_of_value,
    levels_of,
    responses,
    tune,
)
from neurofm.report.words import MISSING, counted, number, plain, quality_value, unit_name
from neurofm.shards import Shard

ANIMALS = frozenset({Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE})
COLUMNS = (
    "recording",
    "included",
    "units or cells kept",
    "excluded",
    "median rate (Hz)",
    "ISI violations",
    "presence",
    "drifting",
    "noise (%/√Hz)",
    "signal to noise",
    "valid",
    "targets",
    "behaviour",
    "drops",
)
"""Of a recording; rate, ISI violations and presence are medians over the units kept."""

_MEASURES = {
    "rate_hz": "rate (Hz)",
    "isi_violation_fraction": "ISI violations",
    "presence_fraction": "presence",
    "snr": "signal to noise",
    "noise_level": "noise (%/√Hz)",
}
"""Quality columns of the channel table."""
_FAULTS = {"units_silent": "silent", "constant_channels": "constant", "nan_channels": "with too many gaps"}
"""Measures that count units or cells which are not used, whatever the limits say."""
_ANGLE_BINS, _VALUE_BINS, _PLACE_BINS = 24, 16, 16
_SHUFFLES, _SEED = 99, 1
_MIN_OCCUPANCY_S = {"angle": 1.0, "value": 1.0, "place": 0.4}
_MIN_SHIFT_S = 20.0
_MOST_UNITS = 15
_EVENT_WINDOW_S = 0.5
"""After the onset of an event without duration."""
_MIN_TRIALS = 5
"""Of a level; rarer ones are left out."""
_MOST_TRIALS = 4000
"""Taken evenly through the recording: a long table of presentations says no more with all of them."""
_MOST_EVENT_COLUMNS = 6
_FIRST_COLUMNS = ("direction", "orientation", "stimulus", "side", "contrast", "choice", "feedback")
"""Columns that have one of these in their name are drawn first."""


@dataclass(frozen=True, kw_only=True)
class AnimalDataset:
    """One dataset on the page."""

    dataset: str
    title: str
    columns: tuple[str, ...]
    """Those of `COLUMNS` in which some row has a value."""
    rows: tuple[tuple[str, ...], ...]
    hidden: int
    recording: str
    """Which one is drawn; empty where none is."""
    panels: tuple[Panel, ...]


def animal_datasets(inputs: ReportInputs, *, shards: Path, settings: ReportSettings) -> list[AnimalDataset]:
    """Return all that the page says, of every spikes, calcium and miniscope dataset that was preprocessed.

    Raises
    ------
    Unreadable
        For a damaged shard.
    """
    chosen = [entry for entry in inputs.entries if entry.modality in ANIMALS and inputs.recordings(entry.id)]
    return [_dataset(entry, inputs, shards=shards, settings=settings) for entry in chosen]


def _dataset(entry: CatalogEntry, inputs: ReportInputs, *, shards: Path, settings: ReportSettings) -> AnimalDataset:
    recordings = recordings_of(entry.id, inputs)
    shown = recordings[: max(settings.table_rows, sum(bool(one.reason) for one in recordings))]
    columns, rows = _known_columns(tuple(map(_row, shown)))
    excerpt = choose_excerpt(
        shards / entry.id,
        preferred=inputs.taking_part(entry.id),
        seconds=settings.excerpt_s.of(entry.modality),
    )
    panels: list[Panel] = []
    if excerpt is not None:
        panels += _distributions(entry.id, excerpt.shard)
        panels += filter(None, [in_time(entry, excerpt, settings)])
        panels += _tunings(entry.id, excerpt)
        panels += event_responses(entry.id, excerpt.shard)
    return AnimalDataset(
        dataset=entry.id,
        title=entry.title,
        columns=columns,
        rows=rows,
        hidden=len(recordings) - len(shown),
        recording="" if excerpt is None else excerpt.recording,
        panels=tuple(panels),
    )


def _known_columns(rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return columns and rows without the columns that no row has a value in: cells have no rate, units no noise."""
    known = [place for place in range(len(COLUMNS)) if any(row[place] != MISSING for row in rows)]
    return tuple(COLUMNS[place] for place in known), tuple(tuple(row[place] for place in known) for row in rows)


def _row(one: ReportRecording) -> tuple[str, ...]:
    quality, said = one.quality, one.quality.quality
    return (
        one.recording,
        f"no: {one.reason}" if one.reason else "yes",
        f"{quality.usable_channels} of {quality.channels}" if quality.channels else MISSING,
        _excluded(one),
        number(one.measure("rate_hz_median")),
        _percent(one.measure("isi_violation_fraction_median"), digits=2),
        _percent(one.measure("presence_fraction_median"), digits=1),
        number(one.measure("units_drifting")),
        number(one.measure("noise_level_median")),
        number(one.measure("snr_median")),
        _percent(one.measure("valid_fraction"), digits=1),
        quality_value(said.get("targets_present")) or MISSING,
        quality_value(said.get("behaviour")),
        number(one.measure("dropped_frames")),
    )


def _percent(fraction: float, *, digits: int) -> str:
    return f"{100 * fraction:.{digits}f} %" if np.isfinite(fraction) else MISSING


def _excluded(one: ReportRecording) -> str:
    """Say how many units or cells each limit or fault took out; a dash where the recording does not tell."""
    limits = one.quality.quality.get("unit_exclusions")
    words = [str(limits)] if limits else []
    words += [f"{number(count)} {fault}" for key, fault in _FAULTS.items() if (count := one.measure(key)) > 0]
    left = one.quality.channels - one.quality.usable_channels
    if one.quality.channels and not words:
        return number(left)
    return "; ".join(words) or MISSING


def _distributions(dataset: str, shard: Shard) -> list[Panel]:
    table = shard.recording.channels.quality
    measures = [
        (words, known)
        for name, words in _MEASURES.items()
        if name in table and len(known := table[name][np.isfinite(table[name])].astype(np.float64))
    ]
    if not measures:
        return []
    medians = ", ".join(f"{words} {number(float(np.median(values)))}" for words, values in measures)
    caption = f"Over {len(shard.recording.channels)} units or cells, used or not. Medians (dashed): {medians}."
    with drawing(f"units-{dataset}"):
        return [Panel(drawing=svg(draw_distributions(measures), alt=f"{dataset}. {caption}"), caption=caption)]


def _tunings(dataset: str, excerpt: Excerpt) -> list[Panel]:
    panels = []
    for name, target in sorted(excerpt.shard.recording.targets.items()):
        with drawing(f"tuning-{dataset}-{name}"):
            panel = _tuning(dataset, excerpt.shard, name, target)
            if panel is not None:
                panels.append(panel)
    return panels


def _tuning(dataset: str, shard: Shard, name: str, target: Target) -> Panel | None:
    width = target.values.shape[1]
    kind = "angle" if is_angle(target) else {1: "value", 2: "place"}.get(width, "")
    if not kind or not shard.usable.any():
        return None
    edges: tuple[npt.NDArray[np.float64], ...] = ()
    if kind == "angle":
        level, levels = bins_of_angle(target.values, bins=_ANGLE_BINS), _ANGLE_BINS
    elif kind == "value":
        (level, one), levels = bins_of_value(target.values[:, 0], bins=_VALUE_BINS), _VALUE_BINS
        edges = (one,)
    else:
        (level, edges), levels = bins_of_place(target.values, bins=_PLACE_BINS), _PLACE_BINS**2
    usable = np.flatnonzero(shard.usable)
    rate, spikes = shard.sampling_rate_hz, shard.recording.modality is Modality.SPIKES
    found = tune(
        shard.values()[:, usable],
        np.where(shard.valid, level, -1),
        levels=levels,
        min_occupancy=round(_MIN_OCCUPANCY_S[kind] * rate),
        min_shift=round(_MIN_SHIFT_S * rate),
        shuffles=_SHUFFLES,
        seed=_SEED,
        counts=spikes,
    )
    if found is None:
        return None
    order = found.order[:_MOST_UNITS]
    scale = rate if spikes else 1.0
    titles = [
        f"{short(unit, limit=10)} · {np.nanmax(found.mean[:, o]) * scale:.3g}{' Hz' if spikes else ''}"
        for unit, o in zip(names_of(shard, usable[order]), order, strict=True)
    ]
    mean, low, high = (one[:, order] * scale for one in (found.mean, found.null_low, found.null_high))
    caption = _caption(
        name, found, kind=kind, shown=len(order), spikes=spikes, minutes=found.occupancy.sum() / rate / 60
    )
    if kind == "place":
        shape = (_PLACE_BINS, _PLACE_BINS)
        spans = " x ".join(f"{number(float(one[-1] - one[0]))} {target.unit}" for one in edges)
        figure = draw_maps(
            mean.reshape(*shape, -1),
            occupancy_s=found.occupancy.reshape(shape) / rate,
            titles=titles,
            label=f"{', '.join(target.columns)}: {spans}",
        )
    else:
        centre = (edges[0][1:] + edges[0][:-1]) / 2 if edges else (np.arange(levels) + 0.5) / levels * 2 * np.pi
        label = f"{plain(name)} ({target.unit})" if target.unit else plain(name)
        circular = kind == "angle"
        figure = draw_curves(centre, mean=mean, low=low, high=high, titles=titles, label=label, circular=circular)
    return Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption)


def event_responses(dataset: str, shard: Shard) -> list[Panel]:
    """Draw how units and cells respond to the events of each column with 2 to 12 levels; none where there is none.

    Parameters
    ----------
    dataset
        Its id, for the description of the drawing.
    """
    events = shard.recording.events
    if events is None or not shard.usable.any():
        return []
    columns = {name: found for name, column in events.columns.items() if (found := levels_of(column)) is not None}
    if not columns:
        return []
    usable = np.flatnonzero(shard.usable)
    rate, spikes = shard.sampling_rate_hz, shard.recording.modality is Modality.SPIKES
    activity = shard.values()[:, usable] * (rate if spikes else 1.0)
    panels: list[Panel] = []
    for name in sorted(columns, key=_rank):
        if len(panels) == _MOST_EVENT_COLUMNS:
            break
        with drawing(f"events-{dataset}-{name}"):
            panel = _event_response(shard, activity, events, name=name, levels=columns[name], dataset=dataset)
        panels += [] if panel is None else [panel]
    return panels


def _rank(column: str) -> tuple[int, str]:
    known = [place for place, word in enumerate(_FIRST_COLUMNS) if word in column.lower()]
    return (min(known, default=len(_FIRST_COLUMNS)), column)


def _event_response(
    shard: Shard, activity: npt.NDArray[np.floating], events: Events, *, name: str, levels: Levels, dataset: str
) -> Panel | None:
    known = np.flatnonzero(levels.of >= 0)
    if len(known) > _MOST_TRIALS:
        known = known[np.linspace(0, len(known) - 1, _MOST_TRIALS).round().astype(np.int64)]
    rate, lasts = shard.sampling_rate_hz, events.duration_s[known]
    start = (events.onset_s[known] - shard.start_s) * rate
    response = responses(
        activity, shard.valid, start=start, stop=start + np.where(lasts > 0, lasts, _EVENT_WINDOW_S) * rate
    )
    taken = np.isfinite(response).all(axis=1)
    found = tune(
        response,
        np.where(taken, levels.of[known], -1),
        levels=len(levels.names),
        min_occupancy=_MIN_TRIALS,
        min_shift=0,
        shuffles=_SHUFFLES,
        seed=_SEED,
        counts=False,
    )
    if found is None:
        return None
    drawn, order = np.flatnonzero(found.occupancy >= _MIN_TRIALS), found.order[:_MOST_UNITS]
    usable = np.flatnonzero(shard.usable)
    figure = draw_levels(
        [levels.names[level] for level in drawn],
        mean=found.mean[np.ix_(drawn, order)],
        low=found.null_low[np.ix_(drawn, order)],
        high=found.null_high[np.ix_(drawn, order)],
        titles=[short(unit, limit=14) for unit in names_of(shard, usable[order])],
        label=plain(name),
        joined=levels.ordered,
    )
    unit = "Hz" if shard.recording.modality is Modality.SPIKES else unit_name(shard.units)
    caption = _event_caption(name, found, levels, unit=unit, shown=len(order), window=_window(lasts))
    return Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption)


def _window(duration_s: npt.NDArray[np.float64]) -> str:
    lasting = duration_s[duration_s > 0]
    fixed = f"{_EVENT_WINDOW_S:g} s from the onset of each event, which has no duration"
    if not len(lasting):
        return fixed
    words = f"each event ({number(float(np.median(lasting)))} s)"
    return words if len(lasting) == len(duration_s) else f"{words}, or {_EVENT_WINDOW_S:g} s where it has no duration"


def _event_caption(name: str, found: Tuning, levels: Levels, *, unit: str, shown: int, window: str) -> str:
    total, beyond = len(found.information), int((found.p <= 0.05).sum())
    enough = found.occupancy[found.occupancy >= _MIN_TRIALS]
    rare = f" Levels with fewer than {_MIN_TRIALS} trials are left out." if len(enough) < len(levels.names) else ""
    blocks = " Trials of one level lie together in time, so slow drift can pass this band." if levels.in_blocks else ""
    return (
        f"Response to {plain(name)}, {unit}: mean over {window}; {enough.sum():,} trials of {len(enough)} levels, at "
        f"least {enough.min():,} each. {shown} of {counted(total, 'unit')}, by the share of variance between levels "
        f"(less the permutations' mean), {number(float(found.information.max()))} at most. {beyond} of {total} beyond "
        f"the permutations at p 0.05, one unit at a time; chance gives {number(0.05 * total)}. Grey: 95 % of "
        f"{_SHUFFLES} permutations of the trials.{rare}{blocks}"
    )


def _caption(name: str, found: Tuning, *, kind: str, shown: int, spikes: bool, minutes: float) -> str:
    total = len(found.information)
    beyond = int((found.p <= 0.05).sum())
    known = found.reliability[np.isfinite(found.reliability)]
    halves = f" Correlation of the curves of two halves: median {np.median(known):.2f}." if len(known) else ""
    measure = "bits per spike" if spikes else "share of variance"
    band = "" if kind == "place" else f" Grey: 95 % of {_SHUFFLES} circular shifts."
    return (
        f"Tuning to {plain(name)} over {number(float(minutes))} min: {shown} of {counted(total, 'unit')}, by "
        f"information ({measure}, less the shuffles' mean), {number(float(found.information.max()))} at most; peaks "
        f"above. {beyond} of {total} beyond the shuffles at p 0.05, one unit at a time; chance gives "
        f"{number(0.05 * total)}.{band} Bins with less than {_MIN_OCCUPANCY_S[kind]:g} s are left out.{halves}"
    )
