"""Choice: which recordings make the slice of each modality, decided by the split alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from neurofm.recording import Modality
from neurofm.splits import UNSEEN, FoldRecording, Kind, Splits


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The recordings that stand for one modality, all of one dataset."""

    modality: Modality
    dataset: str
    recordings: tuple[str, ...]
    scored: bool
    """False: nothing of this modality is scored, so there are a shard to make again and no scores."""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    recording: str
    subject: str
    samples: int
    kind: Kind | Literal["left-out"]


def choose(
    splits: Splits, *, modalities: Mapping[str, Modality], kept: frozenset[str], subjects: int
) -> tuple[Chosen, ...]:
    """Choose, per modality, of the smallest dataset that is scored as few recordings as can be scored.

    A dataset whose raw files are kept goes before one that would have to be fetched again. Where subjects are held out
    it takes as many as a split by subject needs, one recording each; where time is, one recording.

    Parameters
    ----------
    splits
        The project's.
    modalities
        Of every dataset that takes part.
    kept
        Datasets whose raw files are kept, or read where they lie.
    subjects
        ``split.min_subjects``.

    Returns
    -------
    tuple of Chosen
        By modality; one of which no recording was read at all is not among them.
    """
    scored, others = _by_dataset(splits)
    chosen = []
    for modality in Modality:
        datasets = [dataset for dataset in sorted(modalities) if modalities[dataset] is modality]
        for group in (scored, others):
            there = [dataset for dataset in datasets if group.get(dataset)]
            if there:
                dataset = min(there, key=lambda name: (name not in kept, _size(group[name]), name))
                recordings = _few(group[dataset], subjects=subjects)
                chosen.append(Chosen(modality=modality, dataset=dataset, recordings=recordings, scored=group is scored))
                break
    return tuple(chosen)


def _by_dataset(splits: Splits) -> tuple[dict[str, list[_Candidate]], dict[str, list[_Candidate]]]:
    """Return the recordings that some fold scores, and those that none does, by dataset."""
    entries: defaultdict[tuple[str, str], list[FoldRecording]] = defaultdict(list)
    for fold in splits.folds:
        for entry in fold.recordings:
            entries[entry.dataset, entry.recording].append(entry)
    scored: defaultdict[str, list[_Candidate]] = defaultdict(list)
    others: defaultdict[str, list[_Candidate]] = defaultdict(list)
    for (dataset, recording), found in sorted(entries.items()):
        stops = [part.stop for one in found for part in one.calibration + one.train + one.validation + one.test]
        candidate = _Candidate(
            recording=recording, subject=found[0].subject, samples=max(stops, default=0), kind=found[0].kind
        )
        (scored if any(one.test for one in found) else others)[dataset].append(candidate)
    for out in splits.left_out:
        if (out.dataset, out.recording) not in entries:
            others[out.dataset].append(_Candidate(recording=out.recording, subject="", samples=0, kind="left-out"))
    return dict(scored), dict(others)


def _size(candidates: Sequence[_Candidate]) -> int:
    return sum(candidate.samples for candidate in candidates)


def _few(candidates: Sequence[_Candidate], *, subjects: int) -> tuple[str, ...]:
    """Take the shortest recording, or where subjects are held out the shortest of each of so many subjects."""
    ordered = sorted(candidates, key=lambda one: (one.samples, one.recording))
    if ordered[0].kind not in UNSEEN:
        return (ordered[0].recording,)
    first: dict[str, _Candidate] = {}
    for candidate in ordered:
        first.setdefault(candidate.subject, candidate)
    return tuple(sorted(candidate.recording for candidate in list(first.values())[:subjects]))
