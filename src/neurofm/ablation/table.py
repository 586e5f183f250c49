"""Table: what each cell changes, as a paired difference to the cell that it is compared with."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from neurofm.ablation.result import CellResult, UnitScores, result_path
from neurofm.ablation.settings import AblationSettings
from neurofm.evaluation.scoreboard import rounded
from neurofm.evaluation.seeded import SeededScores, seeded_difference, seeded_estimate
from neurofm.evaluation.trait_scores import Resampling
from neurofm.files import write_atomic, write_json
from neurofm.settings import Settings


class Difference(Settings):
    """One cell on one dataset, by one metric."""

    cell: str
    part: str
    against: str
    dataset: str
    modality: str
    task: str
    metric: str
    value_against: float
    value: float
    """Means over seeds."""
    difference: float
    ci_low: float
    ci_high: float
    """95 %, over units and seeds drawn anew together."""
    is_clear: bool
    """Whether the interval that covers all differences of the table together with 95 % (Bonferroni) leaves out 0, and
    there are units enough for that to mean something: that all of them agree by chance must be rarer."""
    ci_unit: str
    n: int
    seeds: int


def read_results(folder: Path, settings: AblationSettings) -> dict[str, list[CellResult]]:
    """Read the results of all cells, by cell and in the order of the seeds.

    Raises
    ------
    UserError
        If one is missing or damaged.
    """
    return {
        cell: [CellResult.read(result_path(folder, cell, seed)) for seed in settings.seeds] for cell in settings.cells
    }


def differences(
    results: Mapping[str, Sequence[CellResult]], settings: AblationSettings, *, seed: int
) -> tuple[Difference, ...]:
    """Compare every cell with the one that it is against, wherever both were scored.

    Parameters
    ----------
    results
        By cell, one per seed.
    settings
        Which is compared with which.
    seed
        Of the draws.
    """
    resampling = Resampling(samples=settings.bootstrap_samples, seed=seed)
    pairs = [
        (cell, key)
        for cell, chosen in settings.cells.items()
        if chosen.against != cell
        for key in _shared(results[cell], results[chosen.against])
    ]
    rows = []
    for cell, key in pairs:
        chosen = settings.cells[cell]
        unit = _of(results[cell][0], key)
        ours, theirs = (_seeded(results[name], key) for name in (cell, chosen.against))
        found = seeded_difference(ours, theirs, resampling=resampling)
        all_together = seeded_difference(ours, theirs, resampling=resampling, comparisons=len(pairs))
        rows.append(
            Difference(
                cell=cell,
                part=chosen.part,
                against=chosen.against,
                dataset=unit.dataset,
                modality=unit.modality,
                task=unit.task,
                metric=unit.metric,
                value_against=rounded(seeded_estimate(theirs, resampling=resampling).value),
                value=rounded(seeded_estimate(ours, resampling=resampling).value),
                difference=rounded(found.value),
                ci_low=rounded(found.low),
                ci_high=rounded(found.high),
                is_clear=_can_say(len(unit.gain), comparisons=len(pairs))
                and (all_together.low > 0 or all_together.high < 0),
                ci_unit=unit.ci_unit,
                n=len(unit.gain),
                seeds=len(settings.seeds),
            )
        )
    return tuple(rows)


def write_table(rows: Sequence[Difference], folder: Path) -> None:
    """Write ``table.json``, ``table.csv`` and ``table.md``, which docs can take over."""
    plain = [row.model_dump(mode="json") for row in rows]
    write_json(folder / "table.json", plain)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(Difference.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    write_atomic(folder / "table.csv", table.getvalue().encode())
    write_atomic(folder / "table.md", markdown(rows).encode())


def markdown(rows: Sequence[Difference]) -> str:
    """Return one line per cell, one column per dataset, task and metric; clear differences are bold."""
    columns = sorted({(row.modality, row.dataset, row.task, row.metric) for row in rows})
    found = {(row.cell, row.modality, row.dataset, row.task, row.metric): row for row in rows}
    lines = [
        "| cell (part), against | " + " | ".join(_heading(*column) for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for cell in dict.fromkeys(row.cell for row in rows):
        first = next(row for row in rows if row.cell == cell)
        own = [found.get((cell, *column)) for column in columns]
        lines.append(f"| `{cell}` ({first.part}), `{first.against}` | {' | '.join(map(_entry, own))} |")
    return "\n".join(lines) + "\n"


def _heading(modality: str, dataset: str, task: str, metric: str) -> str:
    return f"{modality} {dataset}, {task.removeprefix('masked_').replace('_', ' ')}, {metric.replace('_', ' ')}"


def _entry(row: Difference | None) -> str:
    if row is None:
        return ""
    text = f"{row.difference:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
    return f"**{text}**" if row.is_clear else text


def _can_say(units: int, *, comparisons: int) -> bool:
    """Whether so many units that all agree could reject chance at all (sign test); intervals of three never can."""
    return 2.0 ** (1 - units) * comparisons < 0.05


def _shared(ours: Sequence[CellResult], theirs: Sequence[CellResult]) -> list[tuple[str, str, str]]:
    """Return what was scored of both with every seed."""
    keys = [{unit.key for unit in result.scores} for result in (*ours, *theirs)]
    return sorted(set.intersection(*keys))


def _of(result: CellResult, key: tuple[str, str, str]) -> UnitScores:
    return next(unit for unit in result.scores if unit.key == key)


def _seeded(results: Sequence[CellResult], key: tuple[str, str, str]) -> SeededScores:
    units = [_of(result, key) for result in results]
    gain, total = (np.array([getattr(unit, name) for unit in units])[..., None] for name in ("gain", "total"))
    return SeededScores(gain=gain, total=total)
