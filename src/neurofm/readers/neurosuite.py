"""Neurosuite sessions (``.res.N``, ``.clu.N``, ``.xml``, ``.whl``, ``.evt``), as CRCNS hc-3 has them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, unknown_positions
from neurofm.readers.shared.hc3_tables import Described, described, number
from neurofm.readers.shared.neurosuite_behaviour import read_epochs, read_events, read_leds
from neurofm.readers.shared.neurosuite_files import Acquisition, SessionFiles, acquisition, duration_s, session_files
from neurofm.readers.shared.sorted_spikes import check_rising, check_same_length, sorted_spikes
from neurofm.readers.shared.states import StateSource, with_states
from neurofm.recording import Channels, Recording, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy",)

_ARTEFACT, _NOISE = 0, 1
"""Clusters that are no units, by Klusters' convention."""
_TOLERANCE_S = 1.0
"""Field potentials are written in whole blocks, and tables round the duration."""
_NOTES = ("isolationDistance", "quality")


class Options(Settings):
    """What the files do not say."""

    offset_s: float = 0.0
    """When the first row of ``.whl`` was taken, seconds after the recording began: the video may have begun late."""
    whl_rate_hz: float = Field(default=39.0625, gt=0)
    """Rows of ``.whl`` per second: 20 000 / 512 in hc-3."""
    position_unit: str = "px"
    regions: dict[int, str] = Field(default_factory=dict)
    """Region by shank, where no table says it."""
    epochs: tuple[str, ...] = ()
    """Names of the lines of ``Epoch_TS.csv``, in their order."""
    states: dict[str, StateSource] = Field(default_factory=dict)
    """What can be told apart, as awake (1) from asleep (0): targets made of events by their labels."""


@dataclass(frozen=True, kw_only=True)
class _Shank:
    """Spikes of one electrode group."""

    number: int
    time_s: npt.NDArray[np.float64]
    cluster: npt.NDArray[np.int64]


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the units of all shanks of one session, with position, head direction and events.

    Clusters 0 (artefacts) and 1 (noise) are dropped, and counted in the recording's quality. ``.eeg`` and ``.dat``
    are not read; how long the recording is follows from the size of ``.eeg`` where that is there.

    Parameters
    ----------
    source
        ``main`` is the session's archive (``ec013.527.tar.gz``), read where it lies, or one of its files with the
        others as side files. ``hc3-cell.csv``, ``hc3-session.csv`` and ``hc3-epos.csv`` among the side files give
        region and kind of each cell, and what the animal did.
    options
        When the video began, and so on.

    Returns
    -------
    Recording
        Spikes in seconds from the first sample. Units are the clusters from 2 on that have spikes, or that the
        ``.xml`` or the cell table list; those without spikes will not be usable. Targets ``position`` and
        ``head_direction`` where LEDs were tracked; without, the recording is kept, and its quality
        ``has_behaviour`` is False.

    Raises
    ------
    Unreadable
        If a file is damaged or cannot be true: see `docs/formats/neurosuite.md`.
    """
    files = session_files(source)
    facts = acquisition(files)
    about = described(source, session=files.session)
    shanks = [_read_shank(files, number, facts.sampling_rate_hz) for number in files.shanks()]
    if not shanks:
        raise Unreadable(f"{source.path().name}: no .clu and .res files of the session {files.session}")
    channels = _channels(shanks, facts, about, options)
    row = {channel: i for i, channel in enumerate(_units(shanks, facts, about))}
    kept = [shank.cluster > _NOISE for shank in shanks]
    time_s = np.concatenate([shank.time_s[unit] for shank, unit in zip(shanks, kept, strict=True)])
    channel = np.array(
        [row[shank.number, c] for shank, unit in zip(shanks, kept, strict=True) for c in shank.cluster[unit].tolist()],
        dtype=np.int64,
    )
    epochs = read_epochs(files, names=options.epochs)
    stop_s = duration_s(files, facts) or about.duration_s or max((stop for _, stop, _ in epochs), default=None)
    spikes = sorted_spikes(
        time_s,
        channel,
        start_s=0.0,
        stop_s=float(time_s.max(initial=0.0)) if stop_s is None else stop_s,
        name=files.named(".res"),
        tolerance_s=_TOLERANCE_S,
    )
    targets = read_leds(files, rate_hz=options.whl_rate_hz, offset_s=options.offset_s, unit=options.position_unit)
    quality: dict[str, JsonScalar] = {
        "has_behaviour": bool(targets),
        "shanks": len(shanks),
        "artefact_spikes": sum(int((shank.cluster == _ARTEFACT).sum()) for shank in shanks),
        "noise_spikes": sum(int((shank.cluster == _NOISE).sum()) for shank in shanks),
        "duration_stated": stop_s is not None,
    }
    scalars: dict[str, JsonScalar] = {
        name: text for name, text in (("behavior", about.behavior), ("familiarity", about.familiarity)) if text
    }
    events = read_events(files, epochs)
    recording = build(
        source,
        channels=channels,
        spikes=spikes,
        events=events,
        targets=with_states(targets, options.states, intervals=lambda _: events, name=files.session),
        scalars=scalars,
        quality=quality,
    )
    return replace(recording, task=recording.task or about.behavior)


def _read_shank(files: SessionFiles, shank: int, rate_hz: float) -> _Shank:
    clu, res = f".clu.{shank}", f".res.{shank}"
    stated, cluster = np.split(files.integers(clu), [1])
    samples = files.integers(res)
    name = files.named(res)
    check_same_length(len(samples), len(cluster), name=name, unit_file=files.named(clu))
    if len(cluster) and cluster.min() < 0:
        raise Unreadable(f"{files.named(clu)}: a spike of cluster {cluster.min()}, which cannot be")
    clusters = len(np.unique(cluster))
    if len(stated) and clusters > stated[0]:
        raise Unreadable(f"{files.named(clu)}: spikes of {clusters} clusters, but its first line says {stated[0]}")
    time_s = samples / rate_hz
    if len(samples) and samples.min() < 0:
        raise Unreadable(f"{name}: a spike at sample {samples.min()} lies before the recording's beginning")
    check_rising(time_s, name=name, what="spike times")
    return _Shank(number=shank, time_s=time_s, cluster=cluster)


def _units(shanks: list[_Shank], facts: Acquisition, about: Described) -> list[tuple[int, int]]:
    """Return shank and cluster of each unit, in this order."""
    with_spikes = {(shank.number, int(cluster)) for shank in shanks for cluster in np.unique(shank.cluster)}
    sorted_on = {shank.number for shank in shanks}
    listed = {unit for unit in (*facts.units, *about.region) if unit[0] in sorted_on}
    return sorted(unit for unit in with_spikes | listed if unit[1] > _NOISE)


def _channels(shanks: list[_Shank], facts: Acquisition, about: Described, options: Options) -> Channels:
    units = _units(shanks, facts, about)
    noted = {unit: {name: number(notes.get(name, "")) for name in _NOTES} for unit, notes in facts.units.items()}
    columns = {
        name: np.array([{**noted.get(unit, {}), **about.metrics.get(unit, {})}.get(name, np.nan) for unit in units])
        for name in dict.fromkeys(name for table in (noted, about.metrics) for row in table.values() for name in row)
    }
    regions = tuple(
        about.region.get(unit) or about.shank_region.get(unit[0]) or options.regions.get(unit[0], "") for unit in units
    )
    return Channels(
        id=tuple(f"shank{shank}-{cluster}" for shank, cluster in units),
        position=unknown_positions(len(units)),
        position_unit="",
        region=regions if any(regions) else (),
        quality={name: column for name, column in columns.items() if np.isfinite(column).any()},
    )
