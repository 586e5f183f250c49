"""Paired steps show another modality of the same seconds, and nothing of what is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import network_of
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.batches import cut
from neurofm.training.checkpoint import patch_samples
from neurofm.training.paired import Partners, pairs_said
from neurofm.training.pretrain import pretrain
from neurofm.training.recordings import TrainingRecording, schedule_of, training_recordings
from neurofm.training.settings import PretrainSettings
from neurofm.training.step import Drawn
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView
from neurofm.windows.pairs import inside
from tests.at_once import PATCH, WINDOW, WINDOWS, AtOnce
from tests.training.conftest import small_settings
from tests.training.test_whole_model import WHOLE

CORE = {"smoothing_samples": [1.0], "ridge": [0.1], "prior_samples": [0.0], "rate_floors": [0.1], "bank": False}
PATCH_SAMPLES = patch_samples(WINDOWS)


def _settings(**changes: Any) -> PretrainSettings:
    shares = dict.fromkeys([str(m) for m in Modality], 0.0) | {"eeg": 0.5, "meg": 0.5}
    plain = small_settings().model_dump(mode="json") | {
        "shares": shares,
        "core": CORE,
        "model": ModelSettings.parse(WHOLE | {"backbone": "gru"}, where="", mend="").model_dump(mode="json"),
        "paired": 1.0,
        "steps": 2,
        "validate_every_steps": 2,
        "batch_windows": 6,
    }
    return PretrainSettings.parse(plain | changes, where="pretrain", mend="")


@pytest.fixture(scope="module")
def recordings(at_once: AtOnce) -> list[TrainingRecording]:
    views, settings = at_once.views(), _settings(masks={"eeg": {"patches": 1.0}, "meg": {"channels": 1.0}})
    choices = choose_cores(views, settings=settings, windows=WINDOWS)
    return training_recordings(views, choices=choices, settings=settings, windows=WINDOWS)


def _drawn(recordings: list[TrainingRecording], modality: Modality, settings: PretrainSettings) -> tuple[Drawn, int]:
    """The first draw of a modality, and its number."""
    schedule = schedule_of(recordings, settings=settings)
    number = next(n for n in range(40) if recordings[schedule.at(n).source].view.modality is modality)
    draw = schedule.at(number)
    recording = recordings[draw.source]
    z, counts = cut(recording.view, draw.starts, window_samples=WINDOW)
    return Drawn(recording=recording, draw=draw, z=z, counts=counts), number


def _residual(drawn: Drawn, number: int, settings: PretrainSettings) -> tuple[Tensor, Tensor]:
    """What a network of random weights makes of a lesson, and the core's estimate."""
    torch.manual_seed(0)
    network = network_of(settings.model, patch_samples=PATCH_SAMPLES).eval()
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    batch = drawn.lesson(step=number, patch=PATCH, settings=settings).batch
    with torch.no_grad():
        return network(batch.seen, batch.query), batch.linear


def _poisoned(recording: TrainingRecording) -> TrainingRecording:
    """The same recording, described as before, with other samples."""
    stored = recording.view.stored[:]
    return replace(recording, view=replace(recording.view, stored=np.ascontiguousarray(stored[::-1])))


@pytest.mark.parametrize("kind", ["channels", "patches"])
def test_a_hidden_value_cannot_be_reached_and_the_other_modality_can(
    recordings: list[TrainingRecording], kind: str
) -> None:
    settings = _settings(masks={"eeg": {kind: 1.0}})
    alone, number = _drawn(recordings, Modality.EEG, settings)
    partners = Partners(recordings, settings=settings, patch_samples=PATCH_SAMPLES)
    drawn = partners.joined(alone, number=number)
    assert drawn.beside is not None
    assert drawn.beside.modality is Modality.MEG
    found, linear = _residual(drawn, number, settings)

    hidden = torch.zeros_like(drawn.z, dtype=torch.bool)
    if kind == "channels":
        hidden[..., torch.from_numpy(drawn.draw.hidden)] = True
    else:
        shown = drawn.lesson(step=number, patch=PATCH, settings=settings).batch.seen.shown
        assert shown is not None
        usable = torch.from_numpy(drawn.recording.source.usable)
        hidden[..., usable] = ~shown.repeat_interleave(PATCH, dim=1)
    changed = replace(drawn, z=torch.where(hidden, drawn.z + 5.0, drawn.z))
    after, linear_after = _residual(changed, number, settings)
    assert torch.equal(found, after)
    assert torch.equal(linear, linear_after)

    # What is visible of the same windows does move it, and so does the other modality, of which only the core is blind.
    seen, _ = _residual(replace(drawn, z=torch.where(hidden, drawn.z, drawn.z + 1.0)), number, settings)
    assert not torch.allclose(found, seen, atol=1e-3)
    eeg, meg = recordings
    others = Partners([eeg, _poisoned(meg)], settings=settings, patch_samples=PATCH_SAMPLES)
    moved, linear_moved = _residual(others.joined(alone, number=number), number, settings)
    assert not torch.allclose(found, moved, atol=1e-3)
    assert torch.equal(linear, linear_moved)


@pytest.mark.parametrize("modality", [Modality.EEG, Modality.MEG])
def test_what_lies_beside_is_of_the_same_seconds(recordings: list[TrainingRecording], modality: Modality) -> None:
    settings = _settings()
    alone, number = _drawn(recordings, modality, settings)
    drawn = Partners(recordings, settings=settings, patch_samples=PATCH_SAMPLES).joined(alone, number=number)
    other = next(one.view for one in recordings if one.view.modality is not modality)
    assert drawn.beside is not None
    # Both begin with the file and have one rate.
    z = torch.from_numpy(np.stack([other.z(start, start + WINDOW) for start in drawn.draw.starts.tolist()]))
    distance = (drawn.beside.values.unsqueeze(-1) - z.unsqueeze(-2)).abs().amax(dim=(0, 1)).amin(dim=1)
    assert float(distance.max()) == 0.0
    assert len(distance) >= len(other.channel_ids) // 2 - 1
    again = Partners(recordings, settings=settings, patch_samples=PATCH_SAMPLES).joined(alone, number=number)
    assert again.beside is not None
    assert torch.equal(again.beside.values, drawn.beside.values)


def test_windows_that_the_partner_does_not_learn_from_are_left_out(recordings: list[TrainingRecording]) -> None:
    settings = _settings()
    eeg, meg = recordings
    alone, number = _drawn(recordings, Modality.EEG, settings)
    middle = int(np.median(alone.draw.starts)) + WINDOW // 2
    fewer = meg.view.roles.model_copy(update={"train": (Segment(start=int(alone.draw.starts.min()), stop=middle),)})
    shorter = replace(meg, view=replace(meg.view, roles=fewer))
    drawn = Partners([eeg, shorter], settings=settings, patch_samples=PATCH_SAMPLES).joined(alone, number=number)
    assert 0 < len(drawn.z) < len(alone.z)
    assert drawn.beside is not None
    assert len(drawn.beside.values) == len(drawn.z) == len(drawn.counts) == len(drawn.draw.starts)
    assert inside(shorter.view, "train", drawn.draw.starts, samples=WINDOW).all()

    nothing = meg.view.roles.model_copy(update={"train": (Segment(start=0, stop=1),)})
    gone = replace(meg, view=replace(meg.view, roles=nothing))
    assert Partners([eeg, gone], settings=settings, patch_samples=PATCH_SAMPLES).joined(alone, number=number) is alone


def test_windows_stay_enough_for_the_slices_of_a_step(recordings: list[TrainingRecording]) -> None:
    eeg, meg = recordings
    # Of 5 of 6 windows that hide patches, every second is taken where at most 4 are.
    masks = {"eeg": {"patches": 1.0}, "windows": 4}
    alone, number = _drawn(recordings, Modality.EEG, _settings(masks=masks))
    starts = np.sort(alone.draw.starts)
    fewer = meg.view.roles.model_copy(
        update={"train": (Segment(start=int(starts[0]), stop=int(starts[-1]) + WINDOW - 1),)}
    )
    shorter = [eeg, replace(meg, view=replace(meg.view, roles=fewer))]
    kept = int((starts < starts[-1]).sum())

    def joined(slices: int) -> Drawn:
        settings = _settings(masks=masks, slices=slices)
        return Partners(shorter, settings=settings, patch_samples=PATCH_SAMPLES).joined(alone, number=number)

    learned = len(joined(1).lesson(step=number, patch=PATCH, settings=_settings(masks=masks)).batch)
    assert len(joined(1).z) == kept > learned
    assert joined(learned).beside is not None
    assert joined(learned + 1) is alone


def test_the_share_of_paired_steps_is_that_of_the_settings(recordings: list[TrainingRecording]) -> None:
    alone, _ = _drawn(recordings, Modality.EEG, _settings())

    def share(paired: float) -> float:
        partners = Partners(recordings, settings=_settings(paired=paired), patch_samples=PATCH_SAMPLES)
        return float(np.mean([partners.joined(alone, number=number).beside is not None for number in range(60)]))

    assert share(0.0) == 0.0
    assert share(1.0) == 1.0
    assert 0.15 < share(0.3) < 0.45


def test_without_latents_nothing_can_be_paired() -> None:
    model = small_settings().model.model_dump(mode="json")
    with pytest.raises(UserError, match=r"paired 1 contradicts model.latents 0"):
        _settings(model=model)


def test_it_is_said_who_was_recorded_at_once(at_once: AtOnce) -> None:
    views = at_once.views()
    assert "mne-sample-eeg/sub-sample_task-audiovisual and mne-sample-meg/" in pairs_said(views, who="fold 0")
    assert "at once for 23.98 s" in pairs_said(views, who="fold 0")
    assert "changes nothing: no two were recorded at once" in pairs_said(views[:1], who="fold 0")
    eeg, meg = views
    whole = (Segment(start=0, stop=len(meg.valid)),)
    learned = replace(meg, roles=meg.roles.model_copy(update={"train": whole, "validation": (), "test": ()}))
    assert "changes nothing: what was recorded at once is not cut alike" in pairs_said([eeg, learned], who="fold 0")
    many = [replace(meg, recording=str(number)) for number in range(12)]
    lines = pairs_said([eeg, *many], who="fold 0").splitlines()
    assert len(lines) == 11
    assert lines[-1].startswith("fold 0: 12 pairs in all, 287.")


def test_a_fold_learns_from_both_and_only_pairs_change_it(at_once: AtOnce, tmp_path: Path) -> None:
    def model(name: str, views: list[RecordingView], **changes: Any) -> bytes:
        settings, out = _settings(**changes), tmp_path / name
        result = pretrain(
            views, settings=settings, windows=WINDOWS, fold=0, run_dir=tmp_path / f"run-{name}", out_dir=out
        )
        assert result.curve[-1]["validation"].keys() == {"eeg", "meg"}
        assert np.isfinite(list(result.curve[-1]["validation"].values())).all()
        return (out / "model.safetensors").read_bytes()

    views = at_once.views()
    apart = [replace(view, moment=None) for view in views]
    alone = model("alone", views, paired=0.0)
    assert model("apart", apart) == alone
    assert model("paired", views) != alone
