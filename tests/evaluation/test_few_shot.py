"""Few labels: how many are shown, who they are, and that more of them help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.attributes import labelled
from neurofm.evaluation.few_shot import few_shot, few_shot_predictions
from neurofm.evaluation.trait_scores import Resampling, paired_difference
from neurofm.evaluation.traits import MODELS, Table, make_table
from neurofm.recording import Modality
from tests.evaluation.pixar import people

RESAMPLING = Resampling(samples=200, seed=1)


@pytest.fixture(scope="module")
def tables(shared_data: Path) -> dict[str, Table]:
    views, known = people(shared_data, each=18)
    train = sorted(view.subject for view in views if view.roles.train)
    return {
        trait: make_table(
            "ours", MODELS[Modality.FMRI]["neurofm-tangent"], labelled(views, known, trait=trait), train=train
        )
        for trait in ("group", "age")
    }


def test_points_of_a_curve(tables: dict[str, Table]) -> None:
    points = [point for point in few_shot([tables["group"]], resampling=RESAMPLING, seeds=3) if point.metric == "auc"]
    assert {point.labels: point.shown for point in points} == {
        "1 %": 2,  # one of each
        "5 %": 2,
        "10 %": 2,
        "50 %": 12,
        "100 %": 24,
        "1 per group": 2,
        "2 per group": 4,
        "3 per group": 6,
        "5 per group": 10,
    }
    curve = {point.labels: point.score for point in points}
    assert curve["100 %"].value > curve["1 per group"].value
    assert curve["1 per group"].high - curve["1 per group"].low > curve["100 %"].high - curve["100 %"].low
    ages = few_shot([tables["age"]], resampling=RESAMPLING, seeds=2)
    assert {point.metric for point in ages} == {"r", "R2"}
    # Standardised by two people alone, some features would weigh a thousandfold.
    assert all(point.score.value > -5 for point in ages)
    assert not any("group" in point.labels for point in ages)


def test_all_labels_leave_nothing_to_draw(tables: dict[str, Table]) -> None:
    all_shown, _ = few_shot_predictions([tables["group"]], share=1.0, seeds=2)
    np.testing.assert_array_equal(all_shown.predicted[0], all_shown.predicted[1])
    some, _ = few_shot_predictions([tables["group"]], examples=1, seeds=2)
    assert (some.predicted[0] != some.predicted[1]).any()


def test_models_are_compared_with_the_same_labels(tables: dict[str, Table]) -> None:
    first, second = (few_shot_predictions([tables["group"]], examples=2, seeds=2)[0] for _ in range(2))
    np.testing.assert_array_equal(first.predicted, second.predicted)
    more, _ = few_shot_predictions([tables["group"]], share=1.0, seeds=2)
    assert paired_difference(more, first, "auc", resampling=RESAMPLING).value > 0
