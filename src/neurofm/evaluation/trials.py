"""Trials of a recording: spikes per unit and patch after each began, and the columns that say what happened in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.settings import TrialClass
from neurofm.evaluation.trial_decoder import UNKNOWN, LabelledTrials
from neurofm.evaluation.trial_statistics import Floats
from neurofm.recording import EventColumn
from neurofm.shards import Shard
from neurofm.splits import FoldRecording, Segment

PATCH_S = 0.1
_MOST_PATCHES = 10
"""Of a trial, from its beginning on."""
_SHORT = 0.1
"""Share of trials that may be too short to have as many patches as are taken."""
_MOST_CLASSES = 10
_NEITHER = "neither"


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of one recording, in order."""

    counts: Floats
    """[trial, unit, patch] spikes."""
    span: npt.NDArray[np.int64]
    """[trial, 2] first sample, and the one after the last."""
    region: Sequence[str]
    """[unit] empty where it is not known."""
    columns: Mapping[str, EventColumn]

    @property
    def patches(self) -> int:
        """How many a trial has."""
        return int(self.counts.shape[2])

    def shortened(self, patches: int) -> Trials:
        """Return the first patches of each."""
        return replace(self, counts=self.counts[:, :, :patches])

    def within(self, segments: Sequence[Segment]) -> npt.NDArray[np.bool_]:
        """[trial] whether all of it lies in one of the segments."""
        inside = np.zeros(len(self.span), dtype=np.bool_)
        for one in segments:
            inside |= (self.span[:, 0] >= one.start) & (self.span[:, 1] <= one.stop)
        return inside

    def labelled(self, wanted: TrialClass, classes: Sequence[str]) -> LabelledTrials:
        """Say of each trial which class it is of."""
        number = {name: index for index, name in enumerate(classes)}
        label = [number.get(name, UNKNOWN) for name in names_of(self.columns, wanted)]
        return LabelledTrials(counts=self.counts, label=np.array(label, dtype=np.int64), region=self.region)


def read_trials(shard: Shard) -> Trials | None:
    """Count the spikes of each trial of a recording, in patches of `PATCH_S`.

    A trial is an event with a duration; as many patches are counted as nine trials of ten have. Trials that are
    shorter, or have invalid samples, take no part.

    Returns
    -------
    None where there is no trial as long as a patch.
    """
    events, width = shard.recording.events, round(PATCH_S * shard.sampling_rate_hz)
    if events is None or width < 1:
        return None
    edges = [events.onset_s, events.onset_s + events.duration_s]
    first, stop = (np.searchsorted(shard.time_s, edge - 1e-6) for edge in edges)
    # An end that is not known sorts after all samples, and would make one trial of the rest of the recording.
    long = np.flatnonzero((stop - first >= width) & np.isfinite(edges[1]))
    if not len(long):
        return None
    patches = min(_MOST_PATCHES, int(np.quantile((stop - first)[long], _SHORT, method="lower")) // width)
    kept = np.array(
        [
            row
            for row in long
            if stop[row] - first[row] >= patches * width and shard.valid[first[row] : stop[row]].all()
        ],
        dtype=np.int64,
    )
    if not len(kept):
        return None
    usable = shard.usable
    sample = first[kept, None] + np.arange(patches * width)
    # Trial by trial: in floats the whole recording is four times what is stored.
    summed = [
        (shard.stored[rows] * shard.scale + shard.offset)[:, usable].reshape(patches, width, -1).sum(axis=1).T
        for rows in sample
    ]
    region = shard.recording.channels.region or ("",) * len(usable)
    return Trials(
        counts=np.ascontiguousarray(summed, dtype=np.float32),
        span=np.stack([first[kept], stop[kept]], axis=1).astype(np.int64),
        region=[name for name, keep in zip(region, usable, strict=True) if keep],
        columns={
            name: tuple(column[row] for row in kept) if isinstance(column, tuple) else column[kept]
            for name, column in events.columns.items()
        },
    )


def has_columns(columns: Mapping[str, EventColumn], wanted: TrialClass) -> bool:
    """Whether a recording says what is asked."""
    return all(name in columns for name in wanted.columns)


def names_of(columns: Mapping[str, EventColumn], wanted: TrialClass) -> list[str]:
    """[trial] the class; empty where it is not known.

    Raises
    ------
    UserError
        If texts are to be compared as numbers.
    """
    first, *second = (columns[name] for name in wanted.columns)
    if not second:
        return [_name(value) for value in first]
    for column in wanted.columns:
        if isinstance(columns[column], tuple):
            raise UserError(
                f"params.yaml: evaluate.trial_classes: `larger_of` compares numbers, and {column!r} holds texts.",
                mend="name two columns of numbers, or one of texts by `column`",
            )
    larger, other = np.asarray(first, dtype=np.float64), np.asarray(second[0], dtype=np.float64)
    difference = larger - other
    is_known = np.isfinite(difference)
    name = np.where(difference > 0, wanted.columns[0], np.where(difference < 0, wanted.columns[1], _NEITHER))
    return [str(one) if known else "" for one, known in zip(name, is_known, strict=True)]


def classes_of(recordings: Sequence[Trials], wanted: TrialClass, *, name: str) -> list[str]:
    """Return the classes of trials that may be learned from, sorted.

    Raises
    ------
    UserError
        If there are too many for this to be a column of classes.
    """
    found = sorted({one for trials in recordings for one in names_of(trials.columns, wanted)} - {""})
    if len(found) > _MOST_CLASSES:
        raise UserError(
            f"params.yaml: evaluate.trial_classes.{name}: trials have {len(found)} values of {wanted.columns[0]!r}.",
            mend=f"name a column of at most {_MOST_CLASSES} values, or two numbers by `larger_of`",
        )
    return found


def roles_of(trials: Trials, roles: FoldRecording) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """[trial] whether it lies in the calibration, and whether it is scored."""
    return trials.within(roles.calibration), trials.within(roles.test)


def _name(value: float | str) -> str:
    if isinstance(value, str):
        return value
    # Adding 0 makes one class of -0 and 0.
    return f"{value + 0.0:g}" if np.isfinite(value) else ""
