"""The scoreboard: one row per dataset, task, metric and model, with its null and its interval."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from neurofm.evaluation.calibration_row import CalibrationRow
from neurofm.evaluation.difference import NO_DIFFERENCES, Differences
from neurofm.evaluation.examples import Example, write_examples
from neurofm.evaluation.few_shot_row import FewShotRow
from neurofm.evaluation.findings import NO_FINDINGS, Findings, write_findings
from neurofm.evaluation.row import CORRELATION, NULL, OURS, Row, standing
from neurofm.evaluation.scores import Floats, TileScores, bootstrap, ratio, unit_of
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.files import write_atomic, write_json
from neurofm.splits import UNSEEN

HELD_OUT = {
    "subject": ("by subject", "subject"),
    "session": ("by session", "session"),
    "time": ("time blocks", "time block"),
    "train-only": ("time blocks", "time block"),
}
"""What was held out, and what is resampled for the interval, by the kind of split."""
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
DIGITS = 6
"""Significant digits that are written, so that the last bits of a sum do not change the files."""


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """What evaluation found."""

    rows: tuple[Row, ...]
    timings: dict[str, dict[str, dict[str, float]]]
    """CPU seconds by dataset, task and model."""
    examples: tuple[Example, ...]
    differences: Differences = NO_DIFFERENCES
    findings: Findings = NO_FINDINGS
    few_shot: tuple[FewShotRow, ...] = ()
    """Empty where nobody asked for it."""
    calibration: tuple[CalibrationRow, ...] = ()
    """Empty where nobody asked for it."""

    def write(self, *, metrics: Path, reports: Path) -> None:
        """Write scoreboard, summary, differences and timings under `metrics`, examples and findings under `reports`."""
        _write_rows(self.rows, list(Row.model_fields), metrics / "scoreboard")
        _write_rows(self.few_shot, list(FewShotRow.model_fields), metrics / "few_shot")
        _write_rows(self.calibration, list(CalibrationRow.model_fields), metrics / "calibration")
        write_json(metrics / "summary.json", summarise(self.rows))
        write_json(metrics / "differences.json", self.differences.model_dump(mode="json"))
        write_json(metrics / "timings.json", self.timings)
        write_examples(self.examples, reports / "reconstructions.npz")
        write_findings(self.findings, reports / "findings.npz")


def _write_rows(rows: Sequence[Row | FewShotRow | CalibrationRow], columns: list[str], path: Path) -> None:
    """Write rows as JSON and as CSV."""
    plain = [row.model_dump(mode="json") for row in rows]
    write_json(path.with_suffix(".json"), plain)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    write_atomic(path.with_suffix(".csv"), table.getvalue().encode())


def make_rows(
    scores: Sequence[TileScores], *, folds: int, settings: EvaluateSettings, left_out: Mapping[str, str] = NOTHING
) -> tuple[Row, ...]:
    """Join the scores of all folds and recordings into one row per dataset, task, metric and model.

    Where subjects (or sessions) are held out the value is the mean over subjects of each subject's score, and
    subjects are resampled. Where time is, tiles of all recordings and folds are pooled, and tiles are resampled: the
    interval then says nothing about other subjects, and is too narrow where neighbouring tiles resemble each other.
    What `left_out` says of a dataset (`neurofm.evaluation.folds.left_out_of`) stands in its rows.
    """
    grouped: defaultdict[tuple[str, str, str, str], list[TileScores]] = defaultdict(list)
    for score in scores:
        grouped[score.roles.dataset, score.task, score.metric, score.model].append(score)
    values = {key: _value(*units_of(parts)) for key, parts in grouped.items()}
    rows = []
    for key, parts in sorted(grouped.items()):
        dataset, task, metric, model = key
        split, resampled = HELD_OUT[parts[0].roles.kind]
        gain, total = units_of(parts)
        low, high = bootstrap(gain, total, samples=settings.bootstrap_samples, seed=settings.seed)
        rows.append(
            Row(
                dataset=dataset,
                modality=str(parts[0].roles.modality),
                task=task,
                metric=metric,
                unit=unit_of(task, metric),
                higher_is_better=True,
                split=left_out.get(dataset, f"{folds}-fold {split}"),
                model=model,
                seed=settings.seed,
                value=values[key],
                null=values[dataset, task, metric, NULL],
                ci_low=rounded(low),
                ci_high=rounded(high),
                ci_unit=resampled,
                n=len(gain),
            )
        )
    return tuple(rows)


def best_baseline(rows: Sequence[Row], *, dataset: str, task: str, metric: str) -> Row:
    """Return the row of the best model that is not ours."""
    others = [row for row in rows if (row.dataset, row.task, row.metric) == (dataset, task, metric)]
    return max((row for row in others if not row.model.startswith(OURS)), key=lambda row: row.value)


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Nest the values as {dataset: {task: {metric: {model: value}}}}, for ``dvc metrics show`` and ``diff``.

    Beside the models stands ``neurofm_minus_best_baseline``: positive where ours is ahead. Of several models of
    ours one stands for all (`row.standing`).
    """
    nested: dict[str, dict[str, Any]] = {}
    for row in rows:
        nested.setdefault(row.dataset, {}).setdefault(row.task, {}).setdefault(row.metric, {})[row.model] = row.value
    for dataset, tasks in nested.items():
        for task, metrics in tasks.items():
            for metric, values in metrics.items():
                best = best_baseline(rows, dataset=dataset, task=task, metric=metric)
                if metric != CORRELATION and (ours := standing(values)) is not None:
                    values["neurofm_minus_best_baseline"] = rounded(values[ours] - best.value)
    return nested


def units_of(parts: Sequence[TileScores]) -> tuple[Floats, Floats]:
    """Return gain and total, each [unit, column], of what is resampled.

    Units are tiles, or subjects with their score as gain and a total of 1.
    """
    if parts[0].roles.kind not in UNSEEN:
        gain, total = np.concatenate([part.gain for part in parts]), np.concatenate([part.total for part in parts])
        # Tiles in which nothing could be scored (no valid sample, the target not measured) are no units.
        scored = total.any(axis=1)
        return gain[scored], total[scored]
    subjects: defaultdict[str, list[TileScores]] = defaultdict(list)
    for part in parts:
        subjects[part.roles.unit].append(part)
    scores = []
    for _, own in sorted(subjects.items()):
        of_own, total = np.concatenate([part.gain for part in own]), np.concatenate([part.total for part in own])
        had = total.any(axis=0)
        if had.any() and not had.all():
            # A class that a subject does not have in what is scored says nothing of it, and must not make it NaN.
            of_own, total = of_own[:, had], total[:, had]
        scores.append(ratio(of_own, total))
    gain = np.array(scores)[:, None]
    return gain, np.ones_like(gain)


def _value(gain: Floats, total: Floats) -> float:
    return rounded(ratio(gain, total))


def rounded(value: float) -> float:
    """Round to the digits that are written."""
    return float(f"{value:.{DIGITS}g}")
