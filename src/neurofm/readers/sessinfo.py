"""``<session>_sessInfo.mat`` of CRCNS hc-11: sorted spikes, position on the track and epochs in one MATLAB 7.3 file."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening, unknown_positions
from neurofm.readers.shared.sorted_spikes import check_rising, check_same_length, sorted_spikes
from neurofm.readers.shared.states import StateSource, with_states
from neurofm.recording import Channels, Events, Recording, Spikes, Target, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("h5py", "numpy")

Floats = npt.NDArray[np.float64]

_ROOT = "sessInfo"
_LOCATIONS = {"OneDLocation": ("linear_position", ("x",)), "TwoDLocation": ("position", ("x", "y"))}
_EPOCHS = {
    "PREEpoch": "pre",
    "MazeEpoch": "maze",
    "POSTEpoch": "post",
    "Wake": "wake",
    "NREM": "nrem",
    "REM": "rem",
    "Drowsy": "drowsy",
    "Intermediate": "intermediate",
}
"""Names in the file and ours. Behavioural epochs hold sleep states, so they overlap."""
_TOLERANCE_S = 60.0
"""Epochs were drawn by people: a minute before the first or after the last is no damage."""


class Options(Settings):
    """What the file does not say."""

    offset_s: float = 0.0
    """Added to the times of position, seconds: for a video that began late on the spikes' clock."""
    position_unit: str = "m"
    region: str = "CA1"
    """All of hc-11 was recorded there."""
    states: dict[str, StateSource] = Field(default_factory=dict)
    """What can be told apart, as awake (1) from asleep (0): targets made of epochs by their labels."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read spikes, position and epochs of one session.

    The file's ``Spikes/SpikeTimes`` and ``SpikeIDs`` are pairs in no promised order, so they are sorted. Units are
    those of ``PyrIDs`` and ``IntIDs`` and any that have spikes; ``pyramidal`` is 1, 0 or NaN by these lists.

    Parameters
    ----------
    source
        ``main`` is the ``.mat`` file.
    options
        Clock of the position.

    Returns
    -------
    Recording
        Times in seconds as in the file. Targets ``position`` [time, 2] and ``linear_position`` [time, 1], NaN where
        the animal was not tracked; epochs as events. The observation is that of the epochs. Without position the
        recording is kept, and its quality ``has_behaviour`` is False.

    Raises
    ------
    Unreadable
        If the file is damaged, times and units differ in length, or spikes lie outside the epochs.
    """
    path = source.path()
    with opening(path), h5py.File(path) as file:
        if _ROOT not in file:
            raise Unreadable(f"{path.name}: it has no variable {_ROOT}")
        info = file[_ROOT]
        spikes = {name: _numbers(info, f"Spikes/{name}") for name in ("SpikeTimes", "SpikeIDs", "PyrIDs", "IntIDs")}
        place = {name: _numbers(info, f"Position/{name}") for name in (*_LOCATIONS, "TimeStamps")}
        epochs = {name: _numbers(info, f"Epochs/{name}") for name in _EPOCHS}
    events = _events(epochs, name=path.name)
    channels, found = _units(spikes, events, name=path.name, region=options.region)
    targets = _targets(place, name=path.name, offset_s=options.offset_s, unit=options.position_unit)
    recording = build(
        source,
        channels=channels,
        spikes=found,
        events=events,
        targets=with_states(targets, options.states, intervals=lambda _: events, name=path.name),
        quality={"has_behaviour": bool(targets)},
    )
    return replace(recording, task=recording.task or "maze")


def _numbers(group: h5py.Group, path: str) -> Floats | None:
    """Return an array as MATLAB has it (HDF5 holds its axes reversed); None where it is not there or empty."""
    item = group.get(path)
    if not isinstance(item, h5py.Dataset) or "MATLAB_empty" in item.attrs:
        return None
    return np.asarray(item[()], dtype=np.float64).T


def _events(epochs: dict[str, Floats | None], *, name: str) -> Events | None:
    rows: list[tuple[float, float, str]] = []
    for theirs, ours in _EPOCHS.items():
        if (spans := epochs[theirs]) is None:
            continue
        if spans.ndim != 2 or spans.shape[1] != 2:
            raise Unreadable(f"{name}: Epochs/{theirs} is {spans.shape}, expected a start and a stop per row")
        if len(backwards := np.flatnonzero(~(spans[:, 1] >= spans[:, 0]))):
            start_s, stop_s = spans[backwards[0]]
            raise Unreadable(f"{name}: Epochs/{theirs} ends at {stop_s:g} s, before it begins ({start_s:g} s)")
        rows += [(float(start), float(stop - start), ours) for start, stop in spans]
    if not rows:
        return None
    rows.sort()
    onset_s, duration_s, label = zip(*rows, strict=True)
    return Events(onset_s=np.array(onset_s), duration_s=np.array(duration_s), label=label)


def _units(
    spikes: dict[str, Floats | None], events: Events | None, *, name: str, region: str
) -> tuple[Channels, Spikes]:
    times, numbers = spikes["SpikeTimes"], spikes["SpikeIDs"]
    if times is None or numbers is None:
        raise Unreadable(f"{name}: no Spikes/SpikeTimes with Spikes/SpikeIDs")
    time_s, unit = times.ravel(), numbers.ravel()
    check_same_length(len(time_s), len(unit), name=name, unit_file="Spikes/SpikeIDs")
    if not (np.isfinite(time_s).all() and np.isfinite(unit).all()):
        raise Unreadable(f"{name}: spike times or unit numbers that are no numbers")
    listed = (spikes[kind] for kind in ("PyrIDs", "IntIDs"))
    pyramidal, inter = (np.empty(0) if ids is None else ids.ravel() for ids in listed)
    known = np.unique(np.concatenate([unit, pyramidal, inter]))
    kind = np.full(len(known), np.nan)
    kind[np.isin(known, inter)] = 0.0
    kind[np.isin(known, pyramidal)] = 1.0
    if events is None:
        start_s, stop_s = 0.0, float(time_s.max(initial=0.0))
    else:
        start_s, stop_s = float(events.onset_s.min()), float((events.onset_s + events.duration_s).max())
    channels = Channels(
        id=tuple(f"unit-{number:g}" for number in known),
        position=unknown_positions(len(known)),
        position_unit="",
        region=(region,) * len(known),
        quality={"pyramidal": kind},
    )
    found = sorted_spikes(
        time_s,
        np.searchsorted(known, unit).astype(np.int64),
        start_s=start_s,
        stop_s=stop_s,
        name=name,
        tolerance_s=_TOLERANCE_S,
    )
    return channels, found


def _targets(place: dict[str, Floats | None], *, name: str, offset_s: float, unit: str) -> dict[str, Target]:
    times = place["TimeStamps"]
    if times is None:
        return {}
    time_s = times.ravel()
    check_rising(time_s, name=name, what="timestamps of the position")
    targets = {}
    for theirs, (ours, columns) in _LOCATIONS.items():
        if (values := place[theirs]) is None:
            continue
        values = values.reshape(-1, 1) if 1 in values.shape else values
        if values.shape != (len(time_s), len(columns)):
            raise Unreadable(f"{name}: Position/{theirs} is {values.shape} for {len(time_s)} timestamps")
        targets[ours] = Target(values=values, unit=unit, columns=columns, time_s=time_s + offset_s)
    return targets
