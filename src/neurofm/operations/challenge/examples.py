"""Examples: windows of two seconds of the recordings of a fold, each with what a challenge asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.challenge import RESPONSE_TIME
from neurofm.operations.challenge.contract import CHANNELS, RATE_HZ, SAMPLES
from neurofm.recording import Modality, Unreadable
from neurofm.shards import Shard, read_shard
from neurofm.splits import FoldRecording, Segment, Splits

Role = Literal["train", "validation", "test"]
MOST_WINDOWS = 60
"""Of a recording, where all of its windows have one answer: spread evenly."""
_TRIAL_SHORT = 1
"""Samples that rounding may cost the two seconds of a trial."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Windows of one recording in one role."""

    recording: str
    """``<dataset>/<recording>``."""
    subject: str
    role: Role
    windows: npt.NDArray[np.float32]
    """[window, channel, time] in the shard's unit, as the organisers hand them over."""
    truth: npt.NDArray[np.float64]
    """[window]"""
    start_s: npt.NDArray[np.float64]
    """[window] on the recording's clock."""


def challenge_recordings(splits: Splits, *, fold: int, shards: Path) -> list[FoldRecording]:
    """Find the recordings of a fold that look like those of the challenges: 129 channels at 100 Hz.

    Raises
    ------
    UserError
        For a fold that is not there, and a shard that cannot be read.
    """
    if not 0 <= fold < len(splits.folds):
        raise UserError(f"challenge: fold {fold} of {len(splits.folds)}.", mend="give another --fold")
    return [
        entry
        for entry in splits.folds[fold].recordings
        if entry.modality is Modality.EEG and _fits(read(entry, shards=shards, signal=False))
    ]


def examples(
    entries: Sequence[FoldRecording], target: str, *, shards: Path, roles: Sequence[Role]
) -> Iterator[Examples]:
    """Cut the windows of recordings, one recording at a time; those without any are passed over.

    Parameters
    ----------
    entries
        What `challenge_recordings` found.
    target
        ``response_time``: the two seconds of every answered trial. Anything else is a scalar of the recording: windows
        side by side, at most `MOST_WINDOWS`.
    shards
        ``data/shards``.
    roles
        A window lies in one segment of one of these. A recording that is split in time holds nobody out: its test
        segments are passed over, and so are its validation segments where the answer is the person's.

    Raises
    ------
    UserError
        For a shard that cannot be read.
    """
    for entry in entries:
        shard = read(entry, shards=shards)
        for role in roles:
            if not _may_serve(entry, role, target):
                continue
            starts, truth = _cuts(shard, getattr(entry, role), target)
            if len(starts):
                windows = np.stack([shard.values(start, start + SAMPLES).T for start in starts.tolist()])
                yield Examples(
                    recording=f"{entry.dataset}/{entry.recording}",
                    subject=entry.subject,
                    role=role,
                    windows=windows,
                    truth=truth,
                    start_s=shard.start_s + starts / shard.sampling_rate_hz,
                )


def train_mean(entries: Sequence[FoldRecording], target: str, *, shards: Path) -> float:
    """Return the mean answer of all train windows, which the null says of everything; NaN where there are none."""
    training = [entry for entry in entries if entry.train]
    truth = [_cuts(read(entry, shards=shards, signal=False), entry.train, target)[1] for entry in training]
    known = np.concatenate([np.zeros(0), *truth])
    return float(known.mean()) if len(known) else math.nan


def read(entry: FoldRecording, *, shards: Path, signal: bool = True) -> Shard:
    """Read a recording's shard.

    Raises
    ------
    UserError
        If it is not whole.
    """
    try:
        return read_shard(shards / entry.dataset / f"{entry.recording}.zarr.zip", signal=signal)
    except Unreadable as error:
        raise UserError(f"{error}.", mend="neurofm shards repair") from None


def _may_serve(entry: FoldRecording, role: Role, target: str) -> bool:
    """Whether a role of a recording may be used: what is chosen or scored on must not be known from training."""
    if entry.kind == "subject" or role == "train":
        return True
    # Trials of another time are other answers; a scalar is the same answer again.
    return role == "validation" and target == RESPONSE_TIME


def _fits(shard: Shard) -> bool:
    return len(shard.recording.channels) == CHANNELS and math.isclose(shard.sampling_rate_hz, RATE_HZ, rel_tol=1e-3)


def _cuts(
    shard: Shard, segments: Sequence[Segment], target: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """[window] first samples, and [window] answers."""
    if target == RESPONSE_TIME:
        starts, truth = _trials(shard)
    else:
        starts, truth = _side_by_side(shard, target)
    inside = np.zeros(len(starts), dtype=np.bool_)
    for segment in segments:
        inside |= (starts >= segment.start) & (starts + SAMPLES <= segment.stop)
    kept = np.flatnonzero(inside)
    if target != RESPONSE_TIME and len(kept) > MOST_WINDOWS:
        kept = kept[np.linspace(0, len(kept) - 1, MOST_WINDOWS).round().astype(np.int64)]
    return starts[kept], truth[kept]


def _trials(shard: Shard) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Stretches over which one response time is spread (`neurofm.eeg.hbn.trials.response_targets`)."""
    series = shard.recording.targets.get(RESPONSE_TIME)
    if series is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    values = np.asarray(series.values[:, 0], dtype=np.float64)
    edges = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    lengths = np.diff(edges, append=len(values))
    # A difference with NaN is never 0: samples without an answer are edges of their own.
    starts = edges[(lengths >= SAMPLES - _TRIAL_SHORT) & np.isfinite(values[edges])]
    return starts, values[starts]


def _side_by_side(shard: Shard, target: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    value = shard.recording.scalars.get(target)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    starts = np.arange(0, len(shard.valid) - SAMPLES + 1, SAMPLES)
    return starts, np.full(len(starts), float(value))
