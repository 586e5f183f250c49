"""What a training does and costs is said, foretold and limited."""

from __future__ import annotations

import re
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.progress import Progressing
from neurofm.training.spending import Spending
from tests.training.faults import Lab


def test_what_is_spent_and_what_is_to_come_add_up() -> None:
    half = Spending(price_per_hour=2.0, side_by_side=2)
    assert half.rules() == "1 an hour"
    assert half.report(seconds=900, step=100, steps=400) == (
        "0.25 hours (0.25) spent at step 100; 1 hours (1) at most for all 400 steps"
    )
    limited = Spending(max_hours=0.5, price_per_hour=2.0)
    assert limited.report(seconds=900, step=100, steps=400).endswith("0.5 hours (1) at most for all 400 steps")


def test_the_limit_that_is_reached_first_is_named() -> None:
    both = Spending(max_hours=3.0, max_cost=4.0, price_per_hour=2.0)
    assert both.used_up(7199) is None
    assert both.used_up(7200) == "max_cost"
    assert Spending(max_hours=1.0, max_cost=4.0, price_per_hour=2.0).used_up(7200) == "max_hours"
    assert Spending().used_up(1e9) is None


def test_each_phase_has_its_part_of_the_budget() -> None:
    plan = {"broad": 60.0, "long": 30.0, "last": 10.0}
    parted = Spending(max_hours=2.0, price_per_hour=10.0, phases=plan)
    assert [parted.phase(step, steps=100) for step in (0, 59, 60, 89, 90, 99, 100)] == [
        *("broad", "broad", "long", "long", "last", "last", "last")
    ]
    # 75 steps in an hour and a half, of 100; the whole may take two hours.
    spent = {"broad": 4500.0, "long": 900.0}
    assert parted.report_phases(spent, step=75, steps=100).split("; ") == [
        "broad 1.25 hours (12.5), 1.25 hours (12.5) of 1.2 hours (12) in all",
        "long 0.25 hours (2.5), 0.55 hours (5.5) of 0.6 hours (6) in all",
        "last 0 hours (0), 0.2 hours (2) of 0.2 hours (2) in all",
    ]
    assert not Spending().phase(3, steps=4)


def test_phases_change_no_bit_and_their_time_adds_up(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    parted, whole = lab.train("parted", phases={"broad": 2.0, "last": 1.0}), lab.train("whole")
    assert parted == whole
    assert lab.model("parted") == lab.model("whole")
    said = [line for line in capsys.readouterr().err.splitlines() if "; last " in line]
    assert len(said) == 3
    state = lab.kept("parted")
    assert state["phase_seconds"].keys() == {"broad", "last"}
    assert sum(state["phase_seconds"].values()) == pytest.approx(state["seconds"])


def test_a_limit_on_money_without_a_price_is_refused_with_both_values() -> None:
    with pytest.raises(UserError, match=r"max_cost` is 5 in params.yaml, and `price_per_hour` is 0 in site.yaml"):
        Spending(max_cost=5.0)


def test_a_training_whose_money_is_spent_stops_and_says_so(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    result = lab.train("poor", price_per_hour=1.0, max_cost=1e-9)
    assert (result.steps, result.stopped_by) == (4, "max_cost")
    said = capsys.readouterr().err
    assert "pretrain fold 0: 1 an hour, at most 1e-09 in money" in said
    assert "spent at step 4; " in said
    assert "at most for all 12 steps" in said
    assert lab.train("poor").steps == 12, "with more it goes on"


def test_progress_says_windows_a_second_and_the_loss_of_each_modality(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    def noting(progress: Progressing, amount: float = 1.0, *, note: str = "") -> None:
        notes.append(note)

    monkeypatch.setattr(Progressing, "advance", noting)
    result = lab.train("noted")
    assert all(re.match(r"[\d.e+]+ windows/s", note) for note in notes if note)
    assert sum("loss" in note for note in notes) >= 12
    last: Any = result.curve[-1]["train"]
    before_validation = [note for note in notes if "fmri" in note and "spikes" in note][-1]
    assert before_validation.endswith(f"loss fmri {last['fmri']:.3f}, spikes {last['spikes']:.3f}")


def test_damage_that_is_met_while_training_is_said(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter(["", "pretrain fold 0: 1 damaged chunks; skipped\n", "same\n", "same\n"])
    monkeypatch.setattr("neurofm.training.fold.refuse_damage", lambda *_, **__: next(found))
    lab.train("damaged", steps=1)
    assert capsys.readouterr().err.count("1 damaged chunks; skipped") == 1
    lab.train("known before", steps=1)
    assert capsys.readouterr().err.count("same") == 1
