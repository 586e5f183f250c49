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
from neurofm.splits import Splits

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


_KINDS = {"": "whole channels hidden", "patches": "patches hidden", "block": "a stretch of time hidden"}
"""Kinds of masks as metrics/pretrain.json names them, after the modality: ``eeg``, ``eeg patches``, ``eeg block``."""


def curve_panels(training: Pretraining, *, splits: Splits | None = None) -> list[Panel]:
    """Draw the training curves, one panel per modality and kind of mask that was learned.

    Parameters
    ----------
    training
        Losses of every fold.
    splits
        Say from how many recordings was learned.
    """
    panels = []
    for modality in Modality:
        for kind, word in _KINDS.items():
            key = f"{modality} {kind}".strip()
            curves = [curve for fold in training.folds if (curve := _curve(fold, key)) is not None]
            if not curves:
                continue
            caption = (
                f"{MODALITY_WORDS[modality]}, {word}{_learned_from(splits, modality)}: training loss of single steps, "
                "and change of the validation loss since it was first measured (below zero is better); one line for "
                f"each of {len(curves)} folds, a dot at the step kept, whose validation loss the legend gives. Losses "
                f"are relative to predicting the mean (1).{_kept_gains(training, key)}"
            )
            with drawing(f"curves-{key}"):
                figure = new_figure(height_in=3.2)
                draw_curves(figure, curves=curves)
                panels.append(Panel(drawing=svg(figure, alt=caption), caption=caption))
    return panels


def _kept_gains(training: Pretraining, key: str) -> str:
    """Say how much of the network's correction each fold kept; nothing where no fold says it."""
    if not any(key in fold.residual_gain for fold in training.folds):
        return ""
    gains = ", ".join(_gain(fold, key) for fold in training.folds)
    return f" Share of the network's correction that was kept, fold by fold: {gains}."


def _learned_from(splits: Splits | None, modality: Modality) -> str:
    """Say from how many recordings each fold learns, and of how many datasets."""
    folds = [
        [entry for entry in fold.recordings if entry.modality is modality and entry.train]
        for fold in (splits.folds if splits else ())
    ]
    datasets = {entry.dataset for fold in folds for entry in fold}
    if not datasets:
        return ""
    fewest, most = min(map(len, folds)), max(map(len, folds))
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return (
        f", {count} recording{'' if most == 1 else 's'} of {len(datasets)} dataset{'' if len(datasets) == 1 else 's'} "
        "in a fold"
    )


def _curve(fold: FoldTraining, key: str) -> Curve | None:
    """Return the curve of a modality, or of a modality and kind of mask; None where no loss was ever measured."""
    losses = np.array([[_loss(point.train.get(key)), _loss(point.validation.get(key))] for point in fold.curve])
    if not losses.size or np.isnan(losses).all():
        return None
    step = np.array([point.step for point in fold.curve], dtype=np.float64)
    return Curve(step=step, train=losses[:, 0], validation=losses[:, 1], best_step=fold.best_step, fold=fold.fold)


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
