"""Scores have their textbook values, and intervals cover."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neurofm.evaluation.scores import bootstrap, correlations, paired_bootstrap, poisson_bits, ratio, squares, swapped_p

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(loc=2.0, size=(5, 10, 3))
COUNTED = np.ones((5, 10), dtype=bool)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [(TRUTH, 1.0), (np.broadcast_to(TRUTH.mean(axis=(0, 1)), TRUTH.shape), 0.0), (TRUTH + 1.0, None)],
    ids=["truth", "mean", "off by one"],
)
def test_r2(predicted: np.ndarray, expected: float | None) -> None:
    gain, total = squares(TRUTH, predicted, COUNTED)
    if expected is None:
        expected = 1 - 3 / TRUTH.var(axis=(0, 1)).sum()
    assert ratio(gain.sum(axis=1, keepdims=True), total.sum(axis=1, keepdims=True)) == pytest.approx(expected)


def test_samples_that_do_not_count_do_not_matter() -> None:
    counted = COUNTED.copy()
    counted[0, :4] = False
    wrong = TRUTH.copy()
    wrong[0, :4] = 1e6
    for one, other in zip(squares(TRUTH, TRUTH + 0.1, counted), squares(wrong, TRUTH + 0.1, counted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bits_per_spike_of_the_true_rate_is_its_information() -> None:
    rate = RNG.choice([0.1, 1.9], size=(100, 100, 2))
    counts = RNG.poisson(rate).astype(float)
    counted = np.ones((100, 100), dtype=bool)
    null = np.array([1.0, 1.0])
    bits = poisson_bits(counts, rate, null, counted).sum() / counts.sum()
    expected = np.mean([0.1 * np.log2(0.1), 1.9 * np.log2(1.9)])
    assert bits == pytest.approx(expected, abs=0.03)
    assert bits > 0
    assert (poisson_bits(counts, np.broadcast_to(null, rate.shape), null, counted) == 0).all()


def test_an_undefined_share_is_nan_and_not_a_warning() -> None:
    assert np.isnan(ratio(np.zeros((2, 1)), np.zeros((2, 1))))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        values = rng.normal(loc=0.5, size=(40, 1))
        low, high = bootstrap(values, np.ones_like(values), samples=400, seed=trial)
        covered += low <= 0.5 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_interval_follows_from_the_seed() -> None:
    values = RNG.normal(size=(20, 1))
    intervals = [bootstrap(values, np.ones_like(values), samples=100, seed=seed) for seed in (1, 1, 2)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_paired_differences_leave_out_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(40, 1))
    total = np.ones((40, 1))
    ours, theirs = hard + 0.1 + 0.05 * rng.normal(size=(40, 1)), hard
    value, low, high = paired_bootstrap((ours, total), (theirs, total), samples=300, seed=1)
    assert value == pytest.approx(float((ours - theirs).mean()))
    assert 0.05 < low < value < high < 0.15
    alone = bootstrap(ours, total, samples=300, seed=1)
    assert high - low < 0.2 * (alone[1] - alone[0])
    _, lower, higher = paired_bootstrap((ours, total), (theirs, total), samples=300, seed=1, comparisons=10)
    assert lower < low < high < higher
    with pytest.raises(ValueError, match="40 and 39 units"):
        paired_bootstrap((ours, total), (theirs[1:], total[1:]), samples=10, seed=1)


@pytest.mark.parametrize("units", [5, 20], ids=["all ways", "drawn"])
def test_where_nothing_could_be_gained_no_difference_is_found(units: int) -> None:
    gain = np.ones((units, 2))
    total = np.ones((units, 2))
    assert swapped_p((gain, total), (gain * 0, total), seed=1) < 0.1
    total[:, 1] = 0
    assert swapped_p((gain, total), (gain * 0, total), seed=1) == 1.0


def test_correlations_are_those_of_each_channel_of_each_window() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 4, 30, 3))
    counted = rng.random((4, 30, 3)) < 0.7
    counted[3] = np.arange(30)[:, None] < 2  # two samples, whose coefficients are 1 or -1
    truth[1, :, 2] = 0.3  # does not move: has none
    predicted[2, :, 1] = 7.0  # does not move: 0
    gain, total = correlations(truth, predicted, counted)
    expected = np.zeros((4, 3))
    for tile, column in product(range(4), range(3)):
        kept = counted[tile, :, column]
        if (tile, column) not in {(1, 2), (2, 1)}:
            expected[tile, column] = np.corrcoef(truth[tile, kept, column], predicted[tile, kept, column])[0, 1]
    samples = counted.sum(axis=1)
    np.testing.assert_allclose(gain, (samples * expected).sum(axis=1), atol=1e-10)
    samples[1, 2] = 0
    assert total.tolist() == samples.sum(axis=1).tolist()
    assert total[3] == 6
