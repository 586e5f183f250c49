"""Sets of channels are joined over folds where every fold could learn, and mean the same groups."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from neurofm.evaluation.whole_sets import Given, join_given, whole_sets

BOTH, THREE = ("f", "m"), ("f", "m", "x")


def _groups(part: tuple[str, ...]) -> tuple[str, ...]:
    return part


def test_a_set_of_which_one_fold_could_not_learn_is_left_out() -> None:
    sets: dict[str, list[dict[str, tuple[str, ...]] | None]] = {
        "a": [{"ours": BOTH}, None, None],
        "b": [{"ours": BOTH}, {"ours": BOTH}],  # two folds score it, as where a site is left out
        "c": [None],
    }
    assert whole_sets(sets, groups_of=_groups) == [{"ours": BOTH}, {"ours": BOTH}]
    assert whole_sets({"a": sets["a"]}, groups_of=_groups) == []


def test_an_index_means_one_group_in_all_that_is_joined() -> None:
    sets: dict[str, list[dict[str, tuple[str, ...]] | None]] = {
        "a": [{"ours": THREE}],
        "b": [{"ours": BOTH}],
        "c": [{"ours": BOTH}],
    }
    assert whole_sets(sets, groups_of=_groups) == [{"ours": BOTH}, {"ours": BOTH}]


def test_folds_are_joined_in_their_order() -> None:
    first, second = (_given({"ours": groups}) for groups in (BOTH, THREE))
    join_given(first, second)
    assert first["d", "fmri", "age"]["a"] == [{"ours": BOTH}, {"ours": THREE}]


def _given(part: dict[str, tuple[str, ...]]) -> Given[tuple[str, ...]]:
    given: Given[tuple[str, ...]] = defaultdict(partial(defaultdict, list))
    given["d", "fmri", "age"]["a"].append(part)
    return given
