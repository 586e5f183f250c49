"""Rows: subjects weigh alike, tiles are pooled, bytes are stable."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.examples import Example, read_examples
from neurofm.evaluation.row import Row
from neurofm.evaluation.scoreboard import Scoreboard, make_rows, summarise
from neurofm.evaluation.scores import TileScores
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Kind
from tests.evaluation.conftest import spans

SHARES = {"null": 0.0, "ridge": 0.4, "gaussian": 0.3, "neurofm": 0.5, "neurofm-linear-core": 0.7}


def _scores(
    model: str, shares: list[float], *, kind: Kind = "time", subject: str = "lab:a", tile_total: float = 2.0
) -> TileScores:
    roles = FoldRecording(
        dataset="d", recording="r", subject=subject, modality=Modality.EEG, kind=kind, calibration=spans([(0, 9)])
    )
    total = np.full((len(shares), 1), tile_total)
    return TileScores(
        roles=roles,
        task="masked_reconstruction",
        metric="R2",
        model=model,
        gain=total * np.array(shares)[:, None],
        total=total,
    )


def _board(settings: EvaluateSettings) -> Scoreboard:
    scores = [_scores(model, [share, share + 0.1 / 3]) for model, share in SHARES.items()]
    example = Example(
        dataset="d",
        recording="r",
        modality="eeg",
        fold=0,
        sampling_rate_hz=100.0,
        start_s=1.5,
        channels=("Fz", "Cz"),
        unit="SD",
        truth=np.arange(6.0).reshape(3, 2),
        reconstructions={"neurofm": np.ones((3, 2)), "ridge": np.zeros((3, 2))},
    )
    return Scoreboard(rows=make_rows(scores, folds=3, settings=settings), timings={"d": {}}, examples=(example,))


def test_tiles_are_pooled_over_folds(settings: EvaluateSettings) -> None:
    parts = [_scores("null", [0.0, 0.2]), _scores("null", [0.6], tile_total=6.0)]
    (row,) = make_rows(parts, folds=3, settings=settings)
    assert row.value == pytest.approx((0.0 * 2 + 0.2 * 2 + 0.6 * 6) / 10)
    assert (row.n, row.ci_unit, row.split) == (3, "time block", "3-fold time blocks")
    assert row.ci_low < row.value < row.ci_high


def test_tiles_without_anything_to_score_are_not_counted(settings: EvaluateSettings) -> None:
    (row,) = make_rows(
        [_scores("null", [0.1, 0.2]), _scores("null", [0.0], tile_total=0.0)], folds=3, settings=settings
    )
    assert row.n == 2


def test_subjects_weigh_alike(settings: EvaluateSettings) -> None:
    parts = [
        _scores("null", [0.1] * 50, kind="subject", subject="lab:a"),
        _scores("null", [0.5], kind="subject", subject="lab:b"),
        _scores("null", [0.9], kind="subject", subject="lab:b"),
    ]
    (row,) = make_rows(parts, folds=3, settings=settings)
    assert row.value == pytest.approx((0.1 + 0.7) / 2)
    assert (row.n, row.ci_unit, row.split) == (2, "subject", "3-fold by subject")
    assert (row.ci_low, row.ci_high) == pytest.approx((0.1, 0.7))


def test_sessions_that_are_held_out_are_resampled(settings: EvaluateSettings) -> None:
    days = [_scores("null", [share], kind="session") for share in (0.1, 0.5, 0.9)]
    parts = [
        replace(day, roles=day.roles.model_copy(update={"session": str(number)})) for number, day in enumerate(days)
    ]
    (row,) = make_rows(parts, folds=3, settings=settings)
    assert (row.n, row.ci_unit, row.split) == (3, "session", "3-fold by session")


def test_every_row_has_the_null_of_its_data(settings: EvaluateSettings) -> None:
    rows = _board(settings).rows
    assert [row.model for row in rows] == sorted(SHARES)
    null = next(row.value for row in rows if row.model == "null")
    assert {row.null for row in rows} == {null}


def test_the_summary_states_the_distance_to_the_best_baseline(settings: EvaluateSettings) -> None:
    values = summarise(_board(settings).rows)["d"]["masked_reconstruction"]["R2"]
    assert values["ridge"] == pytest.approx(0.416667)
    # Neither another model of ours nor the null is the baseline.
    assert values["neurofm_minus_best_baseline"] == pytest.approx(0.1)


def test_the_same_scores_give_the_same_bytes(settings: EvaluateSettings, tmp_path: Path) -> None:
    names = ("m/scoreboard.json", "m/scoreboard.csv", "m/summary.json", "m/timings.json", "r/reconstructions.npz")
    written = []
    for run in ("one", "two"):
        _board(settings).write(metrics=tmp_path / run / "m", reports=tmp_path / run / "r")
        written.append([(tmp_path / run / name).read_bytes() for name in names])
    assert written[0] == written[1]
    rows = json.loads(written[0][0])
    assert rows == [Row.model_validate(row).model_dump(mode="json") for row in rows]
    with (tmp_path / "one/m/scoreboard.csv").open(newline="") as table:
        assert [row["model"] for row in csv.DictReader(table)] == [row["model"] for row in rows]
    assert rows[0]["value"] == 0.316667


def test_examples_come_back_as_they_were(settings: EvaluateSettings, tmp_path: Path) -> None:
    board = _board(settings)
    board.write(metrics=tmp_path, reports=tmp_path)
    (found,) = read_examples(tmp_path / "reconstructions.npz")
    (expected,) = board.examples
    assert found.channels == expected.channels
    assert list(found.reconstructions) == ["neurofm", "ridge"]
    np.testing.assert_array_equal(found.truth, expected.truth)
    np.testing.assert_array_equal(found.reconstructions["neurofm"], expected.reconstructions["neurofm"])
