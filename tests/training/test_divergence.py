"""A loss that is not a number costs its step, several in a row go back, and in the end there is a diagnosis."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch

from neurofm.errors import UserError
from neurofm.training import divergence, scoring
from neurofm.training.divergence import is_sound, usual_loss
from neurofm.training.pretrain import FoldResult
from neurofm.training.settings import SafeguardSettings
from neurofm.training.state import RunState
from neurofm.training.stopping import Stopped
from tests.training.faults import Lab, at_draw


@pytest.mark.parametrize("value", [math.nan, 1e6])
def test_a_bad_step_is_skipped_named_and_counted(
    value: float, lab: Lab, whole: tuple[FoldResult, dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    with at_draw(lambda step: value if step == 5 else None) as steps:
        result = lab.train("spoiled")
    assert steps == list(range(12)), "it is not done again"
    assert result.skipped_steps == 1
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "skipped" in line)
    assert said.startswith("pretrain fold 0: the loss of ")
    assert "at step 5, learning rate 0.00159; this step is skipped" in said
    assert all(value.isfinite().all() for value in lab.kept("spoiled")["weights"].values())
    assert whole[0].skipped_steps is None
    assert lab.model("spoiled") != whole[1]


def _state_after(*means: dict[str, float]) -> RunState:
    curve = [{"step": number, "train": one} for number, one in enumerate(means)]
    return RunState(
        step=9, weights={}, average={}, optimizer={}, best={}, best_step=0, best_score=1.0, stale=0, curve=curve
    )


@pytest.mark.parametrize(
    ("means", "usual"),
    [
        ([], 1.0),
        ([{"fmri": 0.2}], 1.0),
        ([{"spikes": 0.5}, {"spikes": 0.2, "fmri": 0.1}, {"fmri": 0.3}], 0.2),
        ([{"spikes": 0.2}, {"spikes": 7.0}], 1.0),
    ],
    ids=["at first", "of another modality", "when it was last learned", "never above that of the mean"],
)
def test_a_loss_explodes_by_what_it_usually_is(means: list[dict[str, float]], usual: float) -> None:
    limits = SafeguardSettings(exploding_loss=100.0)
    assert usual_loss(_state_after(*means), "spikes") == usual
    assert is_sound(99.9 * usual, 1.0, usual=usual, settings=limits)
    assert not is_sound(100.1 * usual, 1.0, usual=usual, settings=limits)


def test_a_step_is_skipped_on_one_side_of_the_limit_and_learned_from_on_the_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    def noted(loss: float, norm: float, *, usual: float, settings: SafeguardSettings) -> bool:
        times.append(loss / usual)
        return divergence.is_sound(loss, norm, usual=usual, settings=settings)

    monkeypatch.setattr("neurofm.training.loop.is_sound", noted)
    spoiled = [at_draw(lambda step: 5.0 if step == 9 else None) for _ in range(2)]
    with spoiled[0]:
        assert lab.train("below").skipped_steps is None
    largest = times[9]
    assert largest == max(times)
    with spoiled[1]:
        limits = SafeguardSettings(exploding_loss=0.999 * largest)
        assert lab.train("above", safeguards=limits).skipped_steps == 1


def test_a_bad_step_leaves_no_trace_in_weights(lab: Lab) -> None:
    def fault(step: int) -> float | None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return math.nan if step in {4, 5} else None

    with at_draw(fault), pytest.raises(Stopped):
        lab.train("bad")
    one, other = lab.kept("bad"), lab.kept("bad", file="between-last.pt")
    assert (one["step"], other["step"], other["skipped"]) == (4, 6, 2)
    for name in ("weights", "average"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name])


def test_several_in_a_row_go_back_with_a_lower_rate_and_training_ends_well(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [6, 7, 8]

    def fault(step: int) -> float | None:
        if bad and step == bad[0]:
            bad.pop(0)
            return math.nan
        return None

    with at_draw(fault) as steps:
        result = lab.train("back", safeguards=SafeguardSettings(skips=3))
    assert steps == [*range(9), *range(4, 12)], "from the state of step 4"
    assert result.steps == 12
    assert result.skipped_steps == 3
    assert lab.kept("back")["rate"] == 0.5
    assert [point["step"] for point in result.curve] == [4, 8, 12]
    assert "back to step 4, with 0.5 times the learning rate" in capsys.readouterr().err


def test_before_the_first_validation_it_goes_back_to_the_start(
    lab: Lab, whole: tuple[FoldResult, dict[str, bytes]]
) -> None:
    bad = [0, 1]
    limits = SafeguardSettings(skips=2, rollback_rate=0.999999999)
    with at_draw(lambda step: math.nan if bad and step == bad.pop(0) else None) as steps:
        result = lab.train("start", safeguards=limits)
    assert steps == [0, 1, *range(12)]
    for point, known in zip(result.curve, whole[0].curve, strict=True):
        assert point["train"] == pytest.approx(known["train"], rel=1e-5)


def test_a_training_that_diverges_again_and_again_ends_with_a_diagnosis(lab: Lab) -> None:
    limits = SafeguardSettings(skips=2, rollbacks=2)
    with (
        at_draw(lambda step: math.nan if step >= 5 else None) as steps,
        pytest.raises(
            UserError,
            match=r"the loss of (spikes|fmri) \(.*\) is nan at step 6, learning rate 0.000327 "
            "after going back 2 times; 6 steps were skipped",
        ),
    ):
        lab.train("lost", safeguards=limits)
    assert steps == [*range(7), 4, 5, 6, 4, 5, 6]
    assert lab.kept("lost")["step"] == 4, "what was good is kept"
    assert not (lab.at / "lost" / "out").exists()


def test_weights_that_validate_as_infinite_go_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    measured, calls = scoring.losses, list[int]()

    def infinite_once(*args: object, **kwargs: object) -> object:
        calls.append(1)
        found = measured(*args, **kwargs)  # type: ignore[arg-type]
        return dict.fromkeys(found, math.inf) if len(calls) == 2 else found

    monkeypatch.setattr("neurofm.training.loop.losses", infinite_once)
    with at_draw(lambda _: None) as steps:
        result = lab.train("infinite")
    assert steps == [*range(8), *range(4, 12)]
    assert all(math.isfinite(loss) for point in result.curve for loss in point["validation"].values())
