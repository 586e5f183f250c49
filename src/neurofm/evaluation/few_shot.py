"""Few-shot curves: how well a read-out does with few labels, of features that were made without any.

With `evaluate.few_shot` the stage `evaluate` writes them to ``metrics/few_shot.json`` (and ``.csv``), a list of
`neurofm.evaluation.few_shot_row.FewShotRow`; the list is empty without. Here is who is labelled, and people's traits;
`neurofm.evaluation.few_shot_windows` has windows, and `neurofm.evaluation.few_shot_task` joins both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurofm.evaluation.attributes import values_of
from neurofm.evaluation.protocols import LINEAR, Protocol
from neurofm.evaluation.scores import Floats
from neurofm.evaluation.trait_scores import Predictions, joined
from neurofm.evaluation.traits import Table, read_out
from neurofm.splits import draw_shown

SEEDS = 5


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many labels are shown: a share of all, or so many per group."""

    share: float | None = None
    examples: int | None = None

    @property
    def labels(self) -> str:
        """Name it."""
        return f"{self.examples} per group" if self.share is None else f"{100 * self.share:g} %"

    @property
    def is_all(self) -> bool:
        """Whether nothing is left to draw."""
        return self.share == 1.0


SHARES = tuple(Amount(share=share) for share in (0.01, 0.05, 0.1, 0.5, 1.0))
EXAMPLES = tuple(Amount(examples=examples) for examples in (1, 2, 3, 5))


def amounts_of(groups: int) -> tuple[Amount, ...]:
    """Return which amounts are shown; examples per group where there are groups."""
    return (*SHARES, *EXAMPLES) if groups else SHARES


def drawn(values: Floats, amount: Amount, *, groups: int, rng: np.random.Generator) -> list[int]:
    """Draw who is labelled, in proportion to groups; from one seed a larger amount holds every smaller one.

    Parameters
    ----------
    values
        [unit] indices of groups, or anything where there are none.
    amount
        Of each group at least one is drawn, or two units where there are no groups.
    groups
        How many there are; 0 for numbers.
    rng
        Whence.

    Returns
    -------
    Indices of units, sorted.
    """
    return draw_shown(values, groups=groups, share=amount.share, examples=amount.examples, rng=rng)


def few_shot_predictions(
    tables: Sequence[Sequence[Table]], amount: Amount, *, protocol: Protocol = LINEAR
) -> tuple[Predictions, float]:
    """Predict with a part of the labels, drawn anew for each seed; the same part for every model.

    Parameters
    ----------
    tables
        [seed][fold] of one model; the same for each seed where the features know of none. Features may have used all
        training recordings, since they come without labels.
    amount
        Of training units.
    protocol
        What reads out.

    Returns
    -------
    the predictions, and how many labels were shown on average.
    """
    parts, counts = [], []
    whole: dict[int, Predictions] = {}
    for seed, folds in enumerate(tables):
        found = []
        for number, table in enumerate(folds):
            rng = np.random.default_rng([seed, number])
            shown = drawn(values_of(table.train), amount, groups=len(table.groups), rng=rng)
            counts.append(len(shown))
            if not amount.is_all:
                found.append(read_out(table, shown=shown, protocol=protocol))
                continue
            # Nothing is drawn: where features know of no seed, each of them says the same.
            if id(table) not in whole:
                whole[id(table)] = read_out(table, protocol=protocol)
            found.append(whole[id(table)])
        parts.append(found)
    return joined(parts), float(np.mean(counts))
