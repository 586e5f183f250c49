"""Steps that know little of their recording know no target either, and change nothing where nobody asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neurofm.model.bank import SPIKES_BANK, BankMixture
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training import mixtures
from neurofm.training.contexts import ModalityBank
from neurofm.training.mixtures import learn_banks, unlearned_mixture
from neurofm.training.recordings import TrainingRecording, training_recordings
from neurofm.training.settings import PretrainSettings, ShortCalibrations
from neurofm.training.short import known_from, piece_of, restandardised, short_at
from neurofm.training.step import Drawn
from neurofm.training.tuning import CoreChoices, choose_cores
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.sampling import Draw, blocks_of
from tests.training.conftest import simulate, view_of

SECONDS = 12.0
"""Of the simulated recordings, which have 10 samples a second."""


@pytest.fixture
def view() -> RecordingView:
    """Trials of 20 samples, and 5 that are not valid after each."""
    counts = simulate(Modality.SPIKES, samples=1500, channels=8, seed=0)
    counts[:, 7] = 0
    counts[::400, 7] = 3  # Seldom, but it does fire.
    made = view_of(counts, modality=Modality.SPIKES, train=[(0, 600), (700, 1200)], validation=[(1250, 1500)])
    return replace(made, valid=np.arange(1500) % 25 < 20)


@pytest.fixture
def short(settings: PretrainSettings) -> PretrainSettings:
    """Half of the steps of spikes."""
    return settings.model_copy(update={"short_calibrations": ShortCalibrations(share=0.5, seconds=(SECONDS, 25.0))})


@pytest.fixture
def choices(view: RecordingView, settings: PretrainSettings, windows: WindowsSettings) -> CoreChoices:
    linear = choose_cores([view], settings=settings, windows=windows)
    mixture = unlearned_mixture(SPIKES_BANK)
    torch.nn.init.constant_(mixture.by_identity.weight, 0.01)
    return replace(
        linear,
        by_channel_set={name: replace(choice, kind="mixture") for name, choice in linear.by_channel_set.items()},
        banks={Modality.SPIKES: ModalityBank(members=SPIKES_BANK, mixture=mixture)},
    )


def _described(
    view: RecordingView, choices: CoreChoices, short: PretrainSettings, windows: WindowsSettings
) -> TrainingRecording:
    (recording,) = training_recordings([view], choices=choices, settings=short, windows=windows)
    return recording


def _corrupted(view: RecordingView, segments: Sequence[Segment]) -> RecordingView:
    stored = view.stored[:].copy()
    for part in segments:
        stored[part.start : part.stop] = np.random.default_rng(5).integers(0, 9, stored[part.start : part.stop].shape)
    return replace(view, stored=stored)


def test_targets_are_in_nothing_that_a_short_calibration_says(
    view: RecordingView, choices: CoreChoices, short: PretrainSettings, windows: WindowsSettings
) -> None:
    before = _described(view, choices, short, windows)
    for number, episode in enumerate(before.source.episodes):
        known = before.short(number, SECONDS)
        after = _described(_corrupted(view, episode.targets), choices, short, windows).short(number, SECONDS)
        elsewhere = _described(_corrupted(view, known.view.roles.calibration), choices, short, windows)
        for other, is_same in ((after, True), (elsewhere.short(number, SECONDS), False)):
            assert np.array_equal(known.view.normaliser.mean, other.view.normaliser.mean) == is_same
            assert torch.equal(known.context.identity, other.context.identity) == is_same
            assert torch.equal(known.context.core.ss, other.context.core.ss) == is_same
            assert known.context.bank is not None
            assert other.context.bank is not None
            assert torch.equal(known.context.bank.weights, other.context.bank.weights) == is_same
            assert torch.equal(known.seen, other.seen) or not is_same


@pytest.mark.parametrize("seconds", [SECONDS, 25.0])
def test_a_piece_is_as_long_as_it_says_and_begins_with_a_trial(
    view: RecordingView, choices: CoreChoices, short: PretrainSettings, windows: WindowsSettings, seconds: float
) -> None:
    recording = _described(view, choices, short, windows)
    firsts = set()
    for number, episode in enumerate(recording.source.episodes):
        piece = recording.short(number, seconds).view.roles.calibration
        samples = np.concatenate([np.arange(part.start, part.stop) for part in piece])
        assert view.valid[samples].sum() == round(10 * seconds)
        inside = np.concatenate([np.arange(part.start, part.stop) for part in episode.calibration])
        assert np.isin(samples, inside).all()
        assert not view.valid[samples[0] - 1] or samples[0] in {part.start for part in episode.calibration}
        firsts.add(int(samples[0]))
    assert len(firsts) > 1


def test_a_recording_that_has_less_gives_all(view: RecordingView) -> None:
    calibration = (Segment(start=0, stop=100), Segment(start=120, stop=200))
    assert piece_of(view, calibration, seconds=60.0, seed=1) == calibration


def test_nothing_is_drawn_and_nothing_is_written_down_without_a_share(settings: PretrainSettings) -> None:
    assert not any(short_at(number, Modality.SPIKES, settings=settings) for number in range(100))
    assert "short" not in settings.key()


def test_as_many_steps_as_the_share_says_and_none_of_an_atlas(short: PretrainSettings) -> None:
    drawn = [short_at(number, Modality.SPIKES, settings=short) for number in range(2000)]
    for seconds, share in ((None, 0.5), (SECONDS, 0.25), (25.0, 0.25)):
        assert drawn.count(seconds) / len(drawn) == pytest.approx(share, abs=0.04)
    assert not any(short_at(number, Modality.FMRI, settings=short) for number in range(100))


def test_a_step_is_in_the_units_and_by_the_description_of_its_piece(
    view: RecordingView, choices: CoreChoices, short: PretrainSettings, windows: WindowsSettings
) -> None:
    recording = _described(view, choices, short, windows)
    block = blocks_of([recording.source], most_samples=[None])[0]
    starts = block.starts(np.array([0, 7, 31]))
    z = torch.from_numpy(np.stack([view.z(start, start + 20) for start in starts]))
    counts = torch.from_numpy(np.stack([view.valid[start : start + 20] for start in starts]))
    draw = Draw(source=0, block=block, starts=starts, hidden=np.array([1, 7]), visible=np.array([0, 2, 3, 4, 5, 6]))
    drawn = Drawn(recording=recording, draw=draw, z=z, counts=counts)
    for number in range(12):
        lesson = drawn.lesson(step=number, patch=5, settings=short)
        seconds = short_at(number, Modality.SPIKES, settings=short)
        if seconds is None:
            assert torch.equal(lesson.truth, z[..., [1, 7]])
            continue
        known = recording.short(block.episode, seconds)
        asked = [channel for channel in (1, 7) if known.view.usable[channel]]
        wanted = np.stack([known.view.z(start, start + 20) for start in starts])[..., asked]
        torch.testing.assert_close(lesson.truth, torch.from_numpy(wanted), atol=1e-5, rtol=1e-5)
        assert torch.equal(lesson.batch.query.identity, known.context.identity[asked])
        assert not torch.equal(lesson.truth, z[..., asked])


def test_a_unit_that_seldom_fired_is_not_looked_at(
    view: RecordingView, choices: CoreChoices, short: PretrainSettings, windows: WindowsSettings
) -> None:
    known = _described(view, choices, short, windows).short(0, SECONDS)
    some, asked = known.channels(torch.arange(8), torch.arange(8))
    assert 7 not in some.tolist()
    assert set(asked.tolist()) == set(np.flatnonzero(known.view.usable).tolist())


def test_restandardised_is_what_the_view_would_give(view: RecordingView) -> None:
    known = known_from(view, (Segment(start=0, stop=200),))
    z, valid = torch.from_numpy(view.z(300, 400))[None], torch.from_numpy(view.valid[300:400])[None]
    found = restandardised(z, valid, whole=view, short=known)
    torch.testing.assert_close(found[0], torch.from_numpy(known.z(300, 400)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, z)


def test_a_mixture_learns_from_short_pieces_beside_all_that_it_learned_from(
    view: RecordingView,
    settings: PretrainSettings,
    short: PretrainSettings,
    windows: WindowsSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linear = choose_cores([view], settings=settings, windows=windows)
    seen: dict[bool, list[mixtures.MixtureDraw]] = {}
    for is_on, chosen in ((False, settings), (True, short)):
        taken: list[list[mixtures.MixtureDraw]] = []

        def note(
            draws: Sequence[mixtures.MixtureDraw], taken: list[list[mixtures.MixtureDraw]] = taken, **_: Any
        ) -> BankMixture:
            taken.append(list(draws))
            return unlearned_mixture(SPIKES_BANK)

        monkeypatch.setattr(mixtures, "_learn", note)
        learn_banks([view], choices=linear, settings=chosen, windows=windows, known={})
        seen[is_on] = taken[0]
    amounts = [round(10 ** (float(draw.features[0, 11]) + 3)) for draw in seen[True]]
    whole = [draw for draw, amount in zip(seen[True], amounts, strict=True) if amount not in (120, 250)]
    assert len(seen[True]) > len(whole) == len(seen[False])
    assert {120, 250} < set(amounts)
    for one, other in zip(whole, seen[False], strict=True):
        assert torch.equal(one.estimates, other.estimates)
