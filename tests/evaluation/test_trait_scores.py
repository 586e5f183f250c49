"""Scores are those of scikit-learn and numpy; intervals resample people; the null scores nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from neurofm.evaluation.trait_scores import Predictions, Resampling, estimate, joined, paired_difference

RESAMPLING = Resampling(samples=400, seed=1)
PEOPLE = 40


def _groups(*, signal: float, seed: int = 0, folds: int = 1, model: str = "a", noise_seed: int = 5) -> Predictions:
    truth = np.arange(PEOPLE) % 2
    common = np.random.default_rng(noise_seed).normal(size=PEOPLE)
    logit = signal * (2 * truth - 1) + common + 0.2 * np.random.default_rng(seed).normal(size=PEOPLE)
    one = 1 / (1 + np.exp(-logit))
    probability = np.stack([1 - one, one], axis=1)[None]
    return Predictions(
        model=model,
        groups=("a", "b"),
        subject=tuple(f"s{number:02d}" for number in range(PEOPLE)),
        truth=truth.astype(np.float64),
        fold=(np.arange(PEOPLE)[None] // 2) % folds,
        predicted=probability,
        null=np.full_like(probability, 0.5),
    )


def _numbers(*, folds: int = 1) -> Predictions:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=PEOPLE) * 4 + 20
    fold = np.arange(PEOPLE) % folds
    null = np.array([truth[fold != own].mean() if folds > 1 else 20.0 for own in fold])
    return Predictions(
        model="a",
        groups=(),
        subject=tuple(f"s{number:02d}" for number in range(PEOPLE)),
        truth=truth,
        fold=fold[None],
        predicted=(0.6 * truth + 8 + 2 * rng.normal(size=PEOPLE))[None, :, None],
        null=null[None, :, None],
    )


def test_of_one_fold_they_are_the_known_ones() -> None:
    groups, numbers = _groups(signal=0.8), _numbers()
    values = {metric: estimate(groups, metric, resampling=RESAMPLING) for metric in groups.metrics}
    assert values["auc"].value == pytest.approx(roc_auc_score(groups.truth, groups.predicted[0, :, 1]))
    recognised = groups.predicted[0].argmax(axis=1)
    assert values["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(groups.truth, recognised))
    flat = numbers.predicted[0, :, 0]
    r = estimate(numbers, "r", resampling=RESAMPLING)
    assert r.value == pytest.approx(np.corrcoef(flat, numbers.truth)[0, 1])
    at_mean = replace(numbers, null=np.full_like(numbers.null, numbers.truth.mean()))
    explained = estimate(at_mean, "R2", resampling=RESAMPLING).value
    assert explained == pytest.approx(r2_score(numbers.truth, flat))
    for score in (*values.values(), r):
        assert score.low < score.value < score.high


def test_three_groups_are_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(PEOPLE) % 3
    probability = rng.dirichlet(np.ones(3), size=PEOPLE) + 0.4 * np.eye(3)[truth]
    probability /= probability.sum(axis=1, keepdims=True)
    made = replace(
        _groups(signal=0.0),
        groups=("a", "b", "c"),
        truth=truth.astype(np.float64),
        predicted=probability[None],
        null=np.full((1, PEOPLE, 3), 1 / 3),
    )
    expected = roc_auc_score(truth, probability, multi_class="ovr", average="macro")
    assert estimate(made, "auc", resampling=RESAMPLING).value == pytest.approx(expected)


def test_the_null_scores_nothing_whatever_the_folds() -> None:
    for made, metric, value in (
        (_groups(signal=1.0, folds=5), "auc", 0.5),
        (_groups(signal=1.0, folds=5), "balanced_accuracy", 0.5),
        (_numbers(folds=5), "R2", 0.0),
        (_numbers(folds=5), "r", 0.0),
    ):
        null = estimate(made.of_null(), metric, resampling=RESAMPLING)
        assert (null.value, null.low, null.high) == (value, value, value), metric
    # As it would be without folds: who is held out is far from the mean of the rest.
    numbers = _numbers(folds=5)
    assert np.corrcoef(numbers.null[0, :, 0], numbers.truth)[0, 1] < -0.1


def test_probabilities_of_two_folds_are_not_compared() -> None:
    made = _groups(signal=3.0, folds=2)
    shifted = made.predicted.copy()
    shifted[0, made.fold[0] == 1] = [0.999, 0.001] + 1e-4 * (shifted[0, made.fold[0] == 1] - 0.5)
    moved = replace(made, predicted=shifted)
    assert roc_auc_score(made.truth, shifted[0, :, 1]) < 0.9
    value = estimate(moved, "auc", resampling=RESAMPLING).value
    assert value == pytest.approx(estimate(made, "auc", resampling=RESAMPLING).value)


def test_both_states_of_a_person_are_drawn_together() -> None:
    alone = _groups(signal=0.8)
    paired = replace(alone, subject=tuple(f"s{number // 8:02d}" for number in range(PEOPLE)))
    weights, _ = RESAMPLING.weights(paired)
    assert all((weights[:, first : first + 8] == weights[:, [first]]).all() for first in range(0, PEOPLE, 8))
    wide, narrow = (estimate(made, "auc", resampling=RESAMPLING) for made in (paired, alone))
    assert (wide.low, wide.high) != (narrow.low, narrow.high)


def test_paired_differences_are_narrower_than_those_of_strangers() -> None:
    better, worse = _groups(signal=0.9, seed=1), _groups(signal=0.5, seed=2, model="b")
    difference = paired_difference(better, worse, "auc", resampling=RESAMPLING)
    scores = [estimate(made, "auc", resampling=RESAMPLING) for made in (better, worse)]
    assert difference.value == pytest.approx(scores[0].value - scores[1].value)
    assert difference.low > 0
    of_strangers = math.hypot(*(score.high - score.low for score in scores))
    assert difference.high - difference.low < 0.9 * of_strangers
    same = paired_difference(better, better, "auc", resampling=RESAMPLING)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    many = paired_difference(better, worse, "auc", resampling=RESAMPLING, comparisons=10)
    assert many.low < difference.low
    with pytest.raises(ValueError, match="same folds"):
        paired_difference(better, _groups(signal=0.5, folds=2), "auc", resampling=RESAMPLING)


def test_seeds_widen_the_interval() -> None:
    first, second = _groups(signal=1.5), _groups(signal=-1.5, noise_seed=6)
    both = joined([[first], [second]])
    score = estimate(both, "auc", resampling=RESAMPLING)
    assert score.value == pytest.approx(
        np.mean([estimate(made, "auc", resampling=RESAMPLING).value for made in (first, second)])
    )
    assert score.low < 0.3
    assert score.high > 0.7


def test_folds_are_joined_in_the_order_of_subjects() -> None:
    whole = _groups(signal=1.0, folds=2)
    parts = []
    for fold in (1, 0):
        kept = np.flatnonzero(whole.fold[0] == fold)
        parts.append(
            replace(
                whole,
                subject=tuple(whole.subject[index] for index in kept),
                truth=whole.truth[kept],
                fold=np.zeros((1, len(kept)), dtype=np.int64),
                predicted=whole.predicted[:, kept],
                null=whole.null[:, kept],
            )
        )
    made = joined([parts])
    assert made.subject == whole.subject
    np.testing.assert_array_equal(made.predicted, whole.predicted)
    np.testing.assert_array_equal(made.fold, 1 - whole.fold)
