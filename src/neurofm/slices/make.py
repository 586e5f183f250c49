"""Make: cut, split, train and score, all by the project's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.evaluation.evaluate import evaluate
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.files import sha256_of
from neurofm.recording import Modality
from neurofm.slices.choice import Chosen, choose
from neurofm.slices.cut import cut_shard
from neurofm.slices.machine import this_machine
from neurofm.slices.result import SliceRecording, SliceResult
from neurofm.slices.settings import SliceSettings
from neurofm.splits import Candidate, Splits, SplitSettings, candidate_of, find_candidates, make_splits
from neurofm.training.pretrain import pretrain_all_folds
from neurofm.training.settings import PretrainSettings
from neurofm.windows import WindowsSettings


@dataclass(frozen=True, kw_only=True)
class SlicePlan:
    """What a slice is made of, and how."""

    entries: Mapping[str, CatalogEntry]
    """Of every dataset that takes part."""
    kept: frozenset[str]
    """Datasets whose raw files are kept, or read where they lie."""
    settings: SliceSettings
    split: SplitSettings
    windows: WindowsSettings
    pretrain: PretrainSettings
    evaluate: EvaluateSettings

    @property
    def few(self) -> SplitSettings:
        """How the few recordings of a slice are split: they seldom have two values of a column to leave out."""
        return self.split.model_copy(update={"leave_out": ""})

    @property
    def window_samples(self) -> dict[Modality, int]:
        """Length of a window per modality."""
        return self.windows.window_samples

    def chosen(self, splits: Splits) -> tuple[Chosen, ...]:
        """Return which recordings it is made of (`choose`)."""
        return choose(
            splits,
            modalities={name: entry.modality for name, entry in self.entries.items()},
            kept=self.kept,
            subjects=self.split.min_subjects,
        )


def make_slice(plan: SlicePlan, splits: Splits, *, shards: Path, work: Path, workers: int = 1) -> SliceResult:
    """Cut the chosen recordings, split them, train the first fold's model and score it.

    Parameters
    ----------
    plan
        Settings and catalogue.
    splits
        The project's: they say which recordings are chosen.
    shards
        ``data/shards``; only the chosen ones are read.
    work
        A folder of its own, empty before and removed afterwards.
    workers
        Processes that score side by side; the result does not depend on how many.

    Raises
    ------
    UserError
        As `pretrain_all_folds` and `evaluate` do.
    Unreadable
        For a damaged shard.
    """
    chosen = plan.chosen(splits)
    shutil.rmtree(work, ignore_errors=True)
    try:
        recordings = [
            recording for one in chosen for recording in _cut(one, plan=plan, shards=shards, out=work / "shards")
        ]
        entries = [plan.entries[one.dataset] for one in chosen]
        whole = make_splits(
            find_candidates(entries, shards=work / "shards"), settings=plan.few, window_samples=plan.window_samples
        )
        first = whole.model_copy(update={"folds": whole.folds[:1]})
        first.write(work / "splits.json")
        pretrain_all_folds(
            first,
            shards=work / "shards",
            settings=plan.settings.shortened(plan.pretrain),
            windows=plan.windows,
            runs=work / "runs",
            out=work / "models",
            workers=1,
        )
        scoreboard = evaluate(
            first,
            shards=work / "shards",
            models=work / "models",
            # Curves are no part of what is compared.
            settings=plan.evaluate.model_copy(
                update={"few_shot": False, "calibration_s": (), "calibration_trials": (), "trial_classes": {}}
            ),
            windows=plan.windows,
            workers=workers,
        )
        models = sorted(path for path in (work / "models").rglob("*") if path.is_file())
        return SliceResult(
            made_on=this_machine(),
            recordings=tuple(recordings),
            not_scored=_not_scored(plan, chosen, scored={row.modality for row in scoreboard.rows}),
            splits_sha256=sha256_of(work / "splits.json"),
            models={path.relative_to(work / "models").as_posix(): sha256_of(path) for path in models},
            scores=scoreboard.rows,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _cut(chosen: Chosen, *, plan: SlicePlan, shards: Path, out: Path) -> list[SliceRecording]:
    """Cut the recordings of one modality, all to the same length in seconds."""
    entry = plan.entries[chosen.dataset]
    sources = {name: shards / chosen.dataset / f"{name}.zarr.zip" for name in chosen.recordings}
    candidates = {name: candidate_of(path, entry=entry) for name, path in sources.items()}
    seconds = _seconds(list(candidates.values()), plan=plan) if chosen.scored else plan.settings.seconds
    cut = []
    for name, source in sources.items():
        candidate = _shortened(candidates[name], seconds=seconds)
        path = out / chosen.dataset / source.name
        cut_shard(source, samples=candidate.samples, path=path)
        cut.append(
            SliceRecording(
                modality=chosen.modality,
                dataset=chosen.dataset,
                recording=name,
                seconds=round(candidate.samples / candidate.sampling_rate_hz, 3),
                samples=candidate.samples,
                of_samples=candidates[name].samples,
                shard_sha256=sha256_of(source),
                slice_sha256=sha256_of(path),
            )
        )
    return cut


def _seconds(candidates: Sequence[Candidate], *, plan: SlicePlan) -> float:
    """Return how much to take: what the settings say, doubled until the first fold can learn, choose and score."""
    longest = max(candidate.samples / candidate.sampling_rate_hz for candidate in candidates)
    seconds = plan.settings.seconds
    while seconds < longest and not _is_enough(candidates, seconds=seconds, plan=plan):
        seconds *= 2
    return seconds


def _is_enough(candidates: Sequence[Candidate], *, seconds: float, plan: SlicePlan) -> bool:
    splits = make_splits(
        [_shortened(candidate, seconds=seconds) for candidate in candidates],
        settings=plan.few,
        window_samples=plan.window_samples,
    )
    entries = splits.folds[0].recordings
    window = plan.window_samples[candidates[0].modality]
    return all(
        any(part.stop - part.start >= window for entry in entries for part in getattr(entry, role))
        for role in ("train", "validation", "test")
    )


def _shortened(candidate: Candidate, *, seconds: float) -> Candidate:
    return replace(candidate, samples=min(candidate.samples, round(seconds * candidate.sampling_rate_hz)))


def _not_scored(plan: SlicePlan, chosen: Sequence[Chosen], *, scored: set[str]) -> dict[str, str]:
    """Say of each modality that takes part why it has no scores; those that have some are not among them."""
    of = {one.modality: one for one in chosen}
    reasons = {}
    for modality in sorted({entry.modality for entry in plan.entries.values()}):
        if modality in scored:
            continue
        if modality not in of:
            reasons[modality.value] = "no recording of it was read"
        elif not of[modality].scored:
            reasons[modality.value] = "nothing of it is scored in the whole project either"
        else:
            reasons[modality.value] = "too little of it to be scored"
    return reasons
