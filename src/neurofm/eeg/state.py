"""What cleaning hands on from step to step: MNE's own object, and what has been found out about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import mne
import numpy as np
import numpy.typing as npt

from neurofm.recording import Recording, Step, Unreadable
from neurofm.recording.recording import JsonScalar

_TO_V = {"V": 1.0, "mV": 1e-3, "uV": 1e-6}


@dataclass(frozen=True, kw_only=True)
class State:
    """One recording between two steps. No step changes the `raw` that it was given."""

    raw: mne.io.BaseRaw
    """EEG channels only, in V, with positions where they are known, and the reader's events as annotations. Its
    ``info["bads"]`` holds the channels that are bad now: an interpolated one is in `bad` alone."""
    bad: frozenset[str] = frozenset()
    """Channels found bad so far, those that the file calls bad among them; interpolated ones stay here."""
    silent: frozenset[str] = frozenset()
    """Channels that are zero by construction: the reference electrode (Cz of the HydroCel net). They are not bad."""
    masked: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """[time] of `raw`: samples that are not fit for use. They stay in time."""
    start_s: float = 0.0
    """Where `raw` begins, seconds after the first sample that the reader gave."""
    quality: Mapping[str, JsonScalar] = field(default_factory=dict)
    """What the steps measured, a number or a word by name."""
    steps: tuple[Step, ...] = ()
    """What was done."""

    def after(
        self,
        step: Step,
        *,
        raw: mne.io.BaseRaw | None = None,
        bad: frozenset[str] | None = None,
        silent: frozenset[str] | None = None,
        masked: npt.NDArray[np.bool_] | None = None,
        start_s: float | None = None,
        quality: Mapping[str, JsonScalar] | None = None,
    ) -> Self:
        """Return the state after a step, with what it changed; quality is added to what there is."""
        return replace(
            self,
            raw=self.raw if raw is None else raw,
            bad=self.bad if bad is None else bad,
            silent=self.silent if silent is None else silent,
            masked=self.masked if masked is None else masked,
            start_s=self.start_s if start_s is None else start_s,
            quality={**self.quality, **(quality or {})},
            steps=(*self.steps, step),
        )


def as_state(recording: Recording) -> State:
    """Take a recording as its reader gave it.

    Parameters
    ----------
    recording
        `signal` [time, channel] in V, mV or uV; positions in m in head coordinates or NaN; channel quality
        ``marked_bad``; scalar ``line_freq_hz``.

    Raises
    ------
    Unreadable
        If there is no signal, or its unit is no voltage.
    """
    signal = recording.signal
    if signal is None or signal.units not in _TO_V:
        given = "no signal" if signal is None else f"EEG in {signal.units!r}"
        raise Unreadable(f"{recording.clock.id}: {given}; expected a signal in {', '.join(_TO_V)}")
    names = list(recording.channels.id)
    info = mne.create_info(names, signal.sampling_rate_hz, "eeg", verbose="error")
    # Each channel in one piece of memory: every filter runs along time.
    values = np.array(signal.values.T, dtype=np.float64, order="C")
    values *= _TO_V[signal.units]
    missing = ~np.isfinite(values)
    values[missing] = 0.0
    raw = mne.io.RawArray(values, info, verbose="error")
    if isinstance(line_hz := recording.scalars.get("line_freq_hz"), int | float):
        raw.info["line_freq"] = float(line_hz)
    position = recording.channels.position
    known = {name: position[i] for i, name in enumerate(names) if np.isfinite(position[i]).all()}
    if known and recording.channels.position_unit == "m":
        raw.set_montage(mne.channels.make_dig_montage(known, coord_frame="head"), on_missing="ignore", verbose="error")
    if recording.events is not None:
        events = recording.events
        raw.set_annotations(
            mne.Annotations(events.onset_s - signal.start_s, events.duration_s, list(events.label)), verbose="error"
        )
    lost = missing.all(axis=0)
    marked = recording.channels.quality.get("marked_bad", np.zeros(len(names))) > 0
    # Samples that all channels miss speak against none of them.
    marked |= missing[:, ~lost].any(axis=1)
    silent = frozenset(name for i, name in enumerate(names) if not marked[i] and not values[i].any())
    raw.info["bads"] = [name for name, is_bad in zip(names, marked, strict=True) if is_bad]
    return State(
        raw=raw,
        bad=frozenset(raw.info["bads"]),
        silent=silent,
        masked=np.asarray(lost, dtype=np.bool_),
    )
