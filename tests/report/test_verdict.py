"""What the page concludes from a scoreboard."""

from __future__ import annotations

import pytest

from neurofm.report.verdict import compare, group_scores, verdict
from tests.report.conftest import score


def test_the_best_baseline_is_neither_the_null_nor_ours() -> None:
    rows = [
        score(model="neurofm", value=0.5),
        score(model="neurofm-linear-core", value=0.7),
        score(model="null", value=0.9),
        score(model="ppca", value=0.3),
        score(model="ridge", value=0.4),
    ]
    (comparison,) = compare(rows)
    assert comparison.ours.model == "neurofm"
    assert comparison.best is not None
    assert comparison.best.model == "ridge"
    assert comparison.gain == pytest.approx(0.1)
    assert comparison.clear


def test_lower_can_be_better() -> None:
    errors = {"metric": "error_cm", "unit": "cm", "higher_is_better": False, "null": 9.0}
    rows = [
        score(**errors, model="neurofm", value=3.0, ci_low=2.0, ci_high=4.0),
        score(**errors, model="ridge", value=2.5),
        score(**errors, model="knn", value=5.0),
    ]
    (comparison,) = compare(rows)
    assert [s.model for s in comparison.scores] == ["ridge", "neurofm", "knn"]
    assert comparison.above_null
    assert comparison.gain == pytest.approx(-0.5)
    assert not comparison.clear, "2.5 lies inside our interval"


def test_the_verdict_names_wins_and_losses() -> None:
    rows = [
        score(dataset="won", value=0.5),
        score(dataset="won", model="ridge", value=0.4),
        score(dataset="lost", value=0.5),
        score(dataset="lost", model="ridge", value=0.52),
        score(dataset="level", value=0.5),
        score(dataset="level", model="ridge", value=0.5),
        score(dataset="below-null", value=-0.1),
    ]
    said = verdict(compare(rows))
    assert "better than the null on 3 of 4 comparisons" in said
    assert "not on below-null, masked reconstruction, R²." in said
    assert "ahead on 1 (won, masked reconstruction, R² +0.100)" in said
    assert "behind on 1 (lost, masked reconstruction, R² \N{MINUS SIGN}0.020)" in said
    assert "On 1 the two are equal" in said
    assert "outside our 95 % interval in 1 of the 1 ahead and 0 of the 1 behind" in said


def test_of_many_the_largest_differences_are_named() -> None:
    rows = []
    for number in range(8):
        rows += [
            score(dataset=f"d{number}", value=0.5 + 0.01 * number),
            score(dataset=f"d{number}", model="ridge", value=0.4),
        ]
    said = verdict(compare(rows))
    assert "ahead on 8 (d7, masked reconstruction, R² +0.170; d6," in said
    assert "; 3 more in the table)" in said
    assert "d2" not in said


def test_baselines_alone_give_no_comparison() -> None:
    assert compare([score(model="ridge")]) == []


def test_groups_follow_the_modalities() -> None:
    rows = [score(dataset="a", modality="eeg"), score(dataset="z", modality="spikes"), score(dataset="b")]
    assert [group[0].dataset for group in group_scores(rows)] == ["z", "a", "b"]
