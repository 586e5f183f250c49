"""A training without faults gives the numbers that it has always given."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.training.pretrain import pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings

KNOWN = [
    {"step": 4, "train": {"fmri": 0.3798270400, "spikes": 0.5827841430}, "validation": [0.3575355981, 0.6760735117]},
    {"step": 8, "train": {"fmri": 0.5180649389}, "validation": [0.3564625617, 0.6760729932]},
    {"step": 12, "train": {"fmri": 0.4152136118, "spikes": 0.5277048210}, "validation": [0.3562291245, 0.6760969232]},
]
"""Written down before the loop had any safeguard."""


def test_losses_are_those_that_were_written_down(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path
) -> None:
    result = pretrain(views, settings=settings, windows=windows, fold=0, run_dir=tmp_path, out_dir=tmp_path / "out")
    assert [point["step"] for point in result.curve] == [4, 8, 12]
    for point, known in zip(result.curve, KNOWN, strict=True):
        assert point["train"] == pytest.approx(known["train"], rel=1e-5)
        assert list(point["validation"].values()) == pytest.approx(known["validation"], rel=1e-5)
    assert result.best_step == 12
    assert result.residual_gain["fmri"] == 1.0
