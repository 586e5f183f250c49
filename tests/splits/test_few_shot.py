"""Of few labels: who is shown among few is shown among more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from neurofm.splits import draw_shown


def _drawn(values: list[float], *, groups: int, share: float | None = None, examples: int | None = None) -> set[int]:
    rng = np.random.default_rng(3)
    return set(draw_shown(np.array(values), groups=groups, share=share, examples=examples, rng=rng))


def test_larger_subsets_contain_smaller_ones() -> None:
    ages, sexes = [float(age) for age in range(40)], [float(number % 3 == 0) for number in range(40)]
    for values, groups in ((ages, 0), (sexes, 2)):
        shown = [_drawn(values, groups=groups, share=share) for share in (0.01, 0.05, 0.1, 0.5, 1.0)]
        assert all(few <= more for few, more in pairwise(shown))
        assert shown[-1] == set(range(40))
    of_each = [_drawn(sexes, groups=2, examples=examples) for examples in (1, 2, 3, 5)]
    assert [len(shown) for shown in of_each] == [2, 4, 6, 10]
    assert all(few < more for few, more in pairwise(of_each))


def test_every_group_is_shown() -> None:
    assert {index % 2 for index in _drawn([0.0, 1.0] * 20, groups=2, share=0.01)} == {0, 1}
    assert len(_drawn([float(age) for age in range(40)], groups=0, share=0.01)) == 2
