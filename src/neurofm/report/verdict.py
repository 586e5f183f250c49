"""What the scoreboard says, in numbers and in one paragraph: where our model is ahead, and where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.evaluation.row import CORRELATION, NULL, OURS, Row, standing
from neurofm.report.words import modality_order, plain

_NAMED = 5
"""Comparisons that the paragraph names, those with the largest differences; all are in the table below it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our model beside the best baseline, on one dataset, task and metric."""

    ours: Row
    best: Row | None
    """The baseline with the best score; None where none was run."""
    scores: tuple[Row, ...]
    """All models, best first."""

    @property
    def gain(self) -> float:
        """How much better ours is than the best baseline; negative where it is worse, 0 without a baseline."""
        return 0.0 if self.best is None else _better(self.ours, self.ours.value - self.best.value)

    @property
    def above_null(self) -> bool:
        """Whether ours is better than the null."""
        return _better(self.ours, self.ours.value - self.ours.null) > 0

    @property
    def clear(self) -> bool:
        """Whether the best baseline's score lies outside our interval."""
        return self.best is not None and not self.ours.ci_low <= self.best.value <= self.ours.ci_high


def _better(score: Row, difference: float) -> float:
    return difference if score.higher_is_better else -difference


def is_ours(score: Row) -> bool:
    """Whether the model is this project's."""
    return score.model.startswith(OURS)


METRICS = {
    "R2": "R²",
    "bits_per_spike": "bits per spike",
    "balanced_accuracy": "balanced accuracy",
    "auc": "area under the ROC curve",
}


def metric_name(score: Row) -> str:
    """Metric in words."""
    return METRICS.get(score.metric, f"{plain(score.metric)} ({score.unit})")


def group_scores(scores: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Group by dataset, task and metric, modalities in the page's order, the best score first in each group."""
    groups: dict[tuple[int, str, str, str], list[Row]] = {}
    for score in (score for score in scores if score.metric != CORRELATION):
        key = (modality_order(score.modality), score.dataset, score.task, score.metric)
        groups.setdefault(key, []).append(score)
    return [
        tuple(sorted(groups[key], key=lambda score: (-_better(score, score.value), score.model)))
        for key in sorted(groups)
    ]


def compare(scores: Sequence[Row]) -> list[Comparison]:
    """Compare our model with the best baseline of each group.

    Where several of our models were scored (the model, and the model without its network) one stands for them
    (`row.standing`). With several seeds the first stands.
    """
    comparisons = []
    for group in group_scores(scores):
        stands = standing(score.model for score in group)
        ours = sorted((score for score in group if score.model == stands), key=lambda score: score.seed)
        if not ours:
            continue
        baselines = [s for s in group if not is_ours(s) and s.model != NULL]
        comparisons.append(Comparison(ours=ours[0], best=baselines[0] if baselines else None, scores=group))
    return comparisons


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Say in plain words how our model stands against the null and against the best baselines."""
    if not comparisons:
        return "No model has been scored yet."
    below = [c for c in comparisons if not c.above_null]
    words = [
        f"Our model is better than the null on {len(comparisons) - len(below)} of {_comparisons(len(comparisons))}"
        + (f", and not on {'; '.join(map(_named, below))}." if below else ".")
    ]
    against = [c for c in comparisons if c.best is not None]
    if not against:
        return words[0]
    ahead = [c for c in against if c.gain > 0]
    behind = [c for c in against if c.gain < 0]
    words.append(
        f"Against the best baseline of each it is ahead on {len(ahead)}{_names(ahead)} "
        f"and behind on {len(behind)}{_names(behind)}."
    )
    level = len(against) - len(ahead) - len(behind)
    if level:
        words.append(f"On {level} the two are equal.")
    clear_ahead, clear_behind = sum(c.clear for c in ahead), sum(c.clear for c in behind)
    words.append(
        f"The baseline's score lies outside our 95 % interval in {clear_ahead} of the {len(ahead)} ahead "
        f"and {clear_behind} of the {len(behind)} behind; the other differences are within it."
    )
    return " ".join(words)


def _comparisons(count: int) -> str:
    return f"{count} comparison{'' if count == 1 else 's'} (dataset, task and metric)"


def _named(comparison: Comparison) -> str:
    ours = comparison.ours
    return f"{ours.dataset}, {plain(ours.task)}, {metric_name(ours)}"


def _names(comparisons: Sequence[Comparison]) -> str:
    ordered = sorted(comparisons, key=lambda c: -abs(c.gain))
    if not ordered:
        return ""
    named = "; ".join(f"{_named(c)} {_signed(c.gain)}" for c in ordered[:_NAMED])
    more = f"; {len(ordered) - _NAMED} more in the table" if len(ordered) > _NAMED else ""
    return f" ({named}{more})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
