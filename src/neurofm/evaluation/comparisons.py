"""Comparisons: our model against the best baseline of every dataset, task and metric, paired over the same units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from neurofm.evaluation.difference import Difference, Differences, holm
from neurofm.evaluation.row import CORRELATION, NULL, OURS, Row, standing
from neurofm.evaluation.scoreboard import best_baseline, rounded, units_of
from neurofm.evaluation.scores import TileScores, paired_bootstrap, swapped_p
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trait_scores import Estimate, Predictions, Resampling, paired_difference, paired_p

Parts = Mapping[str, Sequence[TileScores]]
"""Scores by model, in the order of folds and recordings."""
Traits = Mapping[tuple[str, str, str, str], Predictions]
"""Predictions of all folds by dataset, modality, attribute and model."""


def compare(
    rows: Sequence[Row], *, scores: Sequence[TileScores], traits: Traits, settings: EvaluateSettings
) -> Differences:
    """Compare ours with the best baseline wherever both were scored.

    Parameters
    ----------
    rows
        The scoreboard: it says which baseline is the best.
    scores, traits
        What it was made of.
    settings
        How often units are drawn anew, and from which seed.

    Returns
    -------
    A difference per dataset, task and metric of which something of ours was scored, in the scoreboard's order. The
    best baseline is picked on the very data of the comparison, which makes the difference too small if anything.
    """
    by_group: defaultdict[tuple[str, str, str], defaultdict[str, list[TileScores]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for score in scores:
        by_group[score.roles.dataset, score.task, score.metric][score.model].append(score)
    found = []
    for group in sorted({(row.dataset, row.task, row.metric) for row in rows if row.metric != CORRELATION}):
        own = [row for row in rows if (row.dataset, row.task, row.metric) == group]
        stands = standing(row.model for row in own)
        ours = next((row for row in own if row.model == stands), None)
        if ours is None or all(row.model.startswith(OURS) for row in own):
            continue
        dataset, task, metric = group
        theirs = best_baseline(rows, dataset=dataset, task=task, metric=metric)
        if group in by_group:
            found.append(_of_scores(ours, theirs, by_group[group], settings=settings))
        else:
            found.append(_of_traits(ours, theirs, traits, settings=settings))
    corrected = holm([difference.p for difference in found])
    return Differences(
        comparisons=len(found),
        differences=tuple(
            difference.model_copy(update={"p_holm": rounded(p)}) for difference, p in zip(found, corrected, strict=True)
        ),
    )


def _of_scores(ours: Row, theirs: Row, parts: Parts, *, settings: EvaluateSettings) -> Difference:
    own, other = _paired(parts[ours.model], parts[theirs.model])
    units = units_of(own), units_of(other)
    value, low, high = paired_bootstrap(*units, samples=settings.bootstrap_samples, seed=settings.seed)
    p = swapped_p(*units, seed=settings.seed)
    return _difference(ours, theirs, Estimate(value=value, low=low, high=high), p=p, n=len(units[0][0]))


def _paired(ours: Sequence[TileScores], theirs: Sequence[TileScores]) -> tuple[list[TileScores], list[TileScores]]:
    """Keep the recordings that both models were scored on: some baselines need more than one of a channel set."""
    by_recording: defaultdict[str, tuple[list[TileScores], list[TileScores]]] = defaultdict(lambda: ([], []))
    for side, scores in enumerate((ours, theirs)):
        for score in scores:
            by_recording[score.roles.recording][side].append(score)
    both = [pair for pair in by_recording.values() if len(pair[0]) == len(pair[1])]
    return [score for own, _ in both for score in own], [score for _, other in both for score in other]


def _of_traits(ours: Row, theirs: Row, traits: Traits, *, settings: EvaluateSettings) -> Difference:
    key = (ours.dataset, ours.modality, ours.task.removeprefix("trait:"))
    own = traits[*key, ours.model]
    other = own.of_null() if theirs.model == NULL else traits[*key, theirs.model]
    resampling = Resampling(samples=settings.bootstrap_samples, seed=settings.seed)
    estimate = paired_difference(own, other, ours.metric, resampling=resampling)
    p = paired_p(own, other, ours.metric, resampling=resampling)
    return _difference(ours, theirs, estimate, p=p, n=len(set(own.subject)))


def _difference(ours: Row, theirs: Row, estimate: Estimate, *, p: float, n: int) -> Difference:
    return Difference(
        name=f"{ours.dataset}/{ours.task}/{ours.metric}",
        dataset=ours.dataset,
        modality=ours.modality,
        task=ours.task,
        metric=ours.metric,
        unit=ours.unit,
        split=ours.split,
        ours=ours.model,
        baseline=theirs.model,
        value=rounded(estimate.value),
        ci_low=rounded(estimate.low),
        ci_high=rounded(estimate.high),
        ci_unit=ours.ci_unit,
        n=n,
        p=rounded(p),
        p_holm=1.0,
        # What leaks of the baseline leaks of ours too (`neurofm.evaluation.gate`).
        leak=ours.leak,
    )
