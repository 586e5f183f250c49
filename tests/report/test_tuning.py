"""Tuning: what is known to be tuned is found, and what is not is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.report.tuning import Tuning, bins_of_angle, bins_of_place, bins_of_value, levels_of, responses, tune
from neurofm.shards import read_shard


@pytest.fixture(scope="module")
def a2929(finished: Path) -> Tuning:
    (path,) = (finished / "data" / "shards" / "a2929-hd").glob("*.zip")
    shard = read_shard(path)
    level = bins_of_angle(shard.recording.targets["head_direction"].values, bins=24)
    found = tune(shard.values(), level, levels=24, min_occupancy=50, min_shift=1000, shuffles=99, seed=1, counts=True)
    assert found is not None
    return found


def test_a2929s_head_direction_cells_are_the_most_tuned(a2929: Tuning, finished: Path) -> None:
    # The laboratory calls 7 of the 15 units of the anterior thalamus (ADn) head-direction cells, 8 are of CA1.
    (path,) = (finished / "data" / "shards" / "a2929-hd").glob("*.zip")
    region = read_shard(path).recording.channels.region
    assert {region[unit] for unit in a2929.order[:7]} == {"adn"}
    assert {region[unit] for unit in a2929.order[7:]} == {"ca1"}
    assert (a2929.p[a2929.order[:7]] == 0.01).all()
    assert (a2929.reliability[a2929.order[:7]] > 0.9).all()


def test_head_direction_cells_leave_the_null_band(a2929: Tuning) -> None:
    above = (a2929.mean > a2929.null_high).any(axis=0) & (a2929.mean < a2929.null_low).any(axis=0)
    assert np.asarray(above)[a2929.order[:7]].all()


def simulated(*, gain: float, samples: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Poisson counts of a unit with a known curve over 10 levels, of a variable that drifts as behaviour does."""
    generator = np.random.default_rng(3)
    walk = np.cumsum(generator.normal(scale=0.1, size=samples))
    level = (walk % 1.0 * 10).astype(np.int64)
    rate = 0.1 * np.exp(gain * np.cos(level / 10 * 2 * np.pi))
    return generator.poisson(rate[:, np.newaxis], size=(samples, 3)), level


def test_a_known_curve_and_its_information_are_found() -> None:
    counts, level = simulated(gain=1.0)
    found = tune(counts, level, levels=10, min_occupancy=100, min_shift=500, shuffles=99, seed=1, counts=True)
    assert found is not None
    truth = 0.1 * np.exp(np.cos(np.arange(10) / 10 * 2 * np.pi))
    error = np.sqrt(truth / found.occupancy)[:, np.newaxis]  # of a Poisson count
    assert (np.abs(found.mean - truth[:, np.newaxis]) < 4 * error).all()
    share = found.occupancy / found.occupancy.sum()
    relative = truth / (share @ truth)
    np.testing.assert_allclose(found.information, share @ (relative * np.log2(relative)), rtol=0.12)
    assert (found.p == 0.01).all()


def test_a_flat_curve_says_nothing() -> None:
    counts, level = simulated(gain=0.0)
    found = tune(counts, level, levels=10, min_occupancy=100, min_shift=500, shuffles=99, seed=1, counts=True)
    assert found is not None
    assert (np.abs(found.information) < 0.01).all()
    assert (found.p > 0.02).all()
    inside = (found.mean >= found.null_low) & (found.mean <= found.null_high)
    assert inside.mean() > 0.8


def test_levels_that_are_rare_are_left_out() -> None:
    counts, level = simulated(gain=1.0)
    level[level == 4] = -1
    level[:3] = 4
    found = tune(counts, level, levels=10, min_occupancy=100, min_shift=500, shuffles=9, seed=1, counts=True)
    assert found is not None
    assert np.isnan(found.mean[4]).all()
    assert np.isfinite(np.delete(found.mean, 4, axis=0)).all()


def test_variance_between_trials_of_two_levels() -> None:
    level = np.tile([0, 1], 30)
    trials = np.column_stack([level * 2.0 - 5.0, np.arange(60) // 2 % 2]).astype(np.float64)
    found = tune(trials, level, levels=2, min_occupancy=5, min_shift=0, shuffles=99, seed=1, counts=False)
    assert found is not None
    assert found.information[0] > 0.9
    assert abs(found.information[1]) < 0.1
    assert found.p[0] == 0.01
    assert found.p[1] > 0.5


def test_too_little_data_gives_none() -> None:
    counts, level = simulated(gain=1.0, samples=150)
    assert tune(counts, level, levels=10, min_occupancy=5, min_shift=60, shuffles=9, seed=1, counts=True) is None


def test_bins() -> None:
    values = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [np.nan, 0.0]])
    assert bins_of_angle(values, bins=4).tolist() == [0, 1, 2, 3, -1]
    place, edges = bins_of_value(np.append(np.linspace(0, 1, 1001), [np.nan, 50.0]), bins=5)
    assert place[[1001, 1002]].tolist() == [-1, -1]
    assert set(place) == {-1, 0, 1, 2, 3, 4}
    assert edges[0] == pytest.approx(0.005, abs=0.001)
    assert (bins_of_value(np.ones(9), bins=5)[0] == -1).all()
    cells, _ = bins_of_place(np.stack(np.meshgrid(np.arange(100.0), np.arange(100.0)), axis=-1).reshape(-1, 2), bins=2)
    assert cells[50 * 100 + 20] == 2, "second row, first column"


def test_levels_of_numbers_and_of_texts() -> None:
    found = levels_of(np.array([90.0, 0.0, np.nan, 45.0, 0.0]))
    assert found is not None
    assert (found.names, found.of.tolist(), found.ordered) == (("0", "45", "90"), [2, 0, -1, 1, 0], True)
    texts = levels_of(("right", "left", "", "left", "n/a"))
    assert texts is not None
    assert (texts.names, texts.of.tolist(), texts.ordered) == (("left", "right"), [1, 0, -1, 0, -1], False)
    assert levels_of(np.ones(9)) is None
    assert levels_of(np.arange(13.0)) is None
    assert levels_of(np.arange(12.0)) is not None


def test_levels_that_lie_in_blocks() -> None:
    blocked, mixed = levels_of(np.repeat([0.0, 1.0, 0.0, 1.0], 25)), levels_of(np.tile([0.0, 1.0, 1.0, 0.0], 25))
    assert blocked is not None
    assert mixed is not None
    assert blocked.in_blocks
    assert not mixed.in_blocks


def test_responses_are_means_over_valid_samples_of_the_event() -> None:
    activity = np.arange(20.0)[:, np.newaxis]
    valid = np.ones(20, dtype=np.bool_)
    valid[[2, 10, 11, 12]] = False
    start = np.array([1.0, 3.5, 10.0, 5.0000001, 19.2, np.nan, -2.0])
    stop = np.array([5.0, 6.5, 14.0, 5.2, 19.4, 4.0, 2.0])
    found = responses(activity, valid, start=start, stop=stop)[:, 0]
    np.testing.assert_allclose(found[[0, 1, 3]], [(1 + 3 + 4) / 3, 5.0, 5.0])
    assert np.isnan(found[[2, 4, 5, 6]]).all(), "mostly not valid, after the end, no onset, before the beginning"
