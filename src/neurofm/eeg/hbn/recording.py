"""One recording of HBN-EEG: cropped to its own task, with targets, events, and the reason to leave it out, if any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pydantic import Field

from neurofm.eeg.hbn.cropping import crop, end_s
from neurofm.eeg.hbn.events import BLOCK_STARTS, CONTRAST, OF_TASK, REST, foreign_labels
from neurofm.eeg.hbn.exclusions import ExclusionList, excluded_reason
from neurofm.eeg.hbn.participants import Availability, participant
from neurofm.eeg.hbn.rest import SETTLE_S, eyes_blocks, eyes_target, rest_span
from neurofm.eeg.hbn.trials import RESPONSE_LIMIT_S, own_trials, response_targets, response_windows, trial_table
from neurofm.recording import Events, Recording, Signal, Step, Target, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"


class HbnSettings(Settings):
    """What is made of a recording of HBN-EEG."""

    accept: tuple[Availability, ...] = (Availability.AVAILABLE,)
    """Words of the release on a task's run that are good enough."""
    exclusion_lists: tuple[ExclusionList, ...] = ("challenge-2025",)
    settle_s: float = Field(default=SETTLE_S, ge=0)
    """Left out after a prompt to open or close the eyes, seconds."""
    response_limit_s: float = Field(default=RESPONSE_LIMIT_S, gt=0)
    """A press answers a target up to this long after it, seconds."""


@dataclass(frozen=True, kw_only=True)
class _Described:
    """What the events of a task say."""

    span: tuple[float, float]
    events: Events
    targets: Mapping[str, Target]
    quality: Mapping[str, JsonScalar]


def describe(recording: Recording, events: pd.DataFrame, *, settings: HbnSettings) -> Recording:
    """Crop a recording to its task and add what the release says of it.

    Parameters
    ----------
    recording
        As its reader gave it: `signal`, `task` and `run` of the file's name, and in `scalars` the columns of
        ``participants.tsv``.
    events
        The file's ``events.tsv``, as `neurofm.eeg.hbn.events.read_events` gives it.
    settings
        See `HbnSettings`.

    Returns
    -------
    Recording
        Rest: events ``eyes_open`` and ``eyes_closed``, target ``eyes_closed``. Contrast changes: events
        ``left_target`` and ``right_target`` that last until the press, targets ``response_time`` and
        ``response_correct``. Other tasks are not cropped and keep their events. All have the scalars of
        `neurofm.eeg.hbn.participants.SCALARS`, None for what is not known; quality ``other_tasks_events``, the labels
        that do not belong, and ``excluded_reason`` where it is to be left out.

    Raises
    ------
    Unreadable
        If nothing in the file is of its task.
    """
    if recording.signal is None:
        raise Unreadable(f"{recording.clock.id}: no signal")
    row = participant(recording.scalars)
    reason = excluded_reason(
        recording.subject,
        row,
        task=recording.task,
        run=recording.run,
        lists=settings.exclusion_lists,
        accept=settings.accept,
    )
    quality: dict[str, JsonScalar] = {"excluded_reason": reason} if reason else {}
    if recording.task in OF_TASK:
        quality["other_tasks_events"] = ", ".join(foreign_labels(events, task=recording.task))
    known = replace(recording, scalars={**recording.scalars, **row.scalars()})
    make = {REST: _rest, CONTRAST: _contrast}.get(recording.task)
    if make is None:
        return replace(known, quality={**recording.quality, **quality})
    described = make(recording, recording.signal, events, settings)
    cropped = crop(recording.signal, *described.span, name=recording.clock.id)
    span: dict[str, JsonScalar] = {"start_s": cropped.start_s, "stop_s": end_s(cropped)}
    return replace(
        known,
        signal=cropped,
        events=described.events,
        targets={**recording.targets, **described.targets},
        quality={**recording.quality, **quality, **described.quality},
        steps=(*recording.steps, Step(name="hbn_task", version=VERSION, params={**span, "task": recording.task})),
    )


def _rest(recording: Recording, signal: Signal, events: pd.DataFrame, settings: HbnSettings) -> _Described:
    """Eyes open and closed."""
    span = rest_span(events)
    if span is None:
        raise Unreadable(
            f"{recording.clock.id}: no `resting_start` among its events: nothing in it is known to be rest"
        )
    blocks = eyes_blocks(events, stop_s=end_s(signal))
    seconds = {
        f"{label}_s": float(sum(blocks.duration_s[i] for i, name in enumerate(blocks.label) if name == label))
        for label in ("eyes_open", "eyes_closed")
    }
    target = eyes_target(blocks, time_s=signal.time_s, settle_s=settings.settle_s)
    return _Described(span=span, events=blocks, targets={"eyes_closed": target}, quality=seconds)


def _contrast(recording: Recording, signal: Signal, events: pd.DataFrame, settings: HbnSettings) -> _Described:
    """Targets and presses of the run's own block."""
    label = next((name for name, block in BLOCK_STARTS.items() if str(block) == recording.run.lstrip("0")), "")
    starts = events.loc[events["value"] == label, "onset"]
    if starts.empty:
        raise Unreadable(f"{recording.clock.id}: no start of block {recording.run or '?'} among its events")
    start = float(starts.iloc[0])
    others = (events["onset"] > start) & ~events["value"].isin(OF_TASK[CONTRAST])
    span = (start, float(events.loc[others, "onset"].min()) if others.any() else np.inf)
    trials = own_trials(trial_table(events, limit_s=settings.response_limit_s), run=recording.run)
    # Pressed or not, a target's rise and fall are over after 2.4 s.
    lasts = trials["response_time_s"].fillna(2.4).to_numpy(dtype=np.float64)
    windows = response_windows(trials, stop_s=min(span[1], end_s(signal)))
    answered = trials["response_time_s"].notna()
    return _Described(
        span=span,
        events=Events(
            onset_s=trials["target_s"].to_numpy(dtype=np.float64),
            duration_s=lasts,
            label=tuple(f"{side}_target" for side in trials["side"]),
        ),
        targets=response_targets(windows, time_s=signal.time_s),
        quality={
            "trials": len(trials),
            "trials_answered": int(answered.sum()),
            "response_time_mean_s": float(trials["response_time_s"].mean()) if answered.any() else None,
        },
    )
