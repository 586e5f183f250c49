"""What was learned: training curves, reconstructions and the drawn scoreboard, as panels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurofm.evaluation.examples import Example
from neurofm.evaluation.row import NULL, Row
from neurofm.recording import Modality
from neurofm.report.figures.curves import Curve, draw_curves
from neurofm.report.figures.reconstructions import draw_reconstruction
from neurofm.report.figures.scoreboard import Dot, draw_dots
from neurofm.report.figures.style import drawing, new_figure, svg
from neurofm.report.incoming import Panel
from neurofm.report.settings import ReportSettings
from neurofm.report.verdict import group_scores, is_ours, metric_name
from neurofm.report.words import MISSING, MODALITY_WORDS, modality_order, modality_word, number, plain
from neurofm.report.written import FoldTraining, Pretraining

_LIMITS = {"max_hours": " (time limit)", "max_cost": " (cost limit)"}
"""What is said of a fold that a limit stopped."""


def fold_columns(training: Pretraining) -> tuple[str, ...]:
    """Return the columns of `fold_rows`."""
    return ("fold", "parameters", "steps", "step kept", *(f"gain, {modality_word(m)}" for m in _gained(training)))


def fold_rows(training: Pretraining) -> list[tuple[str, ...]]:
    """How each fold was trained: size, steps, and how much of the network's correction was kept per modality."""
    return [
        (
            str(fold.fold),
            f"{fold.parameters:,}",
            f"{fold.steps}{_LIMITS.get(fold.stopped_by or '', '')}",
            str(fold.best_step),
            *(_gain(fold, modality) for modality in _gained(training)),
        )
        for fold in training.folds
    ]


def _gained(training: Pretraining) -> list[str]:
    return [m.value for m in Modality if any(m.value in fold.residual_gain for fold in training.folds)]


def _gain(fold: FoldTraining, modality: str) -> str:
    gain = fold.residual_gain.get(modality)
    return MISSING if gain is None else f"{gain:g}"


def curve_panels(training: Pretraining) -> list[Panel]:
    """Draw the training curves, one panel per modality."""
    panels = []
    for modality in Modality:
        curves = [curve for fold in training.folds if (curve := _curve(fold, modality)) is not None]
        if not curves:
            continue
        caption = (
            f"{MODALITY_WORDS[modality]}: training loss, and change of the validation loss since it was first measured "
            f"(below zero is better); one line for each of {len(curves)} folds, a dot at the step kept."
        )
        with drawing(f"curves-{modality}"):
            figure = new_figure(height_in=3.2)
            draw_curves(figure, curves=curves)
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def _curve(fold: FoldTraining, modality: Modality) -> Curve | None:
    """Return the curve of one modality; None where neither loss was ever measured."""
    losses = np.array(
        [[_loss(point.train.get(modality)), _loss(point.validation.get(modality))] for point in fold.curve]
    )
    if not losses.size or np.isnan(losses).all():
        return None
    step = np.array([point.step for point in fold.curve], dtype=np.float64)
    return Curve(step=step, train=losses[:, 0], validation=losses[:, 1], best_step=fold.best_step)


def _loss(value: float | None) -> float:
    return float("nan") if value is None else value


def reconstruction_panels(examples: Sequence[Example], *, settings: ReportSettings) -> list[Panel]:
    """Draw what was hidden and what was put in its place, one panel per dataset."""
    panels = []
    for example in sorted(examples, key=lambda example: (modality_order(example.modality), example.dataset)):
        hidden = example.truth.shape[1]
        shown = np.unique(np.linspace(0, hidden - 1, settings.reconstructed_channels).round().astype(np.int64))
        seconds = len(example.truth) / example.sampling_rate_hz
        caption = (
            f"{example.dataset}, {example.recording}: {len(shown)} of {hidden} hidden channels over "
            f"{number(seconds)} s of held-out data, in {example.unit}, as recorded and as "
            f"filled in by {' and '.join(example.reconstructions)} (the best baseline on this dataset)."
        )
        with drawing(f"reconstruction-{example.dataset}"):
            figure = new_figure(height_in=0.8 + 0.95 * len(shown))
            draw_reconstruction(figure, example=example, channels=shown.tolist())
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def score_panels(scores: Sequence[Row]) -> list[Panel]:
    """Draw the scoreboard, one panel per dataset, task and metric."""
    panels = []
    for group in group_scores(scores):
        first = group[0]
        dots = dots_of(group)
        if not dots:
            continue
        caption = (
            f"{first.dataset} ({modality_word(first.modality)}), {plain(first.task)}: {metric_name(first)}, "
            f"{'higher' if first.higher_is_better else 'lower'} is better; {first.split}. Bars: 95 % bootstrap "
            f"intervals over n = {first.n} ({first.ci_unit}). Dashed: null, {first.null:.3f}."
        )
        with drawing(f"scores-{first.dataset}-{first.task}-{first.metric}"):
            figure = new_figure(height_in=0.7 + 0.24 * len(dots))
            draw_dots(
                figure.subplots(),
                dots=dots,
                null=first.null,
                higher_is_better=first.higher_is_better,
                label=metric_name(first),
            )
            panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def dots_of(group: Sequence[Row]) -> list[Dot]:
    """One dot per score, the null model aside: it is drawn as a line."""
    return [
        Dot(
            model=score.model,
            value=score.value,
            ci_low=score.ci_low,
            ci_high=score.ci_high,
            ours=is_ours(score),
        )
        for score in group
        if score.model != NULL
    ]
