"""Task `trial:<class>@<share>%`: what happened in a trial of an animal (or session) that nobody learned from.

`evaluate.trial_classes` names what is asked. Our decoder (`neurofm.evaluation.trial_decoder`) learns on the recordings
that a fold scores nothing of. Of one that is scored, the trials of its calibration may be looked at, and a share of
them, drawn anew five times, is labelled; trials of its test part are scored. Beside it stand logistic regression on the
same counts of the labelled trials, in SDs over the whole calibration, its penalty chosen by cross-validation among the
labelled trials, and the mean of both probabilities.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.few_shot import SEEDS
from neurofm.evaluation.readout import Readout, fit_readout
from neurofm.evaluation.row import NULL, OURS
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings, TrialClass
from neurofm.evaluation.trial_decoder import UNKNOWN, LabelledTrials, TrialDecoder
from neurofm.evaluation.trial_statistics import Floats, TrialStatistics, describe_trials
from neurofm.evaluation.trials import Trials, classes_of, has_columns, read_trials, roles_of
from neurofm.recording import Modality
from neurofm.shards import read_shard
from neurofm.splits import UNSEEN, Fold, FoldRecording, Splits, draw_shown

TRIALS = f"{OURS}-trials"
LOGISTIC = "logistic_counts"
AVERAGE = f"{TRIALS}-average"
"""Mean of the probabilities of both."""
SHARES = (0.0, 0.05, 0.2, 1.0)
_LEAST_CLASSES = 2
_NAMED = 3
"""Recordings without a column that are named."""

Seconds = dict[tuple[str, str, str], float]
"""CPU seconds by dataset, task and model."""
Probability = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RecordedTrials:
    """Trials of one recording, and what it is for in a fold."""

    roles: FoldRecording
    trials: Trials


def trial_scores(
    fold: Fold, *, shards: Path, number: int, settings: EvaluateSettings
) -> tuple[list[TileScores], Seconds]:
    """Score all that is asked in one fold.

    Parameters
    ----------
    fold
        Who is held out.
    shards
        ``data/shards``.
    number
        Of the fold.
    settings
        What is asked.

    Returns
    -------
    balanced accuracies, and the CPU seconds.
    """
    scores: list[TileScores] = []
    seconds: Seconds = {}
    for entries in _by_dataset(fold) if settings.trial_classes else ():
        read = [(entry, read_trials(read_shard(_path(shards, entry)))) for entry in entries]
        recordings = [RecordedTrials(roles=entry, trials=trials) for entry, trials in read if trials is not None]
        for name, wanted in settings.trial_classes.items():
            asked = [one for one in recordings if has_columns(one.trials.columns, wanted)]
            found, spent = decode_trials(asked, name=name, wanted=wanted, number=number, seed=settings.seed)
            scores.extend(found)
            seconds.update(spent)
    return scores, seconds


def check_columns(splits: Splits, *, shards: Path, settings: EvaluateSettings) -> None:
    """Refuse columns that no recording of spikes has, before anything is scored; say which recordings lack one.

    Raises
    ------
    UserError
        With the columns that there are.
    """
    if not settings.trial_classes:
        return
    entries = {entry.name: entry for fold in splits.folds for entry in fold.recordings}
    events = {
        name: read_shard(_path(shards, entry), signal=False).recording.events
        for name, entry in sorted(entries.items())
        if entry.modality is Modality.SPIKES
    }
    columns = {name: one.columns if one else {} for name, one in events.items()}
    there = sorted({column for own in columns.values() for column in own})
    for name, wanted in settings.trial_classes.items():
        key, asked = f"evaluate.trial_classes.{name}", " and ".join(map(repr, wanted.columns))
        lacking = [recording for recording, own in columns.items() if not has_columns(own, wanted)]
        if columns and len(lacking) == len(columns):
            raise UserError(
                f"params.yaml: {key}: no recording of spikes has trials with {asked}; "
                f"{'their columns are ' + ', '.join(there) if there else 'they have no columns'}.",
                mend="name what is there" if there else "leave it out, or name columns under `trials` in the catalogue",
            )
        if lacking:
            some = f"{', '.join(lacking[:_NAMED])}{', ...' if len(lacking) > _NAMED else ''}"
            sys.stderr.write(
                f"{key}: {len(lacking)} of {len(columns)} recordings of spikes lack {asked} and take no part: {some}\n"
            )


def decode_trials(
    recordings: Sequence[RecordedTrials], *, name: str, wanted: TrialClass, number: int, seed: int
) -> tuple[list[TileScores], Seconds]:
    """Learn on recordings of which nothing is scored, and score the others.

    Parameters
    ----------
    recordings
        Of one dataset and fold; all have the columns.
    name, wanted
        What is asked.
    number
        Of the fold: it and a seed draw which trials are labelled.
    seed
        Of the decoder.
    """
    scores: list[TileScores] = []
    spent: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    tests = [one for one in recordings if one.roles.test]
    learned = [one.trials for one in recordings if not one.roles.test]
    classes = classes_of(learned, wanted, name=name)
    if not tests or len(classes) < _LEAST_CLASSES:
        return scores, {}
    patches = min(one.trials.patches for one in recordings)
    started = time.process_time()
    decoder = TrialDecoder.learn(
        [trials.shortened(patches).labelled(wanted, classes) for trials in learned], classes=len(classes), seed=seed
    )
    # Its cost is that of the first share.
    spent[tests[0].roles.dataset, _task(name, SHARES[0]), TRIALS] += time.process_time() - started
    for one in tests:
        trials = one.trials.shortened(patches).labelled(wanted, classes)
        calibration, test = roles_of(one.trials, one.roles)
        asked = test & (trials.label != UNKNOWN)
        if not asked.any() or not calibration.any():
            continue
        seen = trials.at(calibration)
        statistics = describe_trials(seen.counts)
        for share, draw in itertools.product(SHARES, range(SEEDS)):
            if draw and share in (0.0, 1.0):  # there is nothing to draw
                continue
            shown = shown_of(seen, share=share, classes=len(classes), seed=(draw, number))
            answers = _answers(decoder, shown, statistics, asked=trials.counts[asked], classes=len(classes))
            for model, (probability, took) in answers.items():
                task = _task(name, share)
                scores.append(_score(probability, trials.label[asked], roles=one.roles, task=task, model=model))
                spent[one.roles.dataset, task, model] += took
    return scores, dict(spent)


def shown_of(seen: LabelledTrials, *, share: float, classes: int, seed: Sequence[int]) -> LabelledTrials:
    """Hide the labels of all trials but a share, drawn in proportion to the classes; at least one of each unless 0."""
    label = np.full(len(seen.label), UNKNOWN, dtype=np.int64)
    if share:
        rng = np.random.default_rng(seed)
        drawn = draw_shown(seen.label.astype(np.float64), groups=classes, share=share, examples=None, rng=rng)
        label[drawn] = seen.label[drawn]
    return replace(seen, label=label)


def fit_logistic(shown: LabelledTrials, statistics: TrialStatistics, *, classes: int) -> Readout:
    """Fit logistic regression on the labelled trials, in the SDs of all that may be looked at.

    Its intercepts are such that no class is likelier at the mean of all trials, labelled or not, as in our decoder.
    Those fitted on ten labelled trials send most new ones to one class: this is a stronger rival, with all labels too.
    Its penalty is chosen with such intercepts.
    """
    z, rows = _table(statistics, shown.counts), np.flatnonzero(shown.label != UNKNOWN)
    return fit_readout(
        z[rows],
        shown.label[rows].astype(np.float64),
        subjects=[str(row) for row in rows],
        groups=classes,
        unlabelled=z,
        level=True,
    )


def _answers(
    decoder: TrialDecoder, shown: LabelledTrials, statistics: TrialStatistics, *, asked: Floats, classes: int
) -> dict[str, tuple[Probability, float]]:
    """Return probabilities, [trial, class], and CPU seconds by model; without a label there is no regression."""
    known = shown.label[shown.label != UNKNOWN]
    most_frequent = int(np.bincount(known, minlength=classes).argmax())
    answers = {NULL: (np.tile(np.eye(classes)[most_frequent], (len(asked), 1)), 0.0)}
    started = time.process_time()
    ours = decoder.evidence(shown, statistics).probability(asked)
    answers[TRIALS] = ours, time.process_time() - started
    if len(known):
        started = time.process_time()
        theirs = fit_logistic(shown, statistics, classes=classes).predict(_table(statistics, asked))
        answers[LOGISTIC] = theirs, time.process_time() - started
        answers[AVERAGE] = (ours + theirs) / 2, 0.0
    return answers


def _score(
    probability: Probability, truth: npt.NDArray[np.int64], *, roles: FoldRecording, task: str, model: str
) -> TileScores:
    """Balanced accuracy: of each class the share of trials that were recognised. A trial is a tile."""
    total = np.eye(probability.shape[1])[truth]
    right = probability.argmax(axis=1) == truth
    return TileScores(
        roles=roles, task=task, metric="balanced_accuracy", model=model, gain=total * right[:, None], total=total
    )


def _table(statistics: TrialStatistics, counts: Floats) -> Probability:
    """[trial, unit and patch] in SDs."""
    return statistics.standardised(counts).reshape(len(counts), -1).astype(np.float64)


def _task(name: str, share: float) -> str:
    return f"trial:{name}@{100 * share:g}%"


def _by_dataset(fold: Fold) -> Iterator[list[FoldRecording]]:
    """Yield the recordings of spikes of each dataset that holds some out as a whole."""
    found: defaultdict[str, list[FoldRecording]] = defaultdict(list)
    for entry in fold.recordings:
        if entry.modality is Modality.SPIKES:
            found[entry.dataset].append(entry)
    for _, entries in sorted(found.items()):
        if any(entry.test and entry.kind in UNSEEN for entry in entries):
            # What is scored in its later parts is neither learned from nor of an animal that nobody met.
            yield sorted(
                (entry for entry in entries if entry.kind in UNSEEN or not entry.test), key=lambda entry: entry.name
            )


def _path(shards: Path, entry: FoldRecording) -> Path:
    return shards / entry.dataset / f"{entry.recording}.zarr.zip"
