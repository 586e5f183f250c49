"""Which of our models stands for all does not depend on how they scored."""

from __future__ import annotations

import pytest

from neurofm.evaluation.row import standing


@pytest.mark.parametrize(
    ("models", "stands"),
    [
        (["ridge", "neurofm-core", "neurofm"], "neurofm"),
        (["neurofm-linear-core", "neurofm-core"], "neurofm-core"),
        (["neurofm-probe", "neurofm-decoder", "recurrent_counts"], "neurofm-decoder"),
        (["ridge", "null"], None),
    ],
)
def test_one_stands_for_all(models: list[str], stands: str | None) -> None:
    assert standing(models) == standing(reversed(models)) == stands
