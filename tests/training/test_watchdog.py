"""A step that hangs, and a process that is killed, cost what was not kept, and no bit of the result."""

from __future__ import annotations

import signal
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.training import watchdog
from neurofm.training.pretrain import FoldResult
from neurofm.training.site import TrainingSite
from neurofm.training.stopping import Stopped
from neurofm.training.watched import Heartbeat
from tests.training import conftest, hung

SITE = TrainingSite(step_limit_s=1.0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nobody who is stopped."""
    monkeypatch.setattr(watchdog, "_KEEP_S", 0.5)
    monkeypatch.setattr(watchdog, "_END_S", 1.0)


def _steps(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def _count(folder: Path, faults: dict[int, str], site: TrainingSite = SITE) -> Any:
    (result,) = watchdog.train_folds(partial(hung.count, folder=folder, faults=faults), [0], workers=1, site=site)
    return result


def test_a_training_that_hangs_goes_on_to_the_same_bits(
    tmp_path: Path,
    whole: tuple[FoldResult, dict[str, bytes]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "_KEEP_S", 10.0)
    one = partial(hung.train, folder=tmp_path, faults={6: "hangs"})
    (result,) = watchdog.train_folds(one, [0], workers=1, site=TrainingSite(step_limit_s=2.0))
    assert _steps(tmp_path) == [*(f"{step} None" for step in range(7)), *(f"{step} " for step in range(6, 12))]
    assert result == whole[0]
    assert conftest.small_lab(tmp_path).model("told") == whole[1]
    said = capfd.readouterr().err
    assert (
        "pretrain fold 0: step 6 did not end within 2 s; it was ended, and what it had learned is kept (it was" in said
    )
    assert "loop.py:" in said, "where it hung"
    assert "it goes on from there on the CPU" in said


def test_one_that_cannot_keep_anything_is_killed_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _count(tmp_path, {3: "stops", 5: "killed"}) == "ten"
    assert _steps(tmp_path) == [
        *(f"{step} None" for step in range(4)),
        *(f"{step} " for step in (*range(6), *range(10))),
    ]
    said = capfd.readouterr().err
    assert "step 3 did not end within 1 s; it was ended, and what it learned since its last validation is lost" in said
    assert "its process was ended by SIGKILL at step 5" in said


def test_with_other_settings_it_ends_in_one_line_and_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    stop = SITE.model_copy(update={"after_hang": "stop"})
    with pytest.raises(UserError, match="fold 0: step 3 did not end within 1 s") as refused:
        _count(tmp_path, {3: "hangs"}, stop)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "kept").read_text() == "3"
    few = TrainingSite(step_limit_s=1.0, after_hang="resume", most_hangs=1)
    with pytest.raises(UserError, match="ended by SIGKILL at step 6; 2 such faults"):
        _count(tmp_path, {3: "hangs", 4: "killed", 6: "killed"}, few)
    assert _count(tmp_path, {}, few) == "ten"
    assert all(line.endswith(" None") for line in _steps(tmp_path))


@pytest.mark.parametrize(("fault", "code"), [("parent told", 143), ("told", 138)])
def test_a_signal_to_either_ends_both_and_the_state_is_kept(
    fault: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        _count(tmp_path, {4: fault})
    assert stopped.value.code == code
    assert int((tmp_path / "kept").read_text()) >= 4
    assert f"ended by {stopped.value.name}" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert _count(tmp_path, {}) == "ten"


def test_ctrl_c_ends_all_and_the_state_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        _count(tmp_path, {4: "all interrupted"})
    assert (tmp_path / "kept").read_text() == "4"
    said = capfd.readouterr().err
    assert "ended by SIGTERM" in said
    assert "Traceback" not in said
    assert _count(tmp_path, {}) == "ten"


def test_mistakes_and_bugs_come_through(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the user's mistake"):
        _count(tmp_path, {1: "refuses"})
    with pytest.raises(watchdog.TrainingCrashed, match="ZeroDivisionError: a bug"):
        _count(tmp_path, {2: "fails"})
    assert _count(tmp_path, {}, TrainingSite(step_limit_s=None)) == "ten"


def test_time_during_which_nothing_ran_does_not_count() -> None:
    heartbeat = Heartbeat(get_context("spawn"))
    heartbeat.forgive(100.0)
    assert heartbeat.seconds == 0.0, "it rests"
    heartbeat.beat("step 1")
    heartbeat.forgive(100.0)
    assert heartbeat.seconds < -90.0
