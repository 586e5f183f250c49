"""Shards: each against its receipt, and one that was made again against the one that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurofm.files import sha256_of
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.recording import EventColumn, Events, Signal, Spikes, Stimulus, Target, UnitStatus, Unreadable
from neurofm.shards import Shard, read_shard
from neurofm.shards.quantise import LEVELS, STEP_SD
from neurofm.units import read_receipts

MAX_SIGNAL_SD = 1e-3
"""Largest mean difference of a channel's samples, in its SDs: a tenth of what quantisation may cost."""
MAX_STEPS = 2.0
"""Largest difference of a sample, in steps of the channel's grid: both ends of a value may fall on the next step."""
MAX_FLIPPED = 1e-3
"""Largest share of samples whose mark `valid` differs: where a value lies at a limit, its last bit decides."""
_MEASURED = ("quality",)
"""Attributes that are measured, and so round as the signal does."""
_NAMES_OF_PLACES = ("region", "space", "position_unit")
_OF_MACHINE = ("libraries", "container_digest")
"""What `pipeline` says of where it was made."""


@dataclass(frozen=True, kw_only=True)
class ShardDifference:
    """How far two shards of one recording are apart."""

    signal_sd: float
    """Largest mean difference of a channel's samples, in its SDs."""
    signal_steps: float
    """Largest difference of a sample, in steps of its channel's grid; a step of counts is one."""
    counts: bool
    """Of the signal, which may not differ then."""
    flipped: float
    """Share of samples whose mark `valid` differs."""
    other: tuple[str, ...]
    """What else differs, that may not."""

    @property
    def tolerable(self) -> bool:
        """Whether it is no more than other rounding gives."""
        allowed_sd, allowed_steps = (0.0, 0.0) if self.counts else (MAX_SIGNAL_SD, MAX_STEPS)
        signal = self.signal_sd <= allowed_sd and self.signal_steps <= allowed_steps
        return signal and self.flipped <= MAX_FLIPPED and not self.other

    def __str__(self) -> str:
        parts = [
            f"mean difference {self.signal_sd:.2g} SD of its channel, at most {self.signal_steps:.2g} steps of its grid"
            if self.signal_sd
            else "equal samples, last digits of what was measured of them differ"
        ]
        if self.flipped:
            parts.append(f"{self.flipped:.2%} of samples marked otherwise")
        return "; ".join([*parts, *self.other])


def compare_shards(kept: Path, made: Path) -> ShardDifference:
    """Say how far a shard is from another of the same recording.

    Raises
    ------
    Unreadable
        If one of them is no whole shard.
    """
    old, new = read_shard(kept, extra=True), read_shard(made, extra=True)
    other = [*_attributes(old, new), *_tables(old, new)]
    if old.stored.shape != new.stored.shape or old.stored.dtype != new.stored.dtype:
        return ShardDifference(
            signal_sd=np.inf, signal_steps=np.inf, counts=False, flipped=1.0, other=("another shape", *other)
        )
    reference = old.stored * old.scale + old.offset
    difference = np.abs(new.stored * new.scale + new.offset - reference)
    sd = reference.std(axis=0)
    mean = difference.mean(axis=0) if len(difference) else np.zeros_like(sd)
    relative = np.divide(mean, sd, out=np.where(mean > 0, np.inf, 0.0), where=sd > 0)
    return ShardDifference(
        signal_sd=float(relative.max(initial=0.0)),
        signal_steps=float((difference.max(axis=0, initial=0.0) / old.scale).max(initial=0.0)),
        counts=old.stored.dtype == np.uint8,
        flipped=float((old.valid != new.valid).mean()) if len(old.valid) else 0.0,
        other=tuple(other),
    )


def _attributes(old: Shard, new: Shard) -> Iterator[str]:
    """Name attributes that differ and are neither measured nor of the machine."""
    mine, theirs = _fixed(old.attrs), _fixed(new.attrs)
    for name in sorted(mine.keys() | theirs.keys()):
        if not _close(mine.get(name), theirs.get(name)):
            yield f"attribute {name} differs"


def _fixed(attrs: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {name: value for name, value in attrs.items() if name not in _MEASURED}
    pipeline = {name: value for name, value in attrs["pipeline"].items() if name not in _OF_MACHINE}
    excluded = attrs["quality"].get("excluded_reason")
    return fixed | {"pipeline": pipeline, "excluded_reason": excluded}


def _close(one: Any, other: Any) -> bool:
    """Whether two plain values are equal, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=MAX_SIGNAL_SD, atol=0.0, equal_nan=True))
    return bool(one == other)


def _tables(old: Shard, new: Shard) -> Iterator[str]:
    """Name what differs beside the signal."""
    mine, theirs = old.recording, new.recording
    if mine.channels.id != theirs.channels.id or not np.array_equal(old.usable, new.usable):
        yield "other channels, or others of them usable"
    if not _near(mine.channels.position, theirs.channels.position):
        yield "channels lie elsewhere"
    if any(getattr(mine.channels, name) != getattr(theirs.channels, name) for name in _NAMES_OF_PLACES):
        yield "channels are in other regions, or in another space"
    if not _all_near(mine.channels.quality, theirs.channels.quality):
        yield "other measures of channels' quality"
    beside = (
        (_same_targets(mine.targets, theirs.targets), "targets differ"),
        (_same_targets(mine.noise, theirs.noise), "measured noise differs"),
        (_same_extra(mine.extra_signals, theirs.extra_signals), "signals beside the signal differ"),
        (_same_spikes(mine.spikes, theirs.spikes), "spikes differ"),
        (_same_events(mine.events, theirs.events), "events differ"),
        (_same_stimulus(mine.stimulus, theirs.stimulus), "frames shown, or when they were, differ"),
    )
    yield from (said for same, said in beside if not same)


def _same_targets(mine: Mapping[str, Target], theirs: Mapping[str, Target]) -> bool:
    return mine.keys() == theirs.keys() and all(
        (target.unit, target.columns) == (theirs[name].unit, theirs[name].columns)
        and _same_times(target.time_s, theirs[name].time_s)
        and _near(target.values, theirs[name].values)
        for name, target in mine.items()
    )


def _same_extra(mine: Mapping[str, Signal], theirs: Mapping[str, Signal]) -> bool:
    """Whether signals beside the signal are within what is allowed of the signal."""
    return mine.keys() == theirs.keys() and all(
        one.values.shape == theirs[name].values.shape and _within(one.values, theirs[name].values)
        for name, one in mine.items()
    )


def _within(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    difference, sd = np.abs(one - other), one.std(axis=0)
    step = np.maximum(STEP_SD * sd, np.ptp(one, axis=0) / LEVELS)
    return bool((difference <= MAX_STEPS * step).all() and (difference.mean(axis=0) <= MAX_SIGNAL_SD * sd).all())


def _same_spikes(mine: Spikes | None, theirs: Spikes | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return (
        (mine.start_s, mine.stop_s) == (theirs.start_s, theirs.stop_s)
        and np.array_equal(mine.time_s, theirs.time_s)
        and np.array_equal(mine.channel, theirs.channel)
    )


def _same_events(mine: Events | None, theirs: Events | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return (
        mine.label == theirs.label
        and _same_times(mine.onset_s, theirs.onset_s)
        and _same_times(mine.duration_s, theirs.duration_s)
        and mine.columns.keys() == theirs.columns.keys()
        and all(_same_column(column, theirs.columns[name]) for name, column in mine.columns.items())
    )


def _same_stimulus(mine: Stimulus | None, theirs: Stimulus | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    # Frames are copied or rounded to whole numbers, never filtered: nothing in them depends on the machine.
    return np.array_equal(mine.frames, theirs.frames) and np.array_equal(mine.shown, theirs.shown)


def _same_column(one: EventColumn, other: EventColumn) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        return isinstance(one, tuple) and isinstance(other, tuple) and one == other
    return np.array_equal(one, other, equal_nan=True)


def _same_times(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    """Whether times are equal, up to the last digits of one division."""
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-12, atol=1e-9, equal_nan=True))


def _all_near(mine: Mapping[str, npt.NDArray[Any]], theirs: Mapping[str, npt.NDArray[Any]]) -> bool:
    return mine.keys() == theirs.keys() and all(_near(column, theirs[name]) for name, column in mine.items())


def _near(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether two arrays are equal up to `MAX_SIGNAL_SD` of each column's SD; NaN equals NaN."""
    if one.shape != other.shape:
        return False
    spread = np.nan_to_num(np.nanstd(one.astype(np.float64), axis=0)) if np.isfinite(one).any() else 0.0
    allowed = MAX_SIGNAL_SD * spread
    gap = np.abs(one.astype(np.float64) - other)
    return bool(((gap <= allowed) | (np.isnan(one) & np.isnan(other))).all())


def compare_receipts(datasets: Iterable[str], *, root: Path) -> Iterator[Finding]:
    """Compare every shard with the SHA-256 in its receipt."""
    for dataset in sorted(datasets):
        receipts = read_receipts(root / "data" / "receipts" / f"{dataset}.jsonl")
        shards = root / "data" / "shards" / dataset
        wrong: list[str] = []
        count = 0
        for receipt in receipts.values():
            if receipt.status is UnitStatus.SUCCEEDED:
                for name, digest in receipt.outputs.items():
                    count += 1
                    if not (shards / name).is_file() or sha256_of(shards / name) != digest:
                        wrong.append(name)
        known = {name for receipt in receipts.values() for name in receipt.outputs}
        wrong += [f"{path.name} (in no receipt)" for path in shards.glob("*") if path.name not in known]
        yield Finding(
            part=Part.RECEIPTS,
            item=dataset,
            status=Status.DIFFERS if wrong else Status.EQUAL,
            detail=f"not what the receipts say: {', '.join(sorted(wrong)[:3])}" if wrong else f"{count} shards",
            mend=f"`dvc checkout --force data/shards/{dataset}`, or `dvc repro`, which makes such a shard again"
            if wrong
            else "",
        )


def judge_shard(kept: Path, made: Path, *, reference_sha256: str, exact: bool, name: str) -> Finding:
    """Compare a shard that was made again with the one of the original run.

    Parameters
    ----------
    kept
        The project's shard.
    made
        The new one.
    reference_sha256
        Of the original run's.
    exact
        This machine is of the kind that made the shard, so nothing may differ.
    name
        ``<dataset>/<recording>``.
    """
    if sha256_of(made) == reference_sha256:
        return Finding(part=Part.SHARD, item=name, status=Status.EQUAL, detail=f"sha256 {reference_sha256[:16]}..")
    mend = (
        "look for what changed in its raw files, its code or the libraries; `neurofm status` and `dvc status` say more"
    )
    if not kept.is_file() or sha256_of(kept) != reference_sha256:
        detail = "other bytes, and the shard that is kept is not the original either"
        return Finding(part=Part.SHARD, item=name, status=Status.DIFFERS, detail=detail, mend=mend)
    try:
        difference = compare_shards(kept, made)
    except Unreadable as error:
        return Finding(part=Part.SHARD, item=name, status=Status.DIFFERS, detail=str(error), mend=mend)
    tolerable = difference.tolerable and not exact
    where = " on a machine of the same kind as made it, which must give the same bytes" if exact else ""
    return Finding(
        part=Part.SHARD,
        item=name,
        status=Status.WITHIN if tolerable else Status.DIFFERS,
        detail=f"{difference}{where}",
        mend="" if tolerable else mend,
    )
