"""What can be decoded, from however a laboratory keeps it beside its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.readers.shared.trial_axes import by_trial
from neurofm.readers.shared.trial_clock import TrialClock
from neurofm.recording import Target, Unreadable

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SampleGrid:
    """Where the signal's samples lie."""

    clock: TrialClock
    length: tuple[int, ...]
    """Samples per trial in the file, with the padding of shorter trials."""
    centred: bool
    """Whether a value belongs to the middle of its sample: bins of counts."""


def side_by_side(parts: Sequence[Sequence[Floats]], *, what: str) -> list[Floats]:
    """Join the trials of several variables as columns.

    Raises
    ------
    Unreadable
        If they differ in trials or samples.
    """
    if len({tuple(map(len, trials)) for trials in parts}) != 1:
        raise Unreadable(f"{what}: the variables in `paths` differ in their trials or samples")
    return [np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)]


def on_own_times(trials: Sequence[Floats], time: Any, *, what: str) -> tuple[Floats, Floats]:
    """Return values [time, column] and their times [time], seconds.

    Raises
    ------
    Unreadable
        If there is not one time per sample, or the times go back.
    """
    values = np.concatenate(trials)
    (column,) = by_trial(time, ["time"], what=what)
    time_s = column[:, 0]
    if len(time_s) != len(values):
        raise Unreadable(f"{what}: {len(time_s)} times for {len(values)} samples")
    back = int(np.sum(~(np.diff(time_s) >= 0)))
    if back:
        raise Unreadable(f"{what}: the times go back at {back} samples")
    # Cameras stamp a frame twice now and then.
    once = np.concatenate([[True], np.diff(time_s) > 0])
    return values[once], time_s[once]


def on_samples(trials: Sequence[Floats], grid: SampleGrid, *, what: str) -> tuple[Floats, Floats]:
    """Return values [time, column] of all trials and the times [time] of the signal's samples.

    Raises
    ------
    Unreadable
        If trials or samples are not as many as the signal's.
    """
    if len(trials) != len(grid.length):
        raise Unreadable(f"{what}: {len(trials)} trials, the signal has {len(grid.length)}")
    for number, (trial, expected) in enumerate(zip(trials, grid.length, strict=True), start=1):
        if len(trial) != expected:
            raise Unreadable(
                f"{what}, trial {number}: {len(trial)} samples, the signal has {expected} (`axes` may be in another "
                "order, or name its `time`)"
            )
    clock = grid.clock
    values = np.concatenate([trial[:length] for trial, length in zip(trials, clock.length, strict=True)])
    centre = clock.rows() + (0.5 if grid.centred else 0.0)
    time_s = np.asarray(clock.start_s + centre * clock.period_s, dtype=np.float64)
    return values, time_s


def angle_target(values: Floats, time_s: Floats, *, unit: str, what: str) -> Target:
    """Turn an angle into its cosine and sine.

    Raises
    ------
    Unreadable
        If it has more columns than one, or a unit that is no angle's.
    """
    if values.shape[1] != 1:
        raise Unreadable(f"{what}: an angle has one column, this has {values.shape[1]}")
    if unit not in {"degree", "radian"}:
        raise Unreadable(f"{what}: an angle is in `unit: degree` or `unit: radian`, not {unit!r}")
    angle = np.radians(values[:, 0]) if unit == "degree" else values[:, 0]
    return Target(
        values=np.column_stack([np.cos(angle), np.sin(angle)]), unit="", columns=("cos", "sin"), time_s=time_s
    )
