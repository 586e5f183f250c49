"""Read a shard back."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import ZipStore

from neurofm.recording import (
    SHARED_CLOCK,
    Channels,
    Clock,
    EventColumn,
    Events,
    Modality,
    Recording,
    Signal,
    Spikes,
    Step,
    Stimulus,
    Target,
    Unreadable,
)
from neurofm.shards.write import SCHEMA


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a recording was made."""

    clock: str
    """Recordings of one clock were made at once."""
    begin_s: float
    """Of the first sample, on that clock."""
    end_s: float
    """Of what follows the last sample."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One recording as it lies on disk, decoded."""

    recording: Recording
    """Everything but the samples; its `signal` is None; `extra_signals` and `stimulus` are there only if asked for."""
    attrs: dict[str, Any]
    stored: npt.NDArray[np.uint8] | npt.NDArray[np.int16]
    """[time, channel] counts, or integers to be scaled."""
    scale: npt.NDArray[np.float64]
    """[channel]"""
    offset: npt.NDArray[np.float64]
    """[channel]"""
    valid: npt.NDArray[np.bool_]
    """[time]"""
    sampling_rate_hz: float
    start_s: float
    units: str

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """[channel] what preprocessing found fit for use."""
        column = self.recording.channels.quality.get("usable")
        if column is None:
            return np.ones(self.stored.shape[1], dtype=np.bool_)
        return np.asarray(column > 0)

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        """[time] seconds on the recording's clock."""
        return self.start_s + np.arange(len(self.stored)) / self.sampling_rate_hz

    def moment(self, *, samples: int) -> Moment:
        """Return when its `samples` were recorded, on the clock that the catalogue names, or on that of its files.

        What was read from the same files has one clock, and time 0 of each is the file's first sample; what a reader
        says of another clock's 0 (`Clock.offset_s`) is of the named one alone.
        """
        of = self.recording
        files = sorted(file["digest"] for file in self.attrs["source"]["files"])
        named = of.clock.id.startswith(SHARED_CLOCK)
        clock = of.clock.id if named or not files else "/".join((*files, of.subject, of.session, of.task, of.run))
        begin_s = self.start_s + (of.clock.offset_s if named else 0.0)
        return Moment(clock=clock, begin_s=begin_s, end_s=begin_s + samples / self.sampling_rate_hz)

    @property
    def support_s(self) -> float:
        """How far apart two samples must be to share no raw sample: the sum over all steps."""
        return float(sum(step.support_s for step in self.recording.steps))

    def values(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """[time, channel] samples [start, stop) in physical units (counts per bin for spikes)."""
        return (self.stored[start:stop] * self.scale + self.offset).astype(np.float32)


def read_shard(path: Path, *, extra: bool = False, signal: bool = True) -> Shard:
    """Read a shard.

    Parameters
    ----------
    path
        ``<recording>.zarr.zip``.
    extra
        Whether to read the signals that lie beside the one to be modelled (``uncleaned``) and the frames that were
        shown, too. They take longer than all the rest, and training needs none of them.
    signal
        Whether to decode `stored`; without, it has no samples and all else is there (`neurofm.shards.packed` reads
        what is wanted of them).

    Raises
    ------
    Unreadable
        If it is no shard of this schema, or a checksum inside does not match.
    """
    if not zipfile.is_zipfile(path):
        raise Unreadable(f"{path}: not a whole {SCHEMA} shard (no zip file, or a truncated one)")
    try:
        with ZipStore(path, mode="r") as store:
            return _decode(zarr.open_group(store, mode="r", zarr_format=3), extra=extra, signal=signal)
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise Unreadable(f"{path}: not a whole {SCHEMA} shard ({error})") from error


def _decode(group: zarr.Group, *, extra: bool, signal: bool) -> Shard:
    attrs = _attributes(group)
    if attrs.get("schema") != SCHEMA:
        raise ValueError(f"schema is {attrs.get('schema')!r}")
    table = _group(group, "channels")
    rate, start, units = float(attrs["sampling_rate_hz"]), float(attrs["start_s"]), str(attrs["units"])
    array: Any = group["signal"]
    stored = np.asarray(array[...]) if signal else np.empty((0, array.shape[1]), dtype=array.dtype)
    # Its times alone are wanted: they are those of every series beside it.
    like = Signal(values=np.broadcast_to(np.uint8(0), array.shape), sampling_rate_hz=rate, units=units, start_s=start)
    return Shard(
        recording=Recording(
            dataset=attrs["dataset"],
            subject=attrs["subject"],
            session=attrs["session"],
            run=attrs["run"],
            task=attrs["task"],
            species=attrs["species"],
            modality=Modality(attrs["modality"]),
            channels=_channels(table),
            clock=Clock(**attrs["clock"]),
            spikes=_spikes(group) if "spikes" in group else None,
            events=_events(group) if "events" in group else None,
            targets=_series(group, "targets", like.time_s),
            noise=_series(group, "noise", like.time_s),
            extra_signals=_extra_signals(group, like) if extra else {},
            stimulus=_stimulus(group, like.time_s) if extra and "stimulus" in group else None,
            scalars=attrs["scalars"],
            quality=attrs["quality"],
            steps=tuple(Step(**step) for step in attrs["pipeline"]["steps"]),
        ),
        attrs=attrs,
        stored=stored,
        scale=_values(table, "scale"),
        offset=_values(table, "offset"),
        valid=_values(group, "valid"),
        sampling_rate_hz=rate,
        start_s=start,
        units=units,
    )


def _group(parent: zarr.Group, name: str) -> zarr.Group:
    child = parent[name]
    if not isinstance(child, zarr.Group):
        raise TypeError(f"{name} is no group")
    return child


def _attributes(group: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    # Attributes are JSON of no declared type; `Any` here spares a cast at each use.
    return dict(group.attrs)


def _values(group: zarr.Group, name: str) -> npt.NDArray[Any]:
    return np.asarray(group[name][...])  # type: ignore[index]  # zarr types members as Array | Group


def _channels(table: zarr.Group) -> Channels:
    attrs = _attributes(table)
    quality = _group(table, "quality") if "quality" in table else None
    return Channels(
        id=tuple(attrs["id"]),
        position=_values(table, "position"),
        position_unit=attrs["position_unit"],
        space=attrs["space"],
        region=tuple(attrs["region"]),
        quality={name: _values(quality, name) for name in sorted(quality.array_keys())} if quality else {},
    )


def _spikes(group: zarr.Group) -> Spikes:
    spikes = _group(group, "spikes")
    return Spikes(
        time_s=_values(spikes, "time_s"),
        channel=_values(spikes, "channel").astype(np.int64),
        **_attributes(spikes),
    )


def _events(group: zarr.Group) -> Events:
    events = _group(group, "events")
    attrs = _attributes(events)
    names = attrs.get("number_columns", ())
    numbers = _values(events, "numbers") if names else None
    columns: dict[str, EventColumn] = {name: tuple(texts) for name, texts in attrs.get("texts", {}).items()}
    if numbers is not None:
        columns |= {name: numbers[:, i] for i, name in enumerate(names)}
    return Events(
        onset_s=_values(events, "onset_s"),
        duration_s=_values(events, "duration_s"),
        label=tuple(attrs["label"]),
        columns=columns,
    )


def _series(group: zarr.Group, kind: str, time_s: npt.NDArray[np.float64]) -> dict[str, Target]:
    found: dict[str, Target] = {}
    members = _group(group, kind) if kind in group else None
    for name, array in sorted(members.arrays()) if members else ():
        attrs = _attributes(array)
        found[name] = Target(
            values=np.asarray(array[...]), unit=attrs["unit"], columns=tuple(attrs["columns"]), time_s=time_s
        )
    return found


def _stimulus(group: zarr.Group, time_s: npt.NDArray[np.float64]) -> Stimulus:
    stimulus = _group(group, "stimulus")
    return Stimulus(frames=_values(stimulus, "frames"), shown=_values(stimulus, "shown"), time_s=time_s)


def _extra_signals(group: zarr.Group, like: Signal) -> dict[str, Signal]:
    found: dict[str, Signal] = {}
    members = _group(group, "extra") if "extra" in group else None
    for name, extra in sorted(members.groups()) if members else ():
        values = _values(extra, "signal") * _values(extra, "scale") + _values(extra, "offset")
        found[name] = replace(like, values=values.astype(np.float32))
    return found
