"""Confusion matrices of our model and of the best baseline, from what was scored already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.comparisons import Traits
from neurofm.evaluation.difference import Differences
from neurofm.evaluation.findings import Confusion, Floats
from neurofm.evaluation.row import OURS
from neurofm.evaluation.scores import TileScores

_METRIC = "balanced_accuracy"
_TASK = "classification:"


def confusions_of(differences: Differences, *, scores: Sequence[TileScores], traits: Traits) -> tuple[Confusion, ...]:
    """Count what was taken for what, wherever a balanced accuracy was compared.

    Parameters
    ----------
    differences
        They say which model of ours and which baseline is shown.
    scores
        Of windows: of two states what was not recognised was taken for the other.
    traits
        Predictions of subjects' attributes; with several seeds the mean count over them.
    """
    by_model: defaultdict[tuple[str, str, str], list[TileScores]] = defaultdict(list)
    for score in scores:
        if score.task.startswith(_TASK) and score.metric == _METRIC and score.gain.shape[1] == 2:
            by_model[score.roles.dataset, score.task, score.model].append(score)
    found = []
    for one in differences.differences:
        for model in (one.ours, one.baseline):
            if one.metric != _METRIC:
                continue
            key = (one.dataset, one.modality, one.task.removeprefix("trait:"), model)
            if parts := by_model.get((one.dataset, one.task, model)):
                classes, counts = _states(one.task), _of_states(parts)
                unit, subjects = "window", len({part.roles.subject for part in parts})
            elif key in traits:
                classes, counts = traits[key].groups, _of_groups(traits, key)
                rows, subjects = len(traits[key].subject), len(set(traits[key].subject))
                unit = "subject" if rows == subjects else "recording"  # of people recorded in several states
            else:  # the null, which knows one class only
                continue
            found.append(
                Confusion(
                    dataset=one.dataset,
                    modality=one.modality,
                    task=one.task,
                    model=model,
                    ours=model.startswith(OURS),
                    unit=unit,
                    subjects=subjects,
                    classes=classes,
                    counts=counts,
                )
            )
    return tuple(found)


def _states(task: str) -> tuple[str, ...]:
    state = task.removeprefix(_TASK).replace("_", " ")
    return f"not {state}", state


def _of_states(parts: Sequence[TileScores]) -> Floats:
    right = np.sum([part.gain.sum(axis=0) for part in parts], axis=0)
    total = np.sum([part.total.sum(axis=0) for part in parts], axis=0)
    wrong = total - right
    return np.array([[right[0], wrong[0]], [wrong[1], right[1]]], dtype=np.float64)


def _of_groups(traits: Traits, key: tuple[str, str, str, str]) -> Floats:
    predictions = traits[key]
    counts = np.zeros((len(predictions.groups),) * 2)
    for chosen in predictions.predicted.argmax(axis=2):
        np.add.at(counts, (predictions.truth.astype(np.int64), chosen), 1.0)
    return counts / len(predictions.predicted)
