"""SIGTERM and SIGUSR1 keep what was learned, and the run that goes on ends with the same bits."""

from __future__ import annotations

import os
import signal

import pytest

from neurofm.training import learning_rate, scoring
from neurofm.training.pretrain import FoldResult
from neurofm.training.stopping import Stopped
from tests.training.faults import Lab, at_draw

Whole = tuple[FoldResult, dict[str, bytes]]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_keeps_the_step_and_resuming_gives_the_same_bits(
    signum: signal.Signals, code: int, lab: Lab, whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signum)
    with at_draw(lambda step: os.kill(os.getpid(), signum) if step == 6 else None), pytest.raises(Stopped) as stopped:
        lab.train("told")
    assert stopped.value.code == code
    assert f"pretrain fold 0: ended by {signum.name}; what is kept is of step 6" in capsys.readouterr().err
    assert lab.kept("told", file="between-last.pt")["step"] == 6
    assert not (lab.at / "told" / "out").exists()
    assert signal.getsignal(signum) is before
    with at_draw(lambda _: None) as steps:
        assert lab.train("told") == whole[0]
    assert steps == list(range(6, 12))
    assert lab.model("told") == whole[1]
    assert not (lab.at / "told" / "run" / "between-last.pt").exists()


def test_a_signal_in_the_middle_of_an_update_waits_for_its_end(
    lab: Lab, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = learning_rate.move_average

    def told(*args: object, step: int, **kwargs: object) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)
        move(*args, step=step, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("neurofm.training.learner.move_average", told)
        with pytest.raises(Stopped):
            lab.train("told")
    assert lab.kept("told", file="between-last.pt")["step"] == 3
    assert lab.train("told") == whole[0]
    assert lab.model("told") == whole[1]


def test_a_signal_while_validating_is_heard_at_once_and_validation_is_done_again(
    lab: Lab, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    residuals = scoring.residuals
    validated: list[int] = []

    def told(*args: object, **kwargs: object) -> object:
        validated.append(1)
        if len(validated) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return residuals(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("neurofm.training.loop.residuals", told)
    with pytest.raises(Stopped):
        lab.train("told")
    assert lab.kept("told", file="between-last.pt")["step"] == 8
    assert lab.train("told") == whole[0]
    assert len(validated) == 4
    assert lab.model("told") == whole[1]


def test_divergence_after_a_signal_goes_back_to_where_it_would_have_gone_without(lab: Lab) -> None:
    spoiled: list[int] = []

    def bad(step: int) -> float | None:
        """Spoil five steps, once."""
        if step not in {6, 7, 8, 9, 10} or step in spoiled:
            return None
        spoiled.append(step)
        return float("nan")

    with at_draw(bad) as steps:
        expected = lab.train("whole")
    assert steps == [*range(11), *range(4, 12)]
    spoiled.clear()
    with (
        at_draw(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 5 else None),
        pytest.raises(Stopped),
    ):
        lab.train("told")
    with at_draw(bad) as steps:
        assert lab.train("told") == expected
    assert steps == [*range(5, 11), *range(4, 12)]
    assert lab.model("told") == lab.model("whole")
