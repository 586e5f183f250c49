"""Ours against the best baseline, drawn: the paired difference of every task with its interval."""

from __future__ import annotations

from neurofm.evaluation.difference import Difference, Differences
from neurofm.report.figures.forest import ROW_IN, Branch, draw_forest
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.verdict import METRICS
from neurofm.report.words import modality_order, plain

CLEAR = 0.05
"""Least Holm-corrected p of a difference that is not called clear."""


def difference_panels(found: Differences) -> list[Panel]:
    """Draw a forest plot for each metric, since their units differ."""
    panels = []
    for metric in dict.fromkeys(one.metric for one in _ordered(found)):
        own = [one for one in _ordered(found) if one.metric == metric]
        units = sorted({one.ci_unit for one in own})
        counts = "; ".join(
            f"{unit}s, n = {_range([one.n for one in own if one.ci_unit == unit])} a row" for unit in units
        )
        name = METRICS.get(metric, plain(metric))
        caption = (
            f"{name}: our score minus that of the best baseline, which the label names; right of the dashed line ours "
            f"is better. Bars: 95 % bootstrap intervals of the paired difference over {counts}. p: models swapped "
            "at random within these units, each row by itself; filled where it stays below 0.05 after Holm's "
            f"correction for all {found.comparisons} comparisons."
        )
        with drawing(f"differences-{metric}"):
            figure = new_figure(height_in=0.75 + ROW_IN * len(own))
            draw_forest(figure.subplots(), branches=[_branch(one) for one in own], label=f"difference in {name}")
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def difference_words(found: Differences) -> str:
    """Say of how many differences one can be sure after they were all looked at; empty without any."""
    if not found.differences:
        return ""
    clear = [one for one in found.differences if one.p_holm < CLEAR]
    ahead = sum(one.value > 0 for one in clear)
    return (
        f"Of {found.comparisons} comparisons, each paired over the same held-out data, ours is clearly ahead in "
        f"{ahead} and clearly behind in {len(clear) - ahead} after Holm's correction for looking at all of them."
    )


def _ordered(found: Differences) -> list[Difference]:
    return sorted(found.differences, key=lambda one: (modality_order(one.modality), one.dataset, one.task, one.metric))


def _branch(one: Difference) -> Branch:
    return Branch(
        name=f"{one.dataset}, {plain(one.task)}",
        against=f"{one.ours} against {one.baseline}",
        value=one.value,
        low=one.ci_low,
        high=one.ci_high,
        p=one.p,
        clear=one.p_holm < CLEAR,
    )


def _range(counts: list[int]) -> str:
    fewest, most = min(counts), max(counts)
    return str(most) if fewest == most else f"{fewest} to {most}"
