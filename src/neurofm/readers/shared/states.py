"""States over time (awake or asleep, task or rest) out of named intervals: targets of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.recording import Events, Target, Unreadable
from neurofm.settings import Settings

_STEP_S = 0.1
"""Seconds from point to point of a state: less than any gap that targets are interpolated across."""
_LONGEST_S = 1e7
"""Seconds, four months: what begins or ends beyond is no place in a recording."""
_SHOWN = 20
"""Labels that an error lists."""


class StateSource(Settings):
    """Which intervals are one state and which the other; of what is in neither it is not known."""

    ones: tuple[str, ...] = Field(min_length=1)
    """Labels of the intervals that are 1: ``[wake]``."""
    zeros: tuple[str, ...] = Field(min_length=1)
    """Labels of those that are 0: ``[nrem, rem]``."""
    optional: bool = False
    """A file without some of these labels is read all the same, and without any of them has no such target."""

    @model_validator(mode="after")
    def _two_states(self) -> Self:
        if both := sorted({*self.ones} & {*self.zeros}):
            raise ValueError(f"{both[0]!r} is among `ones` and among `zeros`")
        return self


def with_states(
    targets: Mapping[str, Target],
    states: Mapping[str, StateSource],
    *,
    intervals: Callable[[str], Events | None],
    name: str,
) -> dict[str, Target]:
    """Add the targets of all `states` to a recording's other targets.

    Parameters
    ----------
    targets
        The others.
    states
        By name of the target.
    intervals
        State to the intervals that it is made of, labelled; None where the file has none.
    name
        The file's, for errors.

    Raises
    ------
    Unreadable
        If no interval has one of the labels, or a state is called as another target.
    """
    all_of_them = dict(targets)
    for state, source in states.items():
        if state in targets:
            raise Unreadable(f"{name}: states: {state!r} is the name of another target. Mend: call the state otherwise")
        if (target := state_target(state, intervals(state), source, name=name)) is not None:
            all_of_them[state] = target
    return all_of_them


def state_target(state: str, intervals: Events | None, source: StateSource, *, name: str) -> Target | None:
    """Make one target out of intervals.

    Parameters
    ----------
    state
        What the target is called.
    intervals
        By whose labels it is decided; None where there are none.
    source
        Which labels are which state.
    name
        The file's, for errors.

    Returns
    -------
    Target
        [time, 1]: 1 and 0 inside of the intervals, from their begin up to but not at their end; NaN where intervals of
        both states overlap, and no points outside of all of them. None where `source` is optional and none of its
        labels is there.

    Raises
    ------
    Unreadable
        If a label is not there, or nothing that has one lasts.
    """
    labels = () if intervals is None else intervals.label
    lacking = [label for label in (*source.ones, *source.zeros) if label not in labels]
    if intervals is None or lacking:
        if not source.optional:
            there = sorted({*labels})
            shown = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
            raise Unreadable(
                f"{name}: states.{state}: no interval is called {lacking[0]!r}, only {shown or 'none at all'}. Mend: "
                "correct `ones` and `zeros`, or set `optional: true` where not every recording has them"
            )
        if intervals is None or len(lacking) == len(source.ones) + len(source.zeros):
            return None
    spans = np.stack([intervals.onset_s, intervals.onset_s + intervals.duration_s], axis=1)
    if not (np.abs(spans) < _LONGEST_S).all():
        raise Unreadable(
            f"{name}: states.{state}: an interval begins or ends at {spans.flat[np.abs(spans).argmax()]:g} s. Mend: "
            "give intervals their ends in seconds of the recording"
        )
    ones, zeros = (spans[[label in own for label in labels]] for own in (source.ones, source.zeros))
    points = [_points(start_s, stop_s) for start_s, stop_s in (*ones.tolist(), *zeros.tolist())]
    time_s = np.unique(np.concatenate(points))
    if not len(time_s):
        raise Unreadable(f"{name}: states.{state}: its intervals last no time. Mend: name intervals, not instants")
    is_one, is_zero = _inside(time_s, ones), _inside(time_s, zeros)
    values = np.where(is_one == is_zero, np.nan, is_one.astype(np.float64))[:, None]
    return Target(values=values, unit="", columns=(state,), time_s=time_s)


def _points(start_s: float, stop_s: float) -> npt.NDArray[np.float64]:
    """Points inside of an interval, the last just before its end, where the next may begin."""
    if not stop_s > start_s:
        return np.zeros(0)
    return np.append(np.arange(start_s, stop_s, _STEP_S), np.nextafter(stop_s, start_s))


def _inside(time_s: npt.NDArray[np.float64], spans: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(time_s), dtype=np.bool_)
    for first, end in np.searchsorted(time_s, spans).tolist():
        inside[first:end] = True
    return inside
