"""The linear core's settings are chosen by what predicts unseen data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView, WindowsSettings


def test_slow_signals_are_smoothed_and_short_calibration_takes_the_prior(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    choices = choose_cores(views, settings=settings, windows=windows)
    assert set(choices.by_channel_set) == {"spikes-r", "fmri-atlas"}
    assert max(choices.by_channel_set["spikes-r"].core.smoothing_samples) > 0
    assert choices.by_channel_set["fmri-atlas"].core.prior_samples == 100.0
    assert choices.by_modality[Modality.FMRI] == choices.by_channel_set["fmri-atlas"]


def test_test_segments_are_not_looked_at(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    poisoned = []
    for view in views:
        stored = view.stored[:].copy()
        for segment in view.roles.test:
            stored[segment.start : segment.stop] = np.random.default_rng(0).integers(0, 99)
        poisoned.append(replace(view, stored=stored))
    assert choose_cores(poisoned, settings=settings, windows=windows) == choose_cores(
        views, settings=settings, windows=windows
    )


def test_without_validation_segments_train_chunks_choose(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    view = views[0]
    alone = replace(view, roles=view.roles.model_copy(update={"validation": ()}))
    choices = choose_cores([alone], settings=settings, windows=windows)
    assert max(choices.of(alone).core.smoothing_samples) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_fraction_min": 0.6}, "hidden_fraction_min 0.6 exceeds hidden_fraction_max"),
        ({"steps": "12"}, "`steps`"),
        ({"shares": dict.fromkeys([str(m) for m in Modality], 0.0)}, "every share is 0"),
        ({"core": {"smoothing_samples": [-1.0], "ridge": [0.1], "prior_samples": [0.0], "rate_floors": [0.1]}}, "-1.0"),
        ({"stepz": 3}, "`stepz`: unknown key"),
    ],
)
def test_contradictory_settings_are_refused_in_one_line(
    change: dict[str, object], message: str, settings: PretrainSettings
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        PretrainSettings.parse(settings.model_dump(mode="json") | change, where="params.yaml: pretrain", mend="x")
    assert "\n" not in str(refused.value)
