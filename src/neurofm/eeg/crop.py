"""Cropping to stretches between events; what lies between two stretches keeps its place in time, masked."""

from __future__ import annotations

import mne
import numpy as np
from pydantic import Field

from neurofm.eeg.raws import with_values
from neurofm.eeg.state import State
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

VERSION = "1"


class Crop(Settings):
    """Which stretches of a recording are wanted."""

    starts: tuple[str, ...] = Field(min_length=1)
    """A stretch begins at an event of one of these labels."""
    ends: tuple[str, ...] = ()
    """It ends at the next event of one of these, or else with the recording."""


def step(state: State, *, settings: Crop) -> State:
    """Cut off what lies before the first and after the last wanted stretch, and mask what lies between them.

    A file of one task may hold others' events too (HBN-EEG release 1: 14 of 136 files of rest), so the stretch is
    found by its labels. An event that begins a stretch while one is open does nothing.

    Parameters
    ----------
    state
        With the events as annotations of its raw object.
    settings
        Labels.

    Returns
    -------
    State
        Quality ``kept_spans_s`` ("12.000-52.000 60.000-100.000", seconds after the reader's first sample),
        ``kept_s`` and ``cropped_s``.

    Raises
    ------
    Unreadable
        If no event begins a stretch.
    """
    fs = float(state.raw.info["sfreq"])
    samples = len(state.raw.times)
    spans = stretches(state.raw.annotations, settings=settings, until_s=samples / fs)
    edges = [(max(0, round(first * fs)), min(samples, round(last * fs))) for first, last in spans]
    edges = [(first, last) for first, last in edges if first < last]
    if not edges:
        have = ", ".join(sorted(set(state.raw.annotations.description))) or "none"
        raise Unreadable(f"no event {' or '.join(map(repr, settings.starts))} to crop at; its events: {have}")
    begin, end = edges[0][0], edges[-1][1]
    outside = np.ones(samples, dtype=np.bool_)
    for first, last in edges:
        outside[first:last] = False
    kept = int((~outside).sum())
    told = [(state.start_s + first / fs, state.start_s + last / fs) for first, last in edges]
    return state.after(
        Step(
            name="crop",
            version=VERSION,
            params={"starts": ", ".join(settings.starts), "ends": ", ".join(settings.ends)},
        ),
        raw=with_values(state.raw, state.raw.get_data(start=begin, stop=end), cut_s=begin / fs),
        masked=(state.masked | outside)[begin:end],
        start_s=state.start_s + begin / fs,
        quality={
            "kept_spans_s": " ".join(f"{first:.3f}-{last:.3f}" for first, last in told),
            "kept_s": kept / fs,
            "cropped_s": (samples - kept) / fs,
        },
    )


def stretches(events: mne.Annotations, *, settings: Crop, until_s: float) -> list[tuple[float, float]]:
    """Return begin and end of every wanted stretch, in seconds, in order of time.

    Parameters
    ----------
    events
        Onset in s, and label, of each event.
    settings
        Labels.
    until_s
        Where a stretch ends that no event ends.
    """
    found: list[tuple[float, float]] = []
    begun: float | None = None
    for onset, label in sorted(zip(events.onset, events.description, strict=True)):
        if begun is None and label in settings.starts:
            begun = float(onset)
        elif begun is not None and label in settings.ends:
            found.append((begun, float(onset)))
            # One label may end a stretch and begin the next.
            begun = float(onset) if label in settings.starts else None
    return found if begun is None else [*found, (begun, until_s)]
