"""Recording: what was measured from one subject in one session and run with one modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
JsonScalar = str | int | float | bool | None
EventColumn = npt.NDArray[np.float64] | tuple[str, ...]
"""[event] numbers, NaN where nothing is said, or texts, empty where nothing is said."""

SPACE_UNKNOWN = "unknown"
SHARED_CLOCK = "at once:"
"""What ids of clocks begin with that the catalogue says several recordings share."""


class Modality(StrEnum):
    """What kind of measurement a recording holds. Each has its own preprocessing, tokenizer, head and loss."""

    SPIKES = "spikes"
    CALCIUM = "calcium"
    """Two-photon calcium imaging."""
    MINISCOPE = "miniscope"
    """One-photon head-mounted calcium imaging."""
    FMRI = "fmri"
    EEG = "eeg"
    MEG = "meg"
    """Magnetometers, gradiometers, or both."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The rows of the electrode, unit, ROI or parcel table: one per column of the signal."""

    id: tuple[str, ...]
    position: FloatArray
    """[channel, 3]; NaN where unknown."""
    position_unit: str
    """``mm``, ``m``, ``um``, ``px``; empty where no position is known."""
    space: str = SPACE_UNKNOWN
    """Coordinate space or atlas: ``head``, ``scanner``, ``imaging-plane``, ``MNI152NLin2009cAsym``."""
    region: tuple[str, ...] = ()
    """Ontology name per channel; empty strings where unknown."""
    quality: Mapping[str, FloatArray] = field(default_factory=dict)
    """Quality column per name, each [channel] float."""

    def __post_init__(self) -> None:
        n = len(self.id)
        if self.position.shape != (n, 3):
            msg = f"position is {self.position.shape}, expected {(n, 3)}"
            raise ValueError(msg)
        if self.region and len(self.region) != n:
            msg = f"{len(self.region)} regions for {n} channels"
            raise ValueError(msg)
        if len(set(self.id)) != n:
            msg = "channel ids are not unique"
            raise ValueError(msg)
        for name, column in self.quality.items():
            if column.shape != (n,):
                msg = f"quality column {name!r} is {column.shape}, expected {(n,)}"
                raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Regularly sampled values.

    ``values`` is [time, channel]: non-negative integers for spike counts, floats otherwise. Sample ``i``
    lies at ``start_s + i / sampling_rate_hz`` on the recording's clock (the left edge of the bin for counts).
    """

    values: FloatArray | npt.NDArray[np.uint8] | npt.NDArray[np.int64]
    sampling_rate_hz: float
    units: str
    start_s: float = 0.0

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            msg = f"signal has {self.values.ndim} dimensions, expected [time, channel]"
            raise ValueError(msg)
        if not self.sampling_rate_hz > 0:
            msg = f"sampling rate {self.sampling_rate_hz} Hz is not positive"
            raise ValueError(msg)

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        """[time] seconds on the recording's clock."""
        return self.start_s + np.arange(len(self.values)) / self.sampling_rate_hz


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """Exact spike times, sorted by time."""

    time_s: npt.NDArray[np.float64]
    """[spike] seconds on the recording's clock."""
    channel: npt.NDArray[np.int64]
    """[spike] row of the channel table."""
    start_s: float
    """When observation began."""
    stop_s: float
    """When observation ended."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """Things that happened: stimuli, responses, epochs."""

    onset_s: npt.NDArray[np.float64]
    duration_s: npt.NDArray[np.float64]
    """0 for instants."""
    label: tuple[str, ...]
    columns: Mapping[str, EventColumn] = field(default_factory=dict)
    """What else the table of events says: ``feedback``, ``event_code``, ``response_time``."""

    def __post_init__(self) -> None:
        n = len(self.label)
        if len(self.onset_s) != n or len(self.duration_s) != n:
            msg = f"{len(self.onset_s)} onsets and {len(self.duration_s)} durations for {n} events"
            raise ValueError(msg)
        for name, column in self.columns.items():
            if len(column) != n:
                msg = f"column {name!r} of the events has {len(column)} values, expected {n}"
                raise ValueError(msg)

    def where(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return the events whose flag of `kept` [event] is set, with all that belongs to them."""
        rows = np.flatnonzero(kept)
        return replace(
            self,
            onset_s=self.onset_s[rows],
            duration_s=self.duration_s[rows],
            label=tuple(self.label[row] for row in rows),
            columns={
                name: tuple(column[row] for row in rows) if isinstance(column, tuple) else column[rows]
                for name, column in self.columns.items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that can be decoded, sampled in time: head direction, position, running speed."""

    values: FloatArray
    """[time, k]; NaN where it was not measured."""
    unit: str
    columns: tuple[str, ...]
    """Name of each of the k columns."""
    time_s: npt.NDArray[np.float64]
    """[time] seconds on the recording's clock; after preprocessing the signal's own times."""


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """Images or a film that were shown, and which of them when."""

    frames: npt.NDArray[np.uint8]
    """[frame, height, width] grey levels, each different frame once however often it was shown."""
    shown: npt.NDArray[np.int32]
    """[time] row of `frames` that is seen from this time until the next; -1 where none is."""
    time_s: npt.NDArray[np.float64]
    """[time] seconds on the recording's clock: of every change as a reader finds it, the last to none; after
    preprocessing the signal's own times."""

    def __post_init__(self) -> None:
        if self.frames.ndim != 3 or self.frames.dtype != np.uint8:
            msg = f"frames are {self.frames.dtype} {self.frames.shape}, expected uint8 [frame, height, width]"
            raise ValueError(msg)
        if self.shown.dtype != np.int32 or self.shown.shape != self.time_s.shape:
            msg = f"{len(self.shown)} {self.shown.dtype} frames at {len(self.time_s)} times, expected int32 [time]"
            raise ValueError(msg)
        if len(self.shown) and not -1 <= self.shown.min() <= self.shown.max() < len(self.frames):
            msg = f"frames {self.shown.min()} to {self.shown.max()} were shown, of {len(self.frames)} (-1 is none)"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Confounds:
    """What is known of a run's noise, volume by volume: fMRIPrep's table and the file that describes its columns."""

    columns: tuple[str, ...]
    """Names as the table has them: ``trans_x``, ``white_matter``, ``cosine00``, ``framewise_displacement``."""
    values: npt.NDArray[np.float64]
    """[time, column]; NaN where the table has ``n/a``, as in the first row of every difference."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """The JSON file beside the table; needed for CompCor, whose components it ranks."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            msg = f"confounds are {self.values.shape}, expected [time, {len(self.columns)}]"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Recordings with one clock id are simultaneous."""

    id: str
    offset_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step that the data went through."""

    name: str
    version: str
    params: Mapping[str, JsonScalar]
    support_s: float = 0.0
    """How far apart two output samples must be to share no input sample (length of a filter, seconds)."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One subject x session x run x modality.

    A reader returns it as the file has it: `signal` at the native rate (None for spikes), targets on
    their own times. Preprocessing returns it with `signal` on a regular grid, `valid` of the same
    length, and every target resampled to the signal's times.
    """

    dataset: str
    subject: str
    session: str
    run: str
    task: str
    species: str
    modality: Modality
    channels: Channels
    clock: Clock
    signal: Signal | None = None
    valid: npt.NDArray[np.bool_] | None = None
    """[time]; False marks samples unfit for use (dropouts, scrubbed volumes). None means all are fit."""
    sample_time_s: npt.NDArray[np.float64] | None = None
    """[time] measured time of each sample of `signal`, seconds on the recording's clock, where a reader found
    timestamps that may jitter or skip; preprocessing puts the signal on a regular grid and leaves None."""
    stretches: npt.NDArray[np.float64] | None = None
    """[stretch, 2] begin and end, seconds on the recording's clock, where a reader laid trials on it: nothing was
    recorded between them, and preprocessing carries nothing across, marks what lies between not valid and leaves
    None. None is one unbroken recording."""
    extra_signals: Mapping[str, Signal] = field(default_factory=dict)
    """Signals beside `signal`, same shape: what preprocessing needs (``neuropil``), or leaves for the shard to keep
    (``uncleaned``: parcels before confounds were regressed out)."""
    confounds: Confounds | None = None
    """What preprocessing may regress out, one row per sample of `signal`; preprocessing leaves None."""
    noise: Mapping[str, Target] = field(default_factory=dict)
    """Measured noise along the run (``framewise_displacement`` in mm, ``std_dvars``), on the signal's own times. Kept
    for quality control; no target to be decoded."""
    stimulus: Stimulus | None = None
    """What was seen, where the reader was asked for it."""
    spikes: Spikes | None = None
    events: Events | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    scalars: Mapping[str, JsonScalar] = field(default_factory=dict)
    """One value per recording: age, sex, diagnosis."""
    quality: Mapping[str, JsonScalar] = field(default_factory=dict)
    """Measured quality, one number or word per name; ``excluded_reason`` (a text) keeps a recording out."""
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if self.signal is not None and self.signal.values.shape[1] != len(self.channels):
            msg = f"signal has {self.signal.values.shape[1]} channels, the table {len(self.channels)}"
            raise ValueError(msg)
        if self.valid is not None and (self.signal is None or self.valid.shape != (len(self.signal.values),)):
            msg = "valid must have one flag per sample of the signal"
            raise ValueError(msg)
        if self.sample_time_s is not None and (
            self.signal is None or self.sample_time_s.shape != (len(self.signal.values),)
        ):
            msg = "sample_time_s must have one time per sample of the signal"
            raise ValueError(msg)
        if self.stretches is not None and (
            self.stretches.shape[1:] != (2,) or np.any(np.diff(self.stretches.ravel()) < 0)
        ):
            msg = "stretches must be [stretch, 2], in order and apart"
            raise ValueError(msg)
        for name, extra in self.extra_signals.items():
            # A shard's own samples lie outside its recording.
            samples = len(extra.values) if self.signal is None else len(self.signal.values)
            if extra.values.shape != (samples, len(self.channels)):
                msg = f"extra signal {name!r} must have the shape of the signal"
                raise ValueError(msg)
