"""What a stage cost is written down however it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.operations.stage import COSTS, read_costs, stage_run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_stage_that_ends_well_says_what_it_cost() -> None:
    with stage_run("preprocess", "gw-rest"):
        held = bytearray(64 * 1024 * 1024)
        held[::4096] = b"x" * len(held[::4096])
    cost = read_costs(Path())["preprocess@gw-rest"]
    assert (cost.stage, cost.dataset, cost.succeeded) == ("preprocess", "gw-rest", True)
    assert cost.seconds > 0
    assert cost.cpu_s > 0
    assert cost.peak_mb > 64


def test_a_mistake_is_one_line_and_the_cost_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, stage_run("split"):
        raise UserError("too few subjects.", mend="add some")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: too few subjects. Mend: add some\n"
    assert not read_costs(Path())["split"].succeeded


def test_a_damaged_cost_counts_as_not_there() -> None:
    with stage_run("split"):
        pass
    (COSTS / "report.json").write_text('{"stage": "report"')
    (COSTS / "evaluate.json").write_text(json.dumps({"stage": "evaluate", "unknown": 1}))
    assert set(read_costs(Path())) == {"split"}
