"""Leak-free splits: which subject, or which stretch of time, is learned from, chosen on, and scored.

A dataset with at least `min_subjects` subjects is split by subject, k-fold where `folds` is above one. A
recording of a subject never seen in training gives a declared calibration span at its start, unlabelled,
from which it is normalised and described; only what follows is scored. A dataset with fewer subjects is
split in time: contiguous blocks, with a gap of one window plus the support of all filters wherever the role
changes, so that no window and no raw sample serves two roles. fMRI is never split within a run, since its
high-pass spans the run: with too few subjects it trains and is not scored.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.files import write_json
from neurofm.recording import Modality
from neurofm.settings import Settings
from neurofm.shards import read_shard

Role = Literal["train", "validation", "test"]
Kind = Literal["subject", "time", "train-only"]


class SplitSettings(Settings):
    """`split` in params.yaml."""

    seed: int
    folds: int = Field(ge=1)
    """k of the k-fold; 1 gives one split with `test_fraction` and `validation_fraction`."""
    test_fraction: float = Field(gt=0, lt=1)
    """Share of subjects or blocks that is scored, where `folds` is 1."""
    validation_fraction: float = Field(gt=0, lt=1)
    """Share of what is not scored that early stopping and tuning choose on."""
    min_subjects: int = Field(ge=3)
    """Datasets with fewer subjects are split in time."""
    blocks: int = Field(ge=3)
    """Most time blocks that a recording is cut into; fewer where gaps would eat more than half of it."""
    calibration_fraction: float = Field(gt=0, lt=1)
    """Share of an unseen subject's recording that may be looked at, unlabelled, before it is scored."""


class Segment(Settings):
    """Samples [start, stop) of a recording's signal."""

    start: int = Field(ge=0)
    stop: int

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            msg = f"empty segment [{self.start}, {self.stop})"
            raise ValueError(msg)
        return self


class FoldRecording(Settings):
    """What one recording is for in one fold."""

    dataset: str
    recording: str
    subject: str
    modality: Modality
    kind: Kind
    calibration: tuple[Segment, ...]
    """May be looked at to normalise and describe the recording; never scored."""
    train: tuple[Segment, ...] = ()
    validation: tuple[Segment, ...] = ()
    test: tuple[Segment, ...] = ()


class Fold(Settings):
    """One fold: the roles of all recordings that take part."""

    recordings: tuple[FoldRecording, ...]


class LeftOut(Settings):
    """A recording that takes no part, or is not scored, and why."""

    dataset: str
    recording: str
    reason: str
    trains: bool
    """True: it is learned from all the same."""


class Splits(Settings):
    """``data/splits.json``."""

    schema_: Literal["neurofm-splits/1"] = Field(default="neurofm-splits/1", alias="schema")
    seed: int
    folds: tuple[Fold, ...]
    left_out: tuple[LeftOut, ...]

    def write(self, path: Path) -> None:
        """Write as canonical JSON."""
        write_json(path, self.model_dump(mode="json", by_alias=True, exclude_defaults=False))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls.model_validate_json(path.read_bytes())


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What the splitter needs to know of a recording."""

    dataset: str
    recording: str
    subject: str
    modality: Modality
    samples: int
    sampling_rate_hz: float
    support_s: float
    """How far apart two samples must be to share no raw sample."""
    excluded_reason: str = ""
    """Why preprocessing keeps it out; empty if it does not."""
    score: bool = True
    score_note: str = ""


def make_splits(
    candidates: Sequence[Candidate],
    *,
    settings: SplitSettings,
    window_samples: Mapping[Modality, int],
) -> Splits:
    """Give every recording its roles in every fold.

    Parameters
    ----------
    candidates
        All recordings.
    settings
        `split` in params.yaml.
    window_samples
        Length of a window per modality: shorter recordings are left out, and gaps are at least this long.

    Raises
    ------
    UserError
        If a subject would be both learned from and scored across datasets (`audit`).
    """
    left_out: list[LeftOut] = []
    by_dataset: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: (c.dataset, c.recording)):
        needed = window_samples[candidate.modality]
        reason = candidate.excluded_reason
        if candidate.samples < needed:
            seconds, least = candidate.samples / candidate.sampling_rate_hz, needed / candidate.sampling_rate_hz
            reason = f"too short: {seconds:.4g} s, one window is {least:.4g} s"
        if reason:
            left_out.append(_left_out(candidate, reason, trains=False))
        else:
            by_dataset[candidate.dataset].append(candidate)

    folds: list[list[FoldRecording]] = [[] for _ in range(settings.folds)]
    for dataset, recordings in sorted(by_dataset.items()):
        subjects = sorted({recording.subject for recording in recordings})
        for recording in recordings:
            if reason := _why_not_scored(recording, subjects=subjects, settings=settings):
                left_out.append(_left_out(recording, reason, trains=True))
                plans = _train_only(recording, folds=settings.folds)
            elif len(subjects) >= settings.min_subjects:
                plans = _by_subject(recording, subjects=_shuffled(subjects, settings, dataset), settings=settings)
            else:
                plans = _by_time(recording, settings=settings, window_samples=window_samples[recording.modality])
                if not any(plan.test for plan in plans):
                    reason = "too short to be split in time with gaps: trains only"
                    left_out.append(_left_out(recording, reason, trains=True))
            for fold, plan in zip(folds, plans, strict=True):
                fold.append(plan)
    splits = Splits(
        seed=settings.seed,
        folds=tuple(Fold(recordings=tuple(fold)) for fold in folds),
        left_out=tuple(sorted(left_out, key=lambda out: (out.dataset, out.recording))),
    )
    audit(splits)
    return splits


def audit(splits: Splits) -> None:
    """Check that no subject held out in a fold is learned from in it, whatever dataset it appears in.

    Raises
    ------
    UserError
        Naming the subject, the fold and both datasets.
    """
    for number, fold in enumerate(splits.folds):
        held_out = {entry.subject: entry for entry in fold.recordings if entry.kind == "subject" and not entry.train}
        for entry in fold.recordings:
            other = held_out.get(entry.subject)
            if entry.train and other is not None:
                raise UserError(
                    f"split: subject {entry.subject} is held out in fold {number} as {other.dataset}/{other.recording} "
                    f"and learned from as {entry.dataset}/{entry.recording}.",
                    mend="take one of the two datasets out of params.yaml; where they really are different people or "
                    "animals, give one dataset another `subject_namespace` in its catalogue entry",
                )
            if entry.kind == "time":
                _audit_time(entry, fold=number)


def _audit_time(entry: FoldRecording, *, fold: int) -> None:
    for segment in entry.test + entry.validation:
        if any(segment.start < seen.stop and seen.start < segment.stop for seen in entry.train + entry.calibration):
            raise UserError(
                f"split: {entry.dataset}/{entry.recording} fold {fold} learns from and scores the same samples.",
                mend="delete data/splits.json and run `dvc repro split`; if it stays, report it as a bug",
            )


def _left_out(candidate: Candidate, reason: str, *, trains: bool) -> LeftOut:
    return LeftOut(dataset=candidate.dataset, recording=candidate.recording, reason=reason, trains=trains)


def _why_not_scored(recording: Candidate, *, subjects: Sequence[str], settings: SplitSettings) -> str:
    if not recording.score:
        return recording.score_note or "the catalogue says `score: false`"
    if recording.modality is Modality.FMRI and len(subjects) < settings.min_subjects:
        return (
            f"fMRI of {len(subjects)} subject{'s' * (len(subjects) > 1)}: the high-pass spans the run, "
            "so a run is never split"
        )
    return ""


def _shuffled(subjects: Sequence[str], settings: SplitSettings, dataset: str) -> list[str]:
    """Order subjects by a hash, so that adding one moves few others."""
    return sorted(
        subjects, key=lambda subject: hashlib.sha256(f"{settings.seed}:{dataset}:{subject}".encode()).digest()
    )


def _roles(count: int, *, fold: int, settings: SplitSettings) -> list[Role]:
    """Roles of `count` subjects or blocks, in order.

    Every k-th is scored (k-fold), or a fixed share at the end (one fold). Validation is spread evenly over
    what remains, starting elsewhere in each fold.
    """
    if settings.folds > 1:
        test = {index for index in range(count) if index % settings.folds == fold}
    else:
        wanted = max(1, round(count * settings.test_fraction))
        test = {round((index + 0.5) * count / wanted - 0.5) for index in range(wanted)}
    rest = [index for index in range(count) if index not in test]
    wanted = max(1, round(len(rest) * settings.validation_fraction))
    first = max(test) + 1 if test else 0
    turned = sorted(rest, key=lambda index: (index - first) % count)
    validation = {turned[index * len(turned) // wanted] for index in range(wanted)}
    return ["test" if index in test else "validation" if index in validation else "train" for index in range(count)]


def _entry(
    recording: Candidate, *, kind: Kind, calibration: Sequence[Segment], **roles: Sequence[Segment]
) -> FoldRecording:
    return FoldRecording(
        dataset=recording.dataset,
        recording=recording.recording,
        subject=recording.subject,
        modality=recording.modality,
        kind=kind,
        calibration=tuple(calibration),
        **{role: tuple(segments) for role, segments in roles.items()},
    )


def _train_only(recording: Candidate, *, folds: int) -> list[FoldRecording]:
    whole = [Segment(start=0, stop=recording.samples)]
    return [_entry(recording, kind="train-only", calibration=whole, train=whole)] * folds


def _by_subject(recording: Candidate, *, subjects: Sequence[str], settings: SplitSettings) -> list[FoldRecording]:
    plans = []
    whole = [Segment(start=0, stop=recording.samples)]
    seen = round(recording.samples * settings.calibration_fraction)
    for fold in range(settings.folds):
        role = _roles(len(subjects), fold=fold, settings=settings)[subjects.index(recording.subject)]
        if role == "train":
            plans.append(_entry(recording, kind="subject", calibration=whole, train=whole))
        else:
            after = {role: [Segment(start=seen, stop=recording.samples)]}
            plans.append(_entry(recording, kind="subject", calibration=[Segment(start=0, stop=seen)], **after))
    return plans


def _by_time(recording: Candidate, *, settings: SplitSettings, window_samples: int) -> list[FoldRecording]:
    """Cut into blocks; where neighbours differ in role, drop half a gap from each side of the border."""
    gap = window_samples + round(recording.support_s * recording.sampling_rate_hz)
    # A block loses at most one gap (half at each end): it should keep as much again, and must keep a window.
    needed = gap + window_samples + 1
    least = -(-3 // settings.folds) * settings.folds
    if recording.samples // least < needed:
        return _train_only(recording, folds=settings.folds)
    count = max(least, min(settings.blocks, recording.samples // max(2 * gap, needed)))
    count -= count % settings.folds
    edges = [round(index * recording.samples / count) for index in range(count + 1)]
    plans = []
    for fold in range(settings.folds):
        segments: dict[Role, list[Segment]] = {"train": [], "validation": [], "test": []}
        roles = _roles(count, fold=fold, settings=settings)
        first = 0
        while first < count:
            last = first
            while last + 1 < count and roles[last + 1] == roles[first]:
                last += 1
            start = edges[first] + (gap // 2 if first > 0 else 0)
            stop = edges[last + 1] - (gap - gap // 2 if last + 1 < count else 0)
            segments[roles[first]].append(Segment(start=start, stop=stop))
            first = last + 1
        plans.append(
            _entry(
                recording,
                kind="time",
                calibration=segments["train"],
                train=segments["train"],
                validation=segments["validation"],
                test=segments["test"],
            )
        )
    return plans


def find_candidates(entries: Sequence[CatalogEntry], *, shards: Path) -> list[Candidate]:
    """Read from the shards of the named datasets what the splitter needs to know.

    Parameters
    ----------
    entries
        Catalogue entries of the datasets that take part; other folders under `shards` are not looked at.
    shards
        ``data/shards``.
    """
    return [
        candidate_of(path, entry=entry) for entry in entries for path in sorted((shards / entry.id).glob("*.zarr.zip"))
    ]


def candidate_of(path: Path, *, entry: CatalogEntry) -> Candidate:
    """Read from one shard what the splitter needs to know."""
    shard = read_shard(path)
    return Candidate(
        dataset=entry.id,
        recording=path.name.removesuffix(".zarr.zip"),
        subject=shard.recording.subject,
        modality=shard.recording.modality,
        samples=len(shard.stored),
        sampling_rate_hz=shard.sampling_rate_hz,
        support_s=shard.support_s,
        excluded_reason=str(shard.recording.quality.get("excluded_reason") or ""),
        score=entry.score,
        score_note=entry.score_note,
    )
