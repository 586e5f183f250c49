"""Rows of the scoreboard and of what is made from it, by number or by name."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.operations.provenance.subject import nearest, printable


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number, and what it is the score of."""

    name: tuple[str, ...]
    """Dataset, task, metric, model; of timings: dataset, task, model."""
    value: float
    facts: dict[str, Any]
    """The rest of its row."""

    @property
    def dataset(self) -> str:
        """Whose score it is."""
        return self.name[0]

    def __str__(self) -> str:
        return "/".join(self.name)


def select_scores(path: Path, row: str) -> list[Score]:
    """Return the rows that `row` names.

    Parameters
    ----------
    path
        ``scoreboard.json`` or ``.csv``, ``summary.json``, ``differences.json`` or ``timings.json``.
    row
        A number (the first row is 1), or the beginning of a name: ``dataset``, ``dataset/task/metric/model``, or the
        same with dots, as ``dvc metrics show`` writes it. Empty takes all.

    Raises
    ------
    UserError
        If the file is not what its stage writes, or no row has that name.
    """
    try:
        scores = list(_scores(path))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"{path}: not readable as scores ({printable(' '.join(str(error).split()))}).",
            mend="restore it (`git checkout` or `dvc pull`), or run `dvc repro`",
        ) from None
    if not row:
        return scores
    if row.isdecimal() and 1 <= int(row) <= len(scores):
        return [scores[int(row) - 1]]
    wanted = tuple(re.split(r"[/.]", row))
    found = [score for score in scores if score.name[: len(wanted)] == wanted]
    if not found:
        raise UserError(
            f"{path}: there is no row {printable(row)!r}; it has {len(scores)} rows.",
            mend=nearest(row.replace(".", "/"), _names(scores)) or "name a dataset, or dataset/task/metric/model",
        )
    return found


def _names(scores: Sequence[Score]) -> list[str]:
    """Return every name that a row can be asked for by, the shorter first."""
    names = ["/".join(score.name[:parts]) for parts in range(1, 5) for score in scores if len(score.name) >= parts]
    return list(dict.fromkeys(names))


def _scores(path: Path) -> Iterator[Score]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            yield from map(_from_row, csv.DictReader(file))
        return
    content = json.loads(path.read_bytes())
    if isinstance(content, list):
        yield from map(_from_row, content)
    elif "differences" in content:
        yield from (_from_row({**row, "model": row["ours"]}) for row in content["differences"])
    else:
        yield from _leaves(content, ())


def _from_row(row: dict[str, Any]) -> Score:
    name = ("dataset", "task", "metric", "model")
    facts = {key: value for key, value in row.items() if key not in {*name, "value"}}
    return Score(name=tuple(str(row[key]) for key in name), value=float(row["value"]), facts=facts)


def _leaves(content: dict[str, Any], name: tuple[str, ...]) -> Iterator[Score]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*name, key))
        else:
            yield Score(name=(*name, key), value=float(value), facts={})
