"""Few-shot curves: how well a read-out does with few labels, of features that were made without any.

With `evaluate.few_shot` the stage `evaluate` writes them to ``metrics/few_shot.json`` (and ``.csv``), a list of
`neurofm.evaluation.few_shot_row.FewShotRow`; the list is empty without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurofm.evaluation.attributes import values_of
from neurofm.evaluation.trait_scores import Estimate, Predictions, Resampling, estimate, joined
from neurofm.evaluation.traits import Table, read_out
from neurofm.splits import draw_shown

SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
EXAMPLES = (1, 2, 3, 5)
SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a curve."""

    model: str
    metric: str
    labels: str
    """``10 %`` of the training subjects, or ``3 per group``."""
    shown: float
    """Labelled training units, mean over folds and seeds."""
    score: Estimate
    """Over subjects and seeds."""


def few_shot_predictions(
    tables: Sequence[Table], *, share: float | None = None, examples: int | None = None, seeds: int = SEEDS
) -> tuple[Predictions, float]:
    """Predict with a part of the labels, drawn anew for each seed; the same part for every model.

    Parameters
    ----------
    tables
        [fold] of one model. Features may have used all training recordings, since they come without labels.
    share
        Of training units. At least one of each group is drawn, or two numbers.
    examples
        Per group instead of a share.
    seeds
        How many draws.

    Returns
    -------
    the predictions, and how many labels were shown on average.
    """
    parts, counts = [], []
    for seed in range(seeds):
        folds = []
        for number, table in enumerate(tables):
            shown = draw_shown(
                values_of(table.train),
                groups=len(table.groups),
                share=share,
                examples=examples,
                rng=np.random.default_rng([seed, number]),
            )
            counts.append(len(shown))
            folds.append(read_out(table, shown=shown))
        parts.append(folds)
    return joined(parts), float(np.mean(counts))


def few_shot(tables: Sequence[Table], *, resampling: Resampling, seeds: int = SEEDS) -> list[Point]:
    """Score one model with 1 to 100 % of the labels and, for groups, with 1 to 5 examples of each.

    Returns
    -------
    a point per metric and number of labels, as rows of a table. Seeds are resampled with subjects: they say which
    people happened to be labelled.
    """
    asked = [(f"{100 * share:g} %", {"share": share}) for share in SHARES]
    named = [(f"{examples} per group", {"examples": examples}) for examples in EXAMPLES] if tables[0].groups else []
    points: list[Point] = []
    for labels, amount in [*asked, *named]:
        predictions, shown = few_shot_predictions(tables, seeds=seeds, **amount)  # type: ignore[arg-type]
        points.extend(
            Point(
                model=predictions.model,
                metric=metric,
                labels=labels,
                shown=shown,
                score=estimate(predictions, metric, resampling=resampling),
            )
            for metric in predictions.metrics
        )
    return points
