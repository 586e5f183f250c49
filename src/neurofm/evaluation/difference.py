"""Difference: how far our model is from the best baseline of a task, with its interval and its p, for who reads them.

Apart from how they are computed, as `neurofm.evaluation.row` is.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.settings import Settings


class Difference(Settings):
    """Our score minus the best baseline's, both on the same units."""

    name: str
    """``dataset/task/metric``, for `dvc plots`."""
    dataset: str
    modality: str
    task: str
    metric: str
    unit: str
    split: str
    ours: str
    """Our model; of several the one with the shortest name."""
    baseline: str
    """The best of all that are not ours by its score on the same held-out data; the null where nothing was better."""
    value: float
    """Ours minus the baseline's: positive where ours is better."""
    ci_low: float
    ci_high: float
    """95 % percentile interval of this difference alone, units drawn anew for both models together."""
    ci_unit: str
    """What was drawn: ``subject``, or ``time block`` (a tile of one window)."""
    n: int
    """How many of them there are."""
    p: float
    """Of differences at least as large either way when the two models are swapped at random within units."""
    p_holm: float
    """`p` after Holm's correction for all differences that were looked at."""
    leak: str = ""
    """As `neurofm.evaluation.row.Row.leak`, of ours; nothing if empty."""


class Differences(Settings):
    """``metrics/differences.json``: every difference, and of how many together `Difference.p_holm` speaks."""

    comparisons: int = 0
    differences: tuple[Difference, ...] = ()


NO_DIFFERENCES = Differences()


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for being looked at together (Holm 1979, https://www.jstor.org/stable/4615733).

    Parameters
    ----------
    p
        One per comparison.

    Returns
    -------
    Corrected ones, in the same order: if the least of them is below 0.05, the chance that any of the comparisons
    without a true difference would be called different is below 0.05.
    """
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected, least = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, p[index] * (len(p) - place)))
        corrected[index] = least
    return corrected
