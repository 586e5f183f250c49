"""A training without faults gives the numbers that it gave before it had any safeguard."""

from __future__ import annotations

import pytest

from neurofm.training.pretrain import FoldResult

KNOWN = [
    (4, {"fmri": 0.3798270400, "spikes": 0.5676164046}, {"fmri": 0.3575355981, "spikes": 0.6753552051}),
    (8, {"fmri": 0.5180649389}, {"fmri": 0.3564625617, "spikes": 0.6753555002}),
    (12, {"fmri": 0.4152133391, "spikes": 0.5297773936}, {"fmri": 0.3562290333, "spikes": 0.6753542736}),
]
"""Step, training and validation loss, from the loop of 29 November 2026."""


def test_losses_are_those_that_were_written_down(whole: tuple[FoldResult, dict[str, bytes]]) -> None:
    result, _ = whole
    assert [point["step"] for point in result.curve] == [step for step, *_ in KNOWN]
    for point, (_, train, validation) in zip(result.curve, KNOWN, strict=True):
        assert point["train"] == pytest.approx(train, rel=1e-5)
        assert point["validation"] == pytest.approx(validation, rel=1e-5)
    assert result.best_step == 12
    assert result.residual_gain["fmri"] == 1.0
