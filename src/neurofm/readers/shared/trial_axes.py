"""From however a laboratory nests its trials to one [time, unit] array per trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.recording import EventColumn, Unreadable

Floats = npt.NDArray[np.float64]

TRIAL, TIME = "trial", "time"
CHANNEL = ("unit", "column")
"""What the other axis may be: ``unit`` of a signal, ``column`` of a target."""


def by_trial(value: Any, axes: Sequence[str], *, what: str) -> list[Floats]:
    """Return [time, unit] per trial; one alone where `axes` names no trial.

    Parameters
    ----------
    value
        Lists (cells, R lists) of arrays, or one array. Lists stand for the first axes, in their order.
    axes
        ``trial``, ``time`` and ``unit`` or ``column``, as the file has them. Axes of length 1 that are not named are
        passed over, since MATLAB has no vectors.
    what
        Name of the file and variable, for errors.

    Raises
    ------
    Unreadable
        If the shape does not fit the axes.
    """
    if isinstance(value, list):
        return _from_list(value, axes, what=what)
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise Unreadable(f"{what}: holds {array.dtype} values, expected numbers")
    array = _without_ones(array.astype(np.float64), len(axes))
    if array.ndim != len(axes):
        raise Unreadable(f"{what}: {list(array.shape)} does not have the {len(axes)} axes {' '.join(axes) or '(none)'}")
    order = [axes.index(name) for name in (TRIAL, TIME, *CHANNEL) if name in axes]
    array = array.transpose(order)
    if not set(axes) & set(CHANNEL):
        array = array[..., None]
    return list(array) if TRIAL in axes else [array]


def _from_list(items: list[Any], axes: Sequence[str], *, what: str) -> list[Floats]:
    first, rest = (axes[0], axes[1:]) if axes else ("", ())
    if first == TRIAL:
        return [by_trial(item, rest, what=f"{what}, trial {i}")[0] for i, item in enumerate(items, start=1)]
    if first not in CHANNEL:
        raise Unreadable(f"{what}: a list of {len(items)} stands where the axes say {first or 'nothing more'}")
    each = [by_trial(item, rest, what=f"{what}, {first} {i}") for i, item in enumerate(items, start=1)]
    counts = sorted({len(trials) for trials in each})
    if len(counts) != 1:
        raise Unreadable(f"{what}: the {first}s have from {counts[0] if counts else 0} to {counts[-1:]} trials")
    joined = []
    for number, parts in enumerate(zip(*each, strict=True), start=1):
        lengths = sorted({len(part) for part in parts})
        if len(lengths) != 1:
            raise Unreadable(f"{what}, trial {number}: the {first}s have {lengths[0]} to {lengths[-1]} samples")
        joined.append(np.concatenate(parts, axis=1))
    return joined


def _without_ones(array: Floats, ndim: int) -> Floats:
    for axis in reversed(range(array.ndim)):
        if array.ndim > ndim and array.shape[axis] == 1:
            array = array.squeeze(axis)
    return array


def trim_padding(trials: Sequence[Floats]) -> list[Floats]:
    """Cut off the rows of NaN that fill shorter trials up to the longest, where a file keeps all in one array."""
    cut = []
    for trial in trials:
        there = np.flatnonzero(np.isfinite(trial).any(axis=1))
        cut.append(trial[: there[-1] + 1 if len(there) else 0])
    return cut


def per_trial(value: Any, *, n: int, what: str, of: str = "trials") -> EventColumn:
    """Return one number or text per trial, or per unit.

    A value that is kept sample by sample is taken where it does not change within a trial.

    Raises
    ------
    Unreadable
        If there are more or fewer values than trials, or a value changes within a trial.
    """
    items = value if isinstance(value, list) else list(_rows(np.asarray(value), n))
    if len(items) != n:
        raise Unreadable(f"{what}: {len(items)} values for {n} {of}")
    column = [_one(item, what=f"{what}, {of[:-1]} {i}") for i, item in enumerate(items, start=1)]
    if any(isinstance(item, str) for item in column):
        return tuple("" if item != item else str(item) for item in column)  # noqa: PLR0124  # NaN: nothing is said
    return np.array(column, dtype=np.float64)


def first_per_trial(value: Any, *, n: int, what: str) -> Floats:
    """Return the first number of each trial: when it began, of a list of its samples' times.

    Raises
    ------
    Unreadable
        If there is not one finite number for every trial.
    """
    items = value if isinstance(value, list) else list(_rows(np.asarray(value), n))
    firsts = [np.ravel(np.asarray(item))[:1] for item in items]
    try:
        column = np.concatenate(firsts).astype(np.float64) if firsts else np.zeros(0)
    except ValueError:
        raise Unreadable(f"{what}: texts where times are expected, seconds") from None
    if len(column) != n or not np.isfinite(column).all():
        raise Unreadable(f"{what}: {int(np.isfinite(column).sum())} times for {n} trials")
    return column


def _rows(array: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Return an array of one value per trial, whichever way it lies, or of one row of samples per trial."""
    if array.ndim == 2 and 1 in array.shape and n != 1:
        return array.ravel()
    return np.atleast_1d(array)


def _one(item: Any, *, what: str) -> float | str:
    values = np.ravel(np.asarray(item))
    if len(values) == 0:
        return float("nan")
    if values.dtype.kind in "US":
        return str(values[0]) if len(values) == 1 else " ".join(map(str, values))
    if values.dtype.kind not in "bifu":
        raise Unreadable(f"{what}: neither a number nor a text")
    if len(values) > 1 and not np.array_equal(
        values, np.full_like(values, values[0]), equal_nan=values.dtype.kind == "f"
    ):
        raise Unreadable(f"{what}: changes within the trial; what does belongs under `targets`")
    return float(values[0])
