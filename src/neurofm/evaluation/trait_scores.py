"""Scores of predicted traits, with intervals over subjects and seeds, and paired differences between models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.row import NULL

Floats = npt.NDArray[np.float64]

TRAIT_UNITS = {
    "auc": "share of pairs",
    "balanced_accuracy": "share of subjects",
    "r": "correlation",
    "R2": "share of variance",
}
"""Unit of each metric; all of them are better when higher."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one model predicted of every unit, once per seed: when its subject was held out."""

    model: str
    groups: tuple[str, ...]
    """Empty where a number is predicted."""
    subject: tuple[str, ...]
    """[unit] what is resampled."""
    truth: Floats
    """[unit] the number, or the index of the group."""
    fold: npt.NDArray[np.int64]
    """[seed, unit] by which read-out."""
    predicted: Floats
    """[seed, unit, column] the number, or the probability of each group."""
    null: Floats
    """[seed, unit, column] the same by what knows only the training subjects' mean, or their shares."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Which scores it has."""
        return ("auc", "balanced_accuracy") if self.groups else ("r", "R2")

    @property
    def can_be_scored(self) -> bool:
        """Whether there are two people to compare, and of groups somebody of each."""
        return len(set(self.subject)) > 1 and len(set(self.truth)) >= len(self.groups)

    def of_null(self) -> Predictions:
        """Return the null's own predictions."""
        return Predictions(
            model=NULL,
            groups=self.groups,
            subject=self.subject,
            truth=self.truth,
            fold=self.fold,
            predicted=self.null,
            null=self.null,
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score, or a difference of scores, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How often, and from which seed, subjects and seeds are drawn anew."""

    samples: int
    seed: int

    def weights(self, predictions: Predictions) -> tuple[Floats, Floats]:
        """Draw with replacement; the same for all models of the same subjects and seeds.

        Returns
        -------
        [draw, unit] how often each unit counts (with its subject), and [draw, seed] shares of the seeds.
        """
        rng = np.random.default_rng(self.seed)
        names, member = np.unique(np.array(predictions.subject), return_inverse=True)
        seeds = len(predictions.predicted)
        subjects = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=self.samples)
        runs = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=self.samples) / seeds
        return subjects[:, member].astype(np.float64), runs


def estimate(predictions: Predictions, metric: str, *, resampling: Resampling) -> Estimate:
    """Score one model: the mean over seeds, with a 95 % percentile interval over subjects and seeds."""
    weights, runs = resampling.weights(predictions)
    score = _SCORES[metric]
    everyone = np.ones((1, len(predictions.truth)))
    drawn = (score(predictions, weights) * runs).sum(axis=1)
    return _interval(float(score(predictions, everyone).mean()), drawn, comparisons=1)


def paired_difference(
    ours: Predictions, theirs: Predictions, metric: str, *, resampling: Resampling, comparisons: int = 1
) -> Estimate:
    """Score of one model minus another's, both on the same draws of subjects and seeds.

    What is hard for both models cancels out, so the interval is narrower than those of the two scores suggest.

    Parameters
    ----------
    ours, theirs
        Of the same units, seeds and folds.
    metric
        One of their `Predictions.metrics`.
    resampling
        Draws.
    comparisons
        How many such differences are looked at together. The interval then covers all of them with 95 % (Bonferroni):
        of twenty models that are equal, one would otherwise seem better by chance.

    Raises
    ------
    ValueError
        If the two are not of the same units in the same folds.
    """
    if ours.subject != theirs.subject or not np.array_equal(ours.fold, theirs.fold):
        msg = f"{ours.model} and {theirs.model} were not predicted of the same subjects in the same folds"
        raise ValueError(msg)
    weights, runs = resampling.weights(ours)
    score = _SCORES[metric]
    everyone = np.ones((1, len(ours.truth)))
    drawn = ((score(ours, weights) - score(theirs, weights)) * runs).sum(axis=1)
    value = float((score(ours, everyone) - score(theirs, everyone)).mean())
    return _interval(value, drawn, comparisons=comparisons)


def paired_p(ours: Predictions, theirs: Predictions, metric: str, *, resampling: Resampling) -> float:
    """How often the difference is at least as large, either way, when models are swapped at random within subjects.

    Parameters
    ----------
    ours, theirs, metric
        As `paired_difference`.
    resampling
        How many draws, from which seed.

    Returns
    -------
    two-sided p, not below one over the number of draws; see `neurofm.evaluation.scores.swapped_p`.
    """
    score, everyone = _SCORES[metric], np.ones((1, len(ours.truth)))

    def difference(swapped: npt.NDArray[np.bool_]) -> float:
        first, second = (
            replace(ours, predicted=np.where(swapped[None, :, None], *pair))
            for pair in ((theirs.predicted, ours.predicted), (ours.predicted, theirs.predicted))
        )
        return abs(float((score(first, everyone) - score(second, everyone)).mean()))

    names, member = np.unique(np.array(ours.subject), return_inverse=True)
    drawn = np.random.default_rng(resampling.seed).integers(2, size=(resampling.samples, len(names))).astype(np.bool_)
    observed = difference(np.zeros(len(member), dtype=np.bool_)) * (1 - 1e-9)
    reached = sum(difference(swap[member]) >= observed for swap in drawn)
    return (1 + reached) / (1 + resampling.samples)


def _interval(value: float, drawn: Floats, *, comparisons: int) -> Estimate:
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Estimate(value=value, low=float(low), high=float(high))


def _auc(predictions: Predictions, weights: Floats) -> Floats:
    """Area under the ROC curve: the share of pairs, one in the group and one not, that are ordered rightly.

    Pairs are of one fold, since read-outs of two folds need not agree on where a probability begins. Of several groups
    the mean over groups of one against the rest.

    Parameters
    ----------
    predictions
        Of groups.
    weights
        [draw, unit]

    Returns
    -------
    [draw, seed]; NaN where a draw has no pair.
    """
    areas = np.zeros((len(weights), len(predictions.predicted), len(predictions.groups)))
    for group in range(len(predictions.groups)):
        inside = predictions.truth == group
        for seed, probability in enumerate(predictions.predicted[..., group]):
            fold = predictions.fold[seed]
            together = fold[inside][:, None] == fold[~inside]
            high, low = probability[inside][:, None], probability[~inside]
            right = together * ((high > low) + 0.5 * (high == low))
            gain = np.einsum("dp,pn,dn->d", weights[:, inside], right, weights[:, ~inside], optimize=True)
            total = np.einsum("dp,pn,dn->d", weights[:, inside], together, weights[:, ~inside], optimize=True)
            areas[:, seed, group] = _divided(gain, total)
    return np.asarray(areas.mean(axis=2), dtype=np.float64)


def _balanced_accuracy(predictions: Predictions, weights: Floats) -> Floats:
    """Of each group the share that is recognised, averaged over groups: [draw, seed]."""
    right = (predictions.predicted.argmax(axis=2) == predictions.truth).astype(np.float64)
    shares = []
    for group in range(len(predictions.groups)):
        own = weights * (predictions.truth == group)
        shares.append(_divided(own @ right.T, own.sum(axis=1, keepdims=True)))
    return np.asarray(np.mean(shares, axis=0), dtype=np.float64)


def _pearson(predictions: Predictions, weights: Floats) -> Floats:
    """Correlation of predicted and true numbers around the means of their fold, and around their null: [draw, seed].

    Without them even the null correlates: where those held out are old, those learned from are young.
    """
    found = np.zeros((len(weights), len(predictions.predicted)))
    for seed, predicted in enumerate((predictions.predicted - predictions.null)[..., 0]):
        sums = np.zeros((3, len(weights)))
        for fold in np.unique(predictions.fold[seed]):
            own = predictions.fold[seed] == fold
            w = weights[:, own]
            total = np.maximum(w.sum(axis=1), 1.0)
            x, y = predicted[own], predictions.truth[own]
            mx, my = (w @ x) / total, (w @ y) / total
            sums += np.stack([w @ (x * y) - total * mx * my, w @ x**2 - total * mx**2, w @ y**2 - total * my**2])
        covariance, of_predicted, of_truth = sums
        # What is the same for all of a fold says nothing; the rest of a difference of sums is rounding.
        tiny = 1e-9 * (weights @ predicted**2)
        spread = np.sqrt(np.where(of_predicted > tiny, of_predicted, 0.0) * np.maximum(of_truth, 0.0))
        found[:, seed] = np.divide(covariance, spread, out=np.zeros(len(weights)), where=spread > 0)
    return found


def _explained(predictions: Predictions, weights: Floats) -> Floats:
    """1 - squared error over that of the training subjects' mean: [draw, seed]."""
    error = ((predictions.predicted[..., 0] - predictions.truth) ** 2).T
    null = ((predictions.null[..., 0] - predictions.truth) ** 2).T
    return np.asarray(1 - _divided(weights @ error, weights @ null), dtype=np.float64)


def _divided(gain: Floats, total: Floats) -> Floats:
    total = np.broadcast_to(total, gain.shape)
    share: Floats = np.divide(gain, total, out=np.full(gain.shape, np.nan), where=total > 0)
    return share


_SCORES: dict[str, Callable[[Predictions, Floats], Floats]] = {
    "auc": _auc,
    "balanced_accuracy": _balanced_accuracy,
    "r": _pearson,
    "R2": _explained,
}


def joined(parts: Sequence[Sequence[Predictions]]) -> Predictions:
    """Join predictions of one model: [seed][fold], each of the units that the fold holds out.

    Units are in the order of subject and value in the result, whatever the folds were. Where every fold holds out one
    person alone there is nobody to compare them with, and all folds count as one: read-outs of groups weigh all groups
    the same and those of numbers are compared around what their null says, so that neither gains by who is left out.
    """
    first = parts[0][0]
    alone = all(len(set(part.subject)) == 1 for folds in parts for part in folds)
    rows = []
    for folds in parts:
        subject = [name for part in folds for name in part.subject]
        truth = np.concatenate([part.truth for part in folds])
        order = sorted(range(len(subject)), key=lambda index: (subject[index], truth[index]))
        fold = np.concatenate([np.full(len(part.truth), 0 if alone else number) for number, part in enumerate(folds)])
        predicted = np.concatenate([part.predicted[0] for part in folds])
        null = np.concatenate([part.null[0] for part in folds])
        if alone and first.groups:
            # Whoever is left out, their group is the rarer: shares of the others would order people backwards.
            null = np.broadcast_to(null.mean(axis=0), null.shape)
        rows.append(([subject[index] for index in order], truth[order], fold[order], predicted[order], null[order]))
    return Predictions(
        model=first.model,
        groups=first.groups,
        subject=tuple(rows[0][0]),
        truth=rows[0][1],
        fold=np.stack([row[2] for row in rows]),
        predicted=np.stack([row[3] for row in rows]),
        null=np.stack([row[4] for row in rows]),
    )
