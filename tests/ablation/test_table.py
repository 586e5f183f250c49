"""Differences are paired over units and seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.ablation.figure import draw
from neurofm.ablation.result import CellResult, UnitScores, by_unit, result_path
from neurofm.ablation.settings import AblationSettings
from neurofm.ablation.table import differences, read_results, write_table
from neurofm.errors import UserError
from neurofm.evaluation.scores import TileScores
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind

SETTINGS = AblationSettings.parse(
    {
        "seeds": [1, 2],
        "bootstrap_samples": 200,
        "cells": {
            "base": {"part": "nothing"},
            "better": {"part": "all", "changes": {"pretrain.steps": 1}},
            "same": {"part": "none", "changes": {"pretrain.steps": 2}},
        },
    },
    where="",
    mend="",
)
# What 24 blocks can explain differs ten times more between blocks than between cells.
HARD = np.linspace(0.0, 0.6, 24)
SHIFT = {"base": 0.0, "better": 0.05, "same": 0.0}


def _write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for cell, shift in SHIFT.items():
        for seed in SETTINGS.seeds:
            gain = HARD + shift + 0.01 * rng.normal(size=len(HARD))
            unit = UnitScores(
                dataset="d",
                modality="eeg",
                task="masked_reconstruction",
                metric="R2",
                ci_unit="time block",
                gain=tuple(gain),
                total=(1.0,) * len(HARD),
            )
            CellResult(
                cell=cell, seed=seed, steps=1, best_step=1, parameters=1, residual_gain={}, scores=(unit,)
            ).write(result_path(folder, cell, seed))


def test_a_difference_is_seen_through_what_both_find_hard(tmp_path: Path) -> None:
    _write(tmp_path)
    better, same = differences(read_results(tmp_path, SETTINGS), SETTINGS, seed=1)
    assert (better.cell, better.against, better.n, better.seeds) == ("better", "base", 24, 2)
    assert better.difference == pytest.approx(0.05, abs=0.01)
    assert better.difference == pytest.approx(better.value - better.value_against, abs=1e-5)
    assert better.ci_low > 0.03
    assert better.is_clear
    assert same.ci_low < 0 < same.ci_high
    assert not same.is_clear
    write_table([better, same], tmp_path)
    assert "**+0.05" in (tmp_path / "table.md").read_text()
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    draw([better, same], tmp_path / "d.png", dpi=50)
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")


def test_a_few_units_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "HARD", HARD[::8])
    _write(tmp_path)
    better, _ = differences(read_results(tmp_path, SETTINGS), SETTINGS, seed=1)
    assert (better.n, better.is_clear) == (3, False)
    assert better.ci_low > 0


def test_a_missing_cell_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    result_path(tmp_path, "same", 2).unlink()
    with pytest.raises(UserError, match=r"same-2\.json"):
        read_results(tmp_path, SETTINGS)


def _scores(subject: str, kind: Kind, gain: list[float], total: list[float]) -> TileScores:
    roles = FoldRecording(
        dataset="d",
        recording=subject,
        subject=subject,
        modality=Modality.EEG,
        kind=kind,
        calibration=(),
        train=(),
        validation=(),
        test=(),
    )
    columns = (np.array(part)[:, None] for part in (gain, total))
    return TileScores(
        roles=roles, task="t", metric="R2", model="m", **dict(zip(("gain", "total"), columns, strict=True))
    )


def test_units() -> None:
    (people,) = by_unit([_scores("b", "subject", [1, 1], [2, 2]), _scores("a", "subject", [1, 0], [1, 1])])
    assert (people.ci_unit, people.gain, people.total) == ("subject", (0.5, 0.5), (1.0, 1.0))
    # 70 windows, of which one could gain nothing, are 32 blocks that add up to the same.
    (time,) = by_unit([_scores("a", "time", [0.0] + [1.0] * 69, [0.0] + [2.0] * 69)])
    assert (time.ci_unit, len(time.gain)) == ("time block", 32)
    assert sum(time.gain) / sum(time.total) == pytest.approx(0.5)
