"""Audit: what of a fold's scored data was learned from, by the fold, by a model, or by what normalises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from neurofm.splits import UNSEEN, Fold, FoldRecording
from neurofm.windows import RecordingView

LEARNED = "learned from {} subjects"
LEARNED_SESSIONS = "learned from {} sessions"
TRAINED = "trained on {} subjects"
TRAINED_OTHERWISE = "trained by another split on {} recordings"
NEAR = "learned from within a window and the filters' support of {} recordings"
DESCRIBED = "described from what is scored of {} recordings"
COPIED = "learned from a copy of {} recordings"
NORMALISED = "normalised from other samples than the calibration of {} recordings"
_ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One subject, session or recording that is scored and should not be."""

    dataset: str
    unit: str
    """Who or what: counted once, however many folds it leaks in."""
    label: str
    """One of the texts above, with a place for how many of how many."""
    problem: str
    """One line for the error."""
    of_model: bool = False
    """Whether only scores of our model are concerned."""


class Model(Protocol):
    """What the audit asks of a trained model."""

    def trained_on(self, subject: str) -> bool:
        """Whether the subject was seen in training."""

    def learned_as(self, recording: str) -> str | None:
        """Digest of the roles by which the recording was learned from; None where it was not."""


def fold_leaks(
    fold: Fold,
    *,
    number: int,
    same: Mapping[str, Sequence[str]],
    gaps: Mapping[str, int],
    contents: Mapping[str, str],
) -> list[Leak]:
    """Find what a fold both scores and learns from.

    Parameters
    ----------
    fold
        Roles of all recordings.
    number
        Which fold, for the error.
    same
        Further ids of beings, by the one that they have in the fold (`Splits.same`).
    gaps
        Samples by which those that are scored must be apart from all others of the recording, by its name: a window,
        and the support of its filters.
    contents
        Digests of what the recordings hold, by name (`neurofm.splits.candidates.content_of`).
    """
    learned = {who for entry in fold.recordings if entry.train for who in _ids(entry, same)}
    sessions = {entry.unit for entry in fold.recordings if entry.train and entry.kind == "session"}
    by_content: defaultdict[str, list[str]] = defaultdict(list)
    for entry in fold.recordings:
        if entry.train and entry.name in contents:
            by_content[contents[entry.name]].append(entry.name)
    leaks: list[Leak] = []
    for entry in fold.recordings:
        if not entry.test:
            continue
        if entry.kind == "subject" and learned & _ids(entry, same):
            said = f"subject {entry.subject} is scored and learned from in fold {number}"
            leaks.append(Leak(dataset=entry.dataset, unit=entry.subject, label=LEARNED, problem=said))
        if entry.unit in sessions:
            said = f"{entry.unit} of {entry.dataset} is scored and learned from in fold {number}"
            leaks.append(Leak(dataset=entry.dataset, unit=entry.unit, label=LEARNED_SESSIONS, problem=said))
        copies = [name for name in by_content.get(contents.get(entry.name, ""), []) if name != entry.name]
        if copies:
            said = (
                f"{entry.name}, scored in fold {number}, holds the same samples as {copies[0]}, which is learned from"
            )
            leaks.append(Leak(dataset=entry.dataset, unit=entry.name, label=COPIED, problem=said))
        leaks += _of_samples(entry, number=number, gap=gaps.get(entry.name, 0))
    return leaks


def model_leaks(fold: Fold, *, number: int, same: Mapping[str, Sequence[str]], model: Model) -> list[Leak]:
    """Find what a fold scores and a model has learned from.

    A subject that is held out must not have been seen, under any of its ids. Sessions and times that are held out are
    of subjects who were seen: then each recording must have been learned from by the very roles that it has in the
    fold, or not at all if it is held out as a whole.
    """
    leaks: list[Leak] = []
    for entry in fold.recordings:
        if not entry.test or not any(model.trained_on(who) for who in _ids(entry, same)):
            continue
        if entry.kind == "subject":
            said = f"the model of fold {number} was trained on subject {entry.subject}, whom the fold scores"
            leaks.append(Leak(dataset=entry.dataset, unit=entry.subject, label=TRAINED, problem=said, of_model=True))
            continue
        told = model.learned_as(entry.name)
        known = any(model.learned_as(other.name) is not None for other in fold.recordings if other.train)
        if told != entry.digest() if entry.kind == "time" else told is not None or not known:
            said = f"the model of fold {number} was trained on {entry.name} by other roles than the fold scores it by"
            leaks.append(
                Leak(dataset=entry.dataset, unit=entry.name, label=TRAINED_OTHERWISE, problem=said, of_model=True)
            )
    return leaks


def view_leaks(views: Collection[RecordingView], *, number: int) -> list[Leak]:
    """Find recordings that are scored and normalised from anything but their calibration.

    Mean and SD are computed anew, from the calibration's valid samples alone, and compared with the normaliser's.
    """
    leaks: list[Leak] = []
    for view in views:
        if not view.roles.test:
            continue
        samples = _calibration(view)
        usable, normaliser = view.usable, view.normaliser
        if len(samples):
            mean, sd = samples.mean(axis=0)[usable], samples.std(axis=0)[usable]
            # In SDs, and far above what rounding does.
            off = np.maximum(np.abs(mean - normaliser.mean[usable]), np.abs(sd - normaliser.sd[usable]))
            right = bool((off <= _ROUNDING * sd).all())
        else:
            right = not usable.any()
        if not right:
            said = f"{view.name} is normalised from other samples than its calibration in fold {number}"
            leaks.append(Leak(dataset=view.dataset, unit=view.name, label=NORMALISED, problem=said))
    return leaks


def _calibration(view: RecordingView) -> npt.NDArray[np.float64]:
    """[sample, channel] what may be looked at, in physical units."""
    parts = [
        (view.values(part.start, part.stop), view.valid[part.start : part.stop]) for part in view.roles.calibration
    ]
    none = np.empty((0, len(view.channel_ids)))
    return np.concatenate([none, *(values[valid].astype(np.float64) for values, valid in parts)])


def _of_samples(entry: FoldRecording, *, number: int, gap: int) -> list[Leak]:
    """Find samples that are scored next to, or are, what the recording is learned from, chosen on or described from."""
    # What is held out as a whole is described from its own beginning, unlabelled, right up to what is scored.
    others = (
        entry.train + entry.validation if entry.kind in UNSEEN else entry.train + entry.calibration + entry.validation
    )
    for scored in entry.test:
        if any(scored.meets(other, gap=gap) for other in others):
            said = (
                f"{entry.name}: in fold {number} samples {scored.start}-{scored.stop} are scored within {gap} samples "
                "of what is learned from"
            )
            return [Leak(dataset=entry.dataset, unit=entry.name, label=NEAR, problem=said)]
        if any(scored.meets(other) for other in entry.calibration):
            said = f"{entry.name}: in fold {number} samples {scored.start}-{scored.stop} are scored and normalised from"
            return [Leak(dataset=entry.dataset, unit=entry.name, label=DESCRIBED, problem=said)]
    return []


def _ids(entry: FoldRecording, same: Mapping[str, Sequence[str]]) -> set[str]:
    return {entry.subject, *same.get(entry.subject, ())}
