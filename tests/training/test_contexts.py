"""What describes a recording never saw the targets that it helps to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.model.bank import FLUORESCENCE_BANK, SPIKES_BANK
from neurofm.model.core import Moments
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.batches import make_batch
from neurofm.training.contexts import Context, ModalityBank, bank_of, make_context
from neurofm.training.mixtures import unlearned_mixture
from neurofm.training.recordings import training_recordings
from neurofm.training.scoring import validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import CoreChoices, choose_cores
from neurofm.windows import RecordingView, WindowsSettings


def _corrupted(view: RecordingView, segments: Sequence[Segment]) -> RecordingView:
    stored = view.stored[:].copy()
    rng = np.random.default_rng(5)
    for segment in segments:
        part = stored[segment.start : segment.stop]
        part[...] = rng.integers(0, 200, size=part.shape)
    return replace(view, stored=stored)


def _parts(context: Context) -> list[Tensor]:
    """All that is known of a recording."""
    parts = [context.identity, context.core.ss, context.core.xs, context.scale.mean]
    if context.bank:
        members = context.bank.bank.members
        parts += [context.bank.features, context.bank.weights, *(member.loadings for member in members)]
        parts.append(torch.tensor([member.noise for member in members]))
    return parts


def _same(one: Context, other: Context) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_parts(one), _parts(other), strict=True))


@pytest.fixture
def choices(views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings) -> CoreChoices:
    """Of regions the linear core; of spikes the linear core and a bank, weighed by who a unit is."""
    linear = choose_cores(views, settings=settings, windows=windows)
    mixture = unlearned_mixture(SPIKES_BANK)
    torch.nn.init.constant_(mixture.by_identity.weight, 0.01)
    return replace(
        linear,
        by_channel_set={
            name: replace(choice, kind="mixture" if name == "spikes-r" else "linear")
            for name, choice in linear.by_channel_set.items()
        },
        banks={Modality.SPIKES: ModalityBank(members=SPIKES_BANK, mixture=mixture)},
    )


@pytest.mark.parametrize("which", [0, 1])
def test_targets_of_an_episode_change_nothing_that_it_is_described_by(
    which: int,
    views: list[RecordingView],
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> None:
    before = training_recordings(views, choices=choices, settings=settings, windows=windows)[which]
    assert all(bool(context.bank) == (which == 0) for context in before.contexts)
    for number, episode in enumerate(before.source.episodes):
        changed = [_corrupted(view, episode.targets) if view.name == before.view.name else view for view in views]
        after = training_recordings(changed, choices=choices, settings=settings, windows=windows)[which]
        same = [_same(one, other) for one, other in zip(before.contexts, after.contexts, strict=True)]
        assert same[number]
        assert not all(same), "the other episodes are described by these samples, so the corruption is real"


def test_validation_contexts_see_calibration_only(
    views: list[RecordingView], choices: CoreChoices, settings: PretrainSettings, windows: WindowsSettings
) -> None:
    before = validation_items(views, choices=choices, settings=settings, windows=windows)
    changed = [_corrupted(view, (*view.roles.validation, *view.roles.test)) for view in views]
    after = validation_items(changed, choices=choices, settings=settings, windows=windows)
    assert len(before) == 6
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.batch.query.identity, other.batch.query.identity)
        assert torch.equal(one.batch.query.correlations, other.batch.query.correlations)
        assert not torch.equal(one.truth, other.truth)
    poisoned = _corrupted(views[0], (*views[0].roles.validation, *views[0].roles.test))
    contexts = [_described(view, choices) for view in (views[0], poisoned)]
    assert _same(*contexts)
    assert contexts[0].bank


def _described(view: RecordingView, choices: CoreChoices) -> Context:
    choice = choices.of(view)
    scales = len(choice.core.smoothing_samples)
    prior = Moments.zero(channels=len(view.channel_ids), scales=scales)
    return make_context(view, calibration=view.roles.calibration, prior=prior, choice=choice, shared=choices.bank(view))


def test_a_bank_is_solved_from_valid_samples_of_its_segments_only(views: list[RecordingView]) -> None:
    valid = views[0].valid.copy()
    valid[[3, 4, 5, 120, 399]] = False
    holed = replace(views[0], valid=valid)
    segments = (Segment(start=0, stop=100), Segment(start=100, stop=103), Segment(start=110, stop=390))
    bank = bank_of(holed, segments, members=FLUORESCENCE_BANK)
    outside = [Segment(start=start, stop=stop) for start, stop in ((3, 6), (103, 110), (120, 121), (390, 1200))]
    again = bank_of(_corrupted(holed, outside), segments, members=FLUORESCENCE_BANK)
    for one, other in zip(bank.members, again.members, strict=True):
        assert torch.equal(one.loadings, other.loadings)
    joined = bank_of(holed, (Segment(start=0, stop=103), segments[2]), members=FLUORESCENCE_BANK)
    kinds = zip(bank.members, joined.members, strict=True)
    assert [torch.allclose(one.loadings, other.loadings, rtol=1e-9) for one, other in kinds] == [
        member.smoothing_samples == 0 for member in FLUORESCENCE_BANK
    ], "smoothing ends at borders"


def test_a_bank_of_no_valid_sample_predicts_the_mean(views: list[RecordingView], choices: CoreChoices) -> None:
    blind = replace(views[0], valid=np.zeros_like(views[0].valid))
    visible, hidden = torch.arange(6), torch.arange(6, 8)
    bank = bank_of(blind, blind.roles.calibration, members=SPIKES_BANK)
    weights = torch.ones(2, len(SPIKES_BANK), dtype=torch.float64)
    found = bank.blend(torch.randn(2, 20, 6).double(), visible=visible, hidden=hidden, weights=weights)
    assert torch.equal(found, torch.zeros(2, 20, 2, dtype=torch.float64))


def test_linear_core_and_bank_are_mixed_by_channel(views: list[RecordingView], choices: CoreChoices) -> None:
    view = views[0]
    context = _described(view, choices)
    assert context.bank
    assert context.scale.sharpness
    visible, hidden = torch.arange(6), torch.arange(6, 8)
    values = torch.from_numpy(np.stack([view.z(900, 920), view.z(920, 940)]))[..., visible]
    batch = make_batch(view, context, values=values, visible=visible, hidden=hidden)
    own = context.bank.weights[hidden]
    parts = [make_batch(view, replace(context, bank=None), values=values, visible=visible, hidden=hidden).linear]
    masks = torch.arange(8) < 6
    everything = torch.nn.functional.pad(values.double(), (0, 2))
    parts.extend(context.bank.bank.estimate(everything, masks.expand(2, -1))[..., hidden, :].unbind(dim=-1))
    expected = (torch.stack(parts, dim=-1) * own).sum(dim=-1)
    torch.testing.assert_close(batch.linear, expected)
    assert (own[0] != own[1]).any()


def test_a_bank_that_was_chosen_and_is_not_there_is_an_error(views: list[RecordingView], choices: CoreChoices) -> None:
    with pytest.raises(ValueError, match="spikes/r: mixture was chosen, and there is no bank of spikes"):
        _described(views[0], replace(choices, banks={}))


def test_recordings_of_one_atlas_are_described_with_help_from_each_other_but_not_by_scored_subjects(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, choices: CoreChoices
) -> None:
    scored = [index for index, view in enumerate(views) if not view.roles.train]
    changed = [
        _corrupted(view, [Segment(start=0, stop=len(view.stored))]) if index in scored else view
        for index, view in enumerate(views)
    ]
    before = training_recordings(views, choices=choices, settings=settings, windows=windows)
    after = training_recordings(changed, choices=choices, settings=settings, windows=windows)
    for one, other in zip(before, after, strict=True):
        assert all(_same(a, b) for a, b in zip(one.contexts, other.contexts, strict=True))
