"""Result of one cell: its scores unit by unit, so that any two cells can be compared pair by pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from neurofm.errors import UserError
from neurofm.evaluation.row import CORRELATION
from neurofm.evaluation.scores import TileScores, ratio
from neurofm.files import write_json
from neurofm.settings import Settings
from neurofm.splits import UNSEEN

_BLOCKS = 32
"""Most blocks that a recording split in time is resampled in: neighbouring windows resemble each other, and intervals
over single ones would be too narrow."""
_DIGITS = 9


class UnitScores(Settings):
    """One metric of one dataset."""

    dataset: str
    modality: str
    task: str
    metric: str
    ci_unit: str
    """``subject`` or ``session``, whose own score is `gain` (and `total` 1), or ``time block`` of some windows."""
    gain: tuple[float, ...]
    total: tuple[float, ...]
    """[unit]"""

    @property
    def key(self) -> tuple[str, str, str]:
        """What two results have in common: dataset, task and metric."""
        return self.dataset, self.task, self.metric


class CellResult(Settings):
    """``metrics/ablations/cells/<cell>-<seed>.json``."""

    cell: str
    seed: int
    steps: int
    """Done; early stopping counted in."""
    best_step: int
    parameters: int
    residual_gain: dict[str, float]
    scores: tuple[UnitScores, ...]

    def write(self, path: Path) -> None:
        """Write it."""
        write_json(path, self.model_dump(mode="json"), indent=None)

    @classmethod
    def read(cls, path: Path) -> CellResult:
        """Read what `write` wrote.

        Raises
        ------
        UserError
            If it is missing or damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path}: not a readable result of an ablation: {what}.", mend="make ablations writes it"
            ) from None


def result_path(folder: Path, cell: str, seed: int) -> Path:
    """Return where the result of a cell lies."""
    return folder / f"{cell}-{seed}.json"


def by_unit(scores: Iterable[TileScores]) -> tuple[UnitScores, ...]:
    """Join what one model scored in one fold, as `neurofm.evaluation.scoreboard.make_rows` does, but unit by unit."""
    grouped: defaultdict[tuple[str, str, str], list[TileScores]] = defaultdict(list)
    for score in (score for score in scores if score.metric != CORRELATION):
        grouped[score.roles.dataset, score.task, score.metric].append(score)
    return tuple(_joined(parts) for _, parts in sorted(grouped.items()))


def _joined(parts: list[TileScores]) -> UnitScores:
    roles, unseen = parts[0].roles, parts[0].roles.kind in UNSEEN
    units = _unseen(parts) if unseen else [pair for part in parts for pair in _blocks(part)]
    return UnitScores(
        dataset=roles.dataset,
        modality=str(roles.modality),
        task=parts[0].task,
        metric=parts[0].metric,
        ci_unit=roles.kind if unseen else "time block",
        gain=tuple(_rounded(gain) for gain, _ in units),
        total=tuple(_rounded(total) for _, total in units),
    )


def _unseen(parts: list[TileScores]) -> list[tuple[float, float]]:
    own: defaultdict[str, list[TileScores]] = defaultdict(list)
    for part in parts:
        own[part.roles.unit].append(part)
    return [
        (ratio(np.concatenate([one.gain for one in found]), np.concatenate([one.total for one in found])), 1.0)
        for _, found in sorted(own.items())
    ]


def _blocks(part: TileScores) -> list[tuple[float, float]]:
    scored = np.flatnonzero(part.total.any(axis=1))
    return [
        (float(part.gain[rows].sum()), float(part.total[rows].sum()))
        for rows in np.array_split(scored, min(_BLOCKS, max(1, len(scored))))
        if len(rows)
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
