"""The linear core's settings are chosen by what predicts unseen data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.core import Moments
from neurofm.recording import Modality
from neurofm.training.contexts import moments_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.train_moments import TrainMoments
from neurofm.training.tuning import choose_cores, prior_of, tuned_on
from neurofm.windows import RecordingView, WindowsSettings
from tests.training.conftest import Span, view_of


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
        ({"shares": dict.fromkeys([str(m) for m in Modality if m is not Modality.MEG], 0.0)}, "every share is 0"),
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


def _children(shared_data: Path, which: range) -> list[RecordingView]:
    """64 regions of real films; the last child is validated on."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    views = []
    for number in which:
        spans: dict[str, list[Span]] = {"train": [(0, 168)], "calibration": [(0, 168)]}
        if number == which[-1]:
            spans = {"validation": [(48, 168)], "calibration": [(0, 48)]}
        views.append(
            view_of(
                np.load(files[number]).astype(np.float64),
                modality=Modality.FMRI,
                name=files[number].name.partition("_")[0],
                channel_set="fmri-basc",
                kind="subject",
                **spans,
            )
        )
    return views


def test_settings_of_many_channels_are_chosen_on_some_of_them(
    shared_data: Path, settings: PretrainSettings, windows: WindowsSettings
) -> None:
    children = _children(shared_data, range(4))
    capped = settings.model_copy(update={"core": settings.core.model_copy(update={"most_channels": 16})})
    drawn = tuned_on(children[0], settings=capped)
    assert drawn is not None
    assert len(drawn) == 16
    assert tuned_on(children[0], settings=settings) is None, "64 are few"

    def with_other(values: npt.NDArray[np.int64]) -> list[RecordingView]:
        changed = []
        for child in children:
            stored = np.array(child.stored[:])
            stored[:, values] = stored[::-1][:, values]
            changed.append(replace(child, stored=stored))
        return changed

    others = np.setdiff1d(np.arange(64), drawn.numpy())
    found = choose_cores(children, settings=capped, windows=windows)
    assert choose_cores(with_other(others), settings=capped, windows=windows) == found
    assert found.of(children[0]).core.prior_samples == 100.0, "other children help"


def test_moments_are_computed_once_per_child(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = _children(shared_data, range(5))
    asked = []

    def counting(view: RecordingView, *rest: Any, **named: Any) -> Moments:
        asked.append(view.name)
        return moments_of(view, *rest, **named)

    monkeypatch.setattr("neurofm.training.train_moments.moments_of", counting)
    known = TrainMoments()
    for child in children:
        arguments: dict[str, Any] = {
            "channel_set": child.channel_set,
            "without": child.subject,
            "sds_samples": (0.0, 2.0),
            "channels": 64,
        }
        with_known, without = prior_of(children, **arguments, known=known), prior_of(children, **arguments)
        assert torch.equal(with_known.ss, without.ss)
        assert torch.equal(with_known.xs, without.xs)
        assert with_known.samples == without.samples == (3 if child is not children[-1] else 4) * 168
    # Five priors of four others each; the shared ones cost five.
    assert len(asked) == 5 + 5 * 4
    # Others at another scale are not taken for them.
    prior_of(children, **(arguments | {"sds_samples": (0.0, 1.0)}), known=known)
    assert len(asked) == 5 + 5 * 4 + 4
