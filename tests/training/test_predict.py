"""Predictor: from visible channels only, described from calibration only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings

HIDDEN = np.array([1, 4])


@pytest.fixture
def folder(views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path) -> Path:
    longer = settings.model_copy(update={"steps": 60, "validate_every_steps": 20})
    pretrain(views, settings=longer, windows=windows, fold=0, run_dir=tmp_path / "run", out_dir=tmp_path / "out")
    return tmp_path / "out"


def _seen(view: RecordingView) -> tuple[np.ndarray, np.ndarray]:
    """(visible values of three windows of the test segment, their channels)."""
    start = view.roles.test[0].start
    visible = np.setdiff1d(np.flatnonzero(view.usable), HIDDEN)
    z = np.stack([view.z(first, first + 20) for first in (start, start + 20, start + 40)])
    return z[..., visible], visible


@pytest.mark.parametrize("which", [0, 4])
def test_predictions_beat_the_mean_and_do_not_depend_on_what_is_hidden_or_scored(
    which: int, folder: Path, views: list[RecordingView]
) -> None:
    view = views[which]
    seen, visible = _seen(view)
    predicted = Predictor.load(folder).predict(view, seen, visible, HIDDEN)
    assert predicted.shape == (3, 20, 2)
    start = view.roles.test[0].start
    truth = np.stack([view.z(first, first + 20)[:, HIDDEN] for first in (start, start + 20, start + 40)])
    assert ((truth - predicted) ** 2).sum() < (truth**2).sum()

    stored = view.stored[:].copy()
    for segment in (*view.roles.test, *view.roles.validation):
        stored[segment.start : segment.stop] = 99
    changed = Predictor.load(folder).predict(replace(view, stored=stored), seen, visible, HIDDEN)
    np.testing.assert_array_equal(changed, predicted)


def test_the_network_adds_to_the_core_where_its_gain_is_not_zero(folder: Path, views: list[RecordingView]) -> None:
    predictor = Predictor.load(folder)
    with torch.no_grad():
        # Heads start at zero, and after a few steps they may still be there.
        for weights in predictor.checkpoint.network.heads.parameters():
            weights.add_(0.1)
    view = views[0]
    predictor.checkpoint.gains[Modality.SPIKES] = 1.0
    whole, linear = (method(view, *_seen(view), HIDDEN) for method in (predictor.predict, predictor.predict_linear))
    assert not np.array_equal(whole, linear)
    predictor.checkpoint.gains[Modality.SPIKES] = 0.0
    np.testing.assert_array_equal(predictor.predict(view, *_seen(view), HIDDEN), linear)


def test_expected_counts_are_never_negative(folder: Path, views: list[RecordingView]) -> None:
    view = views[0]
    seen, visible = _seen(view)
    z = Predictor.load(folder).predict_linear(view, seen - 20, visible, HIDDEN)
    assert (view.normaliser.rate(z, HIDDEN) > 0).all()


def test_order_of_visible_channels_does_not_matter(folder: Path, views: list[RecordingView]) -> None:
    predictor = Predictor.load(folder)
    view = views[4]
    seen, visible = _seen(view)
    turned = predictor.predict(view, seen[..., ::-1].copy(), visible[::-1].copy(), HIDDEN)
    np.testing.assert_allclose(turned, predictor.predict(view, seen, visible, HIDDEN), atol=1e-5)


def test_latents_have_one_row_per_patch(folder: Path, views: list[RecordingView]) -> None:
    view = views[0]
    latents = Predictor.load(folder).encode(view, np.stack([view.z(0, 20), view.z(20, 40)]))
    assert latents.shape == (2, 4, 16 + 32)
    assert latents.dtype == np.float32
    assert np.isfinite(latents).all()


def test_recordings_that_trained_do_not_count_twice(folder: Path, views: list[RecordingView]) -> None:
    predictor = Predictor.load(folder)
    for view in views[:2]:
        prior = predictor.checkpoint.priors[view.channel_set]
        own = sum(segment.stop - segment.start for segment in view.roles.train)
        assert prior.samples == own * (1 if view.modality is Modality.SPIKES else 2)
    alone = predictor.prepare(views[0]).core
    without = Predictor(replace(predictor.checkpoint, priors={})).prepare(views[0]).core
    np.testing.assert_array_equal(alone.ss.numpy(), without.ss.numpy())


def test_who_was_seen_in_training_is_known_without_names(folder: Path) -> None:
    predictor = Predictor.load(folder)
    seen = {subject: predictor.trained_on(subject) for subject in ("lab:r", "lab:sub0", "lab:sub2", "lab:sub3")}
    assert seen == {"lab:r": True, "lab:sub0": True, "lab:sub2": False, "lab:sub3": False}
    assert "sub0" not in (folder / "config.json").read_text()


def test_by_which_roles_a_recording_was_learned_from_is_known(folder: Path, views: list[RecordingView]) -> None:
    predictor = Predictor.load(folder)
    assert {view.name: predictor.learned_as(view.name) for view in views} == {
        view.name: view.roles.digest() if view.roles.train else None for view in views
    }


def test_new_channels_are_predicted_with_what_was_chosen_for_their_modality(
    folder: Path, views: list[RecordingView]
) -> None:
    view = replace(views[4], recording="new", channel_set="fmri-other-atlas")
    predictor = Predictor.load(folder, strict=False)
    assert np.isfinite(predictor.predict(view, *_seen(view), HIDDEN)).all()
    assert predictor.prepare(view).core.settings == predictor.checkpoint.choices.by_modality[Modality.FMRI].core


def test_a_modality_never_trained_on_is_refused(folder: Path, views: list[RecordingView]) -> None:
    view = replace(views[4], recording="eeg", modality=Modality.EEG, channel_set="eeg-x")
    with pytest.raises(UserError, match="not trained on eeg recordings"):
        Predictor.load(folder).prepare(view)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "statistics.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_model_is_named(name: str, damage: str, folder: Path) -> None:
    file = folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="not a readable model"):
        Predictor.load(folder)
