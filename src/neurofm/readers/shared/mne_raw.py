"""What both EEG readers share: an MNE raw object becomes a recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mne
import numpy as np
import numpy.typing as npt

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, unknown_positions
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Channels, Events, Recording, Signal, Unreadable
from neurofm.recording.recording import JsonScalar


def eeg_recording(
    source: ReaderInput, raw: mne.io.BaseRaw, *, picks: str, event_labels: Mapping[str, str]
) -> Recording:
    """Take one kind of channel out of an MNE raw object.

    Parameters
    ----------
    source
        Where it comes from.
    raw
        The opened raw object; it need not be loaded.
    picks
        MNE channel type: ``eeg``.
    event_labels
        Names for stimulus codes (as text) or annotation descriptions; others keep their own.

    Returns
    -------
    Recording
        `signal` [time, channel] float64 in V from time 0 of the recording; positions in m in head
        coordinates; quality column ``marked_bad`` is 1 for channels that the file calls bad; scalar
        ``line_freq_hz`` where the file states it; events from stimulus channels and annotations.

    Raises
    ------
    Unreadable
        If there is no channel of that kind.
    """
    events = _events(raw, event_labels)
    name = source.path().name
    if picks not in raw.get_channel_types():
        raise Unreadable(f"{name}: no {picks!r} channel; it has {', '.join(sorted(set(raw.get_channel_types())))}")
    chosen = raw.copy().pick(picks, exclude=())
    position = _positions(chosen)
    known = bool(np.isfinite(position).any())
    channels = Channels(
        id=tuple(chosen.ch_names),
        position=position,
        position_unit="m" if known else "",
        space="head" if known else "unknown",
        quality={"marked_bad": np.array([name in raw.info["bads"] for name in chosen.ch_names], dtype=np.float64)},
    )
    values = np.ascontiguousarray(chosen.get_data().T)
    signal = Signal(values=values, sampling_rate_hz=float(raw.info["sfreq"]), units="V")
    scalars: dict[str, JsonScalar] = dict(participant_scalars(source))
    if raw.info["line_freq"]:
        scalars["line_freq_hz"] = float(raw.info["line_freq"])
    return build(source, channels=channels, signal=signal, events=events, scalars=scalars)


def _positions(raw: mne.io.BaseRaw) -> npt.NDArray[np.float64]:
    """Return [channel, 3] metres in head coordinates; NaN where the montage does not know the electrode."""
    position = unknown_positions(len(raw.ch_names))
    for i, channel in enumerate(raw.info["chs"]):
        place = np.asarray(channel["loc"][:3], dtype=np.float64)
        # MNE writes zeros (older files) or NaN for electrodes without a place.
        if channel["coord_frame"] == mne.io.constants.FIFF.FIFFV_COORD_HEAD and np.any(place != 0):
            position[i] = place
    return position


def _events(raw: mne.io.BaseRaw, labels: Mapping[str, str]) -> Events | None:
    rows: list[tuple[float, float, str]] = []
    if "stim" in raw.get_channel_types():
        # Sample numbers count from the start of the acquisition, of which the file may be a part.
        found: Any = mne.find_events(raw, shortest_event=1, verbose="error")
        rows += [((sample - raw.first_samp) / raw.info["sfreq"], 0.0, str(code)) for sample, _, code in found]
    onset_offset_s = raw.first_time if raw.annotations.orig_time is not None else 0.0
    for annotation in raw.annotations:
        onset_s = float(annotation["onset"]) - onset_offset_s
        rows.append((onset_s, float(annotation["duration"]), str(annotation["description"])))
    if not rows:
        return None
    rows.sort()
    onset, duration, names = zip(*rows, strict=True)
    return Events(
        onset_s=np.array(onset, dtype=np.float64),
        duration_s=np.array(duration, dtype=np.float64),
        label=tuple(labels.get(name, name) for name in names),
    )
