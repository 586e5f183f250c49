"""Few labels: how many are shown, who they are, and that more of them help."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.attributes import labelled
from neurofm.evaluation.few_shot import EXAMPLES, SHARES, Amount, amounts_of, drawn, few_shot_predictions
from neurofm.evaluation.protocols import PROTOCOLS, fit_protocol
from neurofm.evaluation.trait_scores import Resampling, estimate, paired_difference
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
    found = {amount: few_shot_predictions([[tables["group"]]] * 3, amount) for amount in amounts_of(2)}
    assert {amount.labels: shown for amount, (_, shown) in found.items()} == {
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
    few, many = (estimate(found[amount][0], "auc", resampling=RESAMPLING) for amount in (EXAMPLES[0], SHARES[-1]))
    assert many.value > few.value
    assert few.high - few.low > many.high - many.low
    ages = [few_shot_predictions([[tables["age"]]] * 2, amount)[0] for amount in amounts_of(0)]
    # Standardised by two people alone, some features would weigh a thousandfold.
    assert all(estimate(one, "R2", resampling=RESAMPLING).value > -5 for one in ages)


def test_a_larger_part_holds_every_smaller_one() -> None:
    values = np.repeat([0.0, 1.0], [30, 70])
    for groups in (0, 2):
        parts = [drawn(values, amount, groups=groups, rng=np.random.default_rng([1, 0])) for amount in (*SHARES,)]
        assert [len(part) for part in parts] == ([2, 5, 10, 50, 100] if not groups else [2, 6, 10, 50, 100])
        for smaller, larger in itertools.pairwise(parts):
            assert set(smaller) <= set(larger)


def test_all_labels_leave_nothing_to_draw(tables: dict[str, Table]) -> None:
    for protocol in PROTOCOLS:
        all_shown, _ = few_shot_predictions([[tables["group"]]] * 2, Amount(share=1.0), protocol=protocol)
        np.testing.assert_array_equal(all_shown.predicted[0], all_shown.predicted[1])
        some, _ = few_shot_predictions([[tables["group"]]] * 2, Amount(examples=1), protocol=protocol)
        assert (some.predicted[0] != some.predicted[1]).any()


def test_models_are_compared_with_the_same_labels(tables: dict[str, Table]) -> None:
    first, second = (few_shot_predictions([[tables["group"]]] * 2, Amount(examples=2))[0] for _ in range(2))
    np.testing.assert_array_equal(first.predicted, second.predicted)
    more, _ = few_shot_predictions([[tables["group"]]] * 2, Amount(share=1.0))
    assert paired_difference(more, first, "auc", resampling=RESAMPLING).value > 0


def test_neighbours_of_people_tell_children_from_adults(tables: dict[str, Table]) -> None:
    found, _ = few_shot_predictions([[tables["group"]]], Amount(share=1.0), protocol="knn")
    np.testing.assert_allclose(found.predicted.sum(axis=-1), 1.0)
    assert estimate(found, "auc", resampling=RESAMPLING).value > 0.7


def test_a_probe_of_several_columns_finds_them_and_knows_only_what_is_shown() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 5))
    values = features[:, :2] @ np.array([[1.0, 0.5], [-2.0, 0.0]]) + 0.1 * rng.normal(size=(400, 2))
    units = [str(row // 4) for row in range(300)]
    for protocol, least in (("linear_probe", 0.98), ("knn", 0.6)):
        predict = fit_protocol(
            protocol,  # type: ignore[arg-type]
            features[:300],
            values[:300],
            units=units,
            groups=0,
            unlabelled=features[:300],
        )
        missed = ((predict(features[300:]) - values[300:]) ** 2).sum() / (values[300:] ** 2).sum()
        assert 1 - missed > least
