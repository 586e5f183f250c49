"""Attributes: what is known of a recording as a whole, such as its subject's age, and who shares a value of it.

They are in the shard already: its scalars hold the columns of ``participants.tsv`` that a reader found for the
recording's subject, whatever they are called.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.recording.recording import JsonScalar
from neurofm.shards import read_shard
from neurofm.windows import RecordingView

Attributes = Mapping[str, JsonScalar]
LEAST_SUBJECTS = 5
"""Of a group: smaller ones are left out, since a fold might not hold two of them."""
_NUMBERS = (int, float)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """All recordings of one subject that share a value: one person and an age, or one person at rest."""

    subject: str
    views: tuple[RecordingView, ...]
    """Of one channel set."""
    value: float
    """The number itself, or the index of its group."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What is predicted, and of whom."""

    units: tuple[Unit, ...]
    groups: tuple[str, ...]
    """Names, sorted; empty where a number is predicted."""


def read_attributes(views: Sequence[RecordingView], *, shards: Path) -> dict[str, Attributes]:
    """Read what is known of each recording, by its name.

    Parameters
    ----------
    views
        Recordings.
    shards
        ``data/shards``.

    Returns
    -------
    by ``<dataset>/<recording>`` the columns of the subject's row, and ``session``, ``run`` and ``task`` where no column
    is called so.
    """
    found: dict[str, Attributes] = {}
    for view in views:
        recording = read_shard(shards / view.dataset / f"{view.recording}.zarr.zip", signal=False).recording
        own = {"session": recording.session, "run": recording.run, "task": recording.task}
        found[view.name] = {**own, **recording.scalars}
    return found


def labelled(views: Sequence[RecordingView], attributes: Mapping[str, Attributes], *, trait: str) -> Labelled:
    """Find who has which value of an attribute.

    Numbers are predicted as numbers. Texts, truth values, and numbers of which there are only two (as 0 and 1 for a
    diagnosis) are groups; recordings without a value, and groups of fewer than `LEAST_SUBJECTS`, take no part.

    Parameters
    ----------
    views
        Recordings of one dataset and one channel set.
    attributes
        Of each of them, by name.
    trait
        Name of the attribute.

    Returns
    -------
    Units sorted by subject and value; none where there are fewer than two groups, or too few numbers.
    """
    by_unit: defaultdict[tuple[str, JsonScalar], list[RecordingView]] = defaultdict(list)
    for view in views:
        value = attributes[view.name].get(trait)
        if value is not None and value != "":
            by_unit[view.subject, value].append(view)
    values = {value for _, value in by_unit}
    numeric = all(isinstance(value, _NUMBERS) and not isinstance(value, bool) for value in values) and len(values) > 2
    if numeric:
        units = [_unit(subject, float(value), own) for (subject, value), own in by_unit.items()]  # type: ignore[arg-type]
        if len({unit.subject for unit in units}) < 2 * LEAST_SUBJECTS:
            units = []
        return Labelled(units=_sorted(units), groups=())
    subjects = Counter(str(value) for _, value in by_unit)
    groups = tuple(sorted(name for name, count in subjects.items() if count >= LEAST_SUBJECTS))
    if len(groups) < 2:
        return Labelled(units=(), groups=())
    units = [
        _unit(subject, float(groups.index(str(value))), own)
        for (subject, value), own in by_unit.items()
        if str(value) in groups
    ]
    return Labelled(units=_sorted(units), groups=groups)


def values_of(units: Sequence[Unit]) -> npt.NDArray[np.float64]:
    """Return the value of each: [unit]."""
    return np.array([unit.value for unit in units], dtype=np.float64)


def _unit(subject: str, value: float, views: list[RecordingView]) -> Unit:
    return Unit(subject=subject, value=value, views=tuple(sorted(views, key=lambda view: view.name)))


def _sorted(units: list[Unit]) -> tuple[Unit, ...]:
    return tuple(sorted(units, key=lambda unit: (unit.subject, unit.value)))
