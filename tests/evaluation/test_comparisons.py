"""Paired differences: what is hard for both cancels out, few subjects cannot give a small p, and many are corrected."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from neurofm.evaluation.comparisons import compare
from neurofm.evaluation.difference import holm
from neurofm.evaluation.scoreboard import best_baseline, make_rows, summarise
from neurofm.evaluation.scores import TileScores, ratio, swapped_p
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trait_scores import Predictions, Resampling, estimate, paired_p
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind
from tests.evaluation.conftest import spans

PEOPLE = 24


def _tiles(model: str, shares: list[float], *, recording: str = "r", kind: Kind = "time") -> TileScores:
    roles = FoldRecording(
        dataset="d",
        recording=recording,
        subject=f"lab:{recording}",
        modality=Modality.EEG,
        kind=kind,
        calibration=spans([(0, 9)]),
    )
    total = (1.0 + np.arange(len(shares), dtype=np.float64))[:, None]
    gain = total * np.array(shares)[:, None]
    return TileScores(roles=roles, task="masked_reconstruction", metric="R2", model=model, gain=gain, total=total)


def _scores(*, ours: list[float], ridge: list[float], kind: Kind = "time") -> list[TileScores]:
    """Per tile, or one tile for each subject."""
    by_model = {"null": [0.0] * len(ours), "neurofm": ours, "neurofm-linear-core": ours, "ridge": ridge}
    if kind == "time":
        return [_tiles(model, shares) for model, shares in by_model.items()]
    return [
        _tiles(model, [share], recording=f"s{number}", kind=kind)
        for model, shares in by_model.items()
        for number, share in enumerate(shares)
    ]


def test_the_difference_is_that_of_the_scoreboard(settings: EvaluateSettings) -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 0.8, size=30)
    scores = _scores(ours=(hard + 0.1).tolist(), ridge=(hard + 0.02 * rng.normal(size=30)).tolist())
    rows = make_rows(scores, folds=3, settings=settings)
    (found,) = compare(rows, scores=scores, traits={}, settings=settings).differences
    summary = summarise(rows)["d"]["masked_reconstruction"]["R2"]
    assert found.value == pytest.approx(summary["neurofm_minus_best_baseline"], abs=2e-6)
    assert found.name == "d/masked_reconstruction/R2"
    assert (found.ours, found.baseline, found.n, found.ci_unit) == ("neurofm", "ridge", 30, "time block")
    assert found.ci_low < found.value < found.ci_high
    best = best_baseline(rows, dataset="d", task="masked_reconstruction", metric="R2")
    assert found.ci_high - found.ci_low < 0.2 * (best.ci_high - best.ci_low), "what is hard for both cancels out"
    assert found.p == found.p_holm == pytest.approx(1e-4)


def test_few_subjects_cannot_give_a_small_p(settings: EvaluateSettings) -> None:
    scores = _scores(ours=[0.5, 0.6, 0.7, 0.55, 0.65], ridge=[0.4, 0.5, 0.6, 0.45, 0.55], kind="subject")
    rows = make_rows(scores, folds=3, settings=settings)
    (found,) = compare(rows, scores=scores, traits={}, settings=settings).differences
    assert found.ci_low > 0.09
    assert (found.n, found.p) == (5, 2 / 32)


def test_recordings_that_one_model_lacks_are_not_compared(settings: EvaluateSettings) -> None:
    scores = [*_scores(ours=[0.5, 0.6], ridge=[0.4, 0.3]), _tiles("neurofm", [0.9], recording="alone")]
    scores.append(_tiles("null", [0.0], recording="alone"))
    rows = make_rows(scores, folds=3, settings=settings)
    (found,) = compare(rows, scores=scores, traits={}, settings=settings).differences
    assert found.n == 2
    assert found.value == pytest.approx((0.1 + 2 * 0.3) / 3, abs=1e-6)


@pytest.mark.parametrize("units", [6, 40])
def test_p_is_that_of_all_ways_to_swap(units: int) -> None:
    """Exactly for a few units, of two columns as a balanced accuracy has; drawn for more."""
    rng = np.random.default_rng(units)
    total = rng.integers(0, 5, size=(units, 2)).astype(np.float64)
    ours, theirs = (rng.uniform(size=(units, 2)) * total for _ in range(2))
    observed = abs(ratio(ours, total) - ratio(theirs, total))
    ways = (
        np.array(list(product([False, True], repeat=units)))
        if units < 10
        else rng.integers(2, size=(4000, units)).astype(bool)
    )
    swapped = [
        ratio(np.where(way[:, None], theirs, ours), total) - ratio(np.where(way[:, None], ours, theirs), total)
        for way in ways
    ]
    expected = np.mean(np.abs(swapped) >= observed - 1e-12)
    assert swapped_p((ours, total), (theirs, total), seed=1) == pytest.approx(
        expected, abs=1e-9 if units < 10 else 0.03
    )


def test_holm_multiplies_by_what_is_left_and_never_turns_around() -> None:
    assert holm([0.03, 0.01, 0.04, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def _predictions(*, error: float, seed: int, model: str) -> Predictions:
    truth = np.linspace(20, 60, PEOPLE)
    predicted = truth + error * np.random.default_rng(seed).normal(size=PEOPLE)
    return Predictions(
        model=model,
        groups=(),
        subject=tuple(f"s{number:02d}" for number in range(PEOPLE)),
        truth=truth,
        fold=np.zeros((1, PEOPLE), dtype=np.int64),
        predicted=predicted[None, :, None],
        null=np.full((1, PEOPLE, 1), truth.mean()),
    )


def test_traits_are_paired_by_subject() -> None:
    resampling = Resampling(samples=200, seed=1)
    good, bad = _predictions(error=2.0, seed=1, model="a"), _predictions(error=20.0, seed=2, model="b")
    equal = _predictions(error=2.0, seed=3, model="c")
    assert paired_p(good, bad, "R2", resampling=resampling) == pytest.approx(1 / 201)
    assert paired_p(good, equal, "R2", resampling=resampling) > 0.05
    assert paired_p(good, replace(good, model="d"), "r", resampling=resampling) == 1.0
    assert estimate(good, "R2", resampling=resampling).value > 0.9
