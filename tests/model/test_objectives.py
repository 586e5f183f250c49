"""Objectives are 1 at the mean, less where something is known, and judge what counts only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from neurofm.errors import UserError
from neurofm.model.auxiliary import ask_visible, replace_channels, unpair
from neurofm.model.heads import Task
from neurofm.model.losses import absolute_and_spectrum, gaussian
from neurofm.model.objectives import AUXILIARY_WEIGHT, OBJECTIVES, POOLED_WEIGHT, judge, total_loss
from neurofm.recording import Modality
from tests.model.conftest import batch, foundation, z_of


@pytest.mark.parametrize("modality", list(Modality))
def test_the_mean_is_one_and_the_truth_is_less(modality: Modality) -> None:
    part = batch(modality)
    nothing = torch.zeros_like(part.truth.z)
    loss, null = judge(modality, part.truth, estimate=nothing, residual=nothing, log_variance=nothing)
    assert loss == pytest.approx(float(null))
    assert null > 0.05
    better, _ = judge(modality, part.truth, estimate=0.5 * part.truth.z, residual=nothing, log_variance=nothing)
    assert better < 0.8 * loss


def test_what_does_not_count_is_not_judged() -> None:
    part = batch(Modality.FMRI)
    nothing = torch.zeros_like(part.truth.z)
    poisoned = replace(part.truth, z=torch.where(part.truth.counts, part.truth.z, torch.nan))
    expected = judge(Modality.FMRI, part.truth, estimate=nothing, residual=nothing)
    assert judge(Modality.FMRI, poisoned, estimate=nothing, residual=nothing) == expected
    blind = replace(part.truth, counts=torch.zeros_like(part.truth.counts))
    assert [float(x) for x in judge(Modality.FMRI, blind, estimate=nothing, residual=nothing)] == [0.0, 0.0]


def test_gaussian_is_the_likelihood_and_its_variance_stays_within_limits() -> None:
    z, mean, log_variance = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).double()
    expected = functional.gaussian_nll_loss(mean, z, log_variance.exp(), reduction="none")
    torch.testing.assert_close(gaussian(mean, z, log_variance), expected)
    certain = gaussian(z, z, torch.full_like(z, -1e9))
    assert torch.equal(certain, torch.full_like(z, -3.0))
    assert OBJECTIVES[Modality.CALCIUM].outputs == 2


def test_the_right_power_of_eeg_counts_and_artefacts_are_cut_off() -> None:
    seconds = torch.arange(40) / 200
    wave = torch.sin(2 * torch.pi * 10 * seconds)
    assert absolute_and_spectrum(wave, wave).abs().max() == 0
    flat, shifted = (absolute_and_spectrum(x, wave) - (x - wave).abs() for x in (0 * wave, wave.roll(5)))
    assert flat.mean() > 5 * shifted.mean()
    assert absolute_and_spectrum(wave, wave + 1e6).max() < 100


def test_parts_add_up_by_their_weights() -> None:
    judged = {
        Modality.EEG: (torch.tensor(2.0), torch.tensor(4.0)),
        Modality.FMRI: (torch.tensor(3.0), torch.tensor(1.0)),
    }
    logits, labels = torch.zeros(4, 1), torch.tensor([[True], [False], [True], [True]])
    total = total_loss(judged, weights={Modality.FMRI: 0.5}, pooled=judged, auxiliary={"paired": (logits, labels)})
    expected = (1 + POOLED_WEIGHT) * (0.5 + 0.5 * 3.0) + AUXILIARY_WEIGHT * torch.tensor(2.0).log()
    assert total == pytest.approx(float(expected))


def test_replaced_channels_come_from_another_window() -> None:
    z = z_of(Modality.EEG, windows=3)
    mixed, replaced = replace_channels(z, share=0.3, generator=torch.Generator().manual_seed(0))
    assert (replaced.sum(dim=1) == 2).all()
    for window, channel in replaced.nonzero():
        assert torch.equal(mixed[window, :, channel], z[window - 1, :, channel])
    assert torch.equal(mixed.transpose(1, 2)[~replaced], z.transpose(1, 2)[~replaced])


@pytest.mark.parametrize(("share", "strange"), [(0.5, 4), (1.0, 7)])
def test_unpaired_windows_mix_two_moments(share: float, strange: int) -> None:
    z = z_of(Modality.EEG, windows=40)
    mixed, paired = unpair(z, share=share, generator=torch.Generator().manual_seed(0))
    assert 10 < int(paired.sum()) < 30
    for window in range(40):
        others = (mixed[window] == z[window - 1]).all(dim=0)
        assert int(others.sum()) == (0 if paired[window] else strange)


def test_tasks_on_a_batch_of_one_window_are_refused() -> None:
    for task in (replace_channels, unpair):
        with pytest.raises(UserError, match="auxiliary tasks need 2 windows, the batch has 1"):
            task(z_of(Modality.EEG, windows=1), share=0.5, generator=torch.Generator())


def test_labels_of_replaced_channels_belong_to_what_is_asked() -> None:
    z, replaced = replace_channels(z_of(Modality.EEG), share=0.3, generator=torch.Generator().manual_seed(0))
    part = batch(Modality.EEG, z=z)
    asked = ask_visible(part.seen, generator=torch.Generator().manual_seed(0))
    for window, place in asked.counts.nonzero():
        patch, channel = asked.patch[window, place], asked.channel[window, place]
        here = (part.seen.channel[window, patch] == channel) & part.seen.counts[window, patch]
        assert here.sum() == 1
    network = foundation(tasks={"replaced": Task(kind="replaced", outputs=1, modality=Modality.EEG)})
    logits = network({Modality.EEG: part.seen}, {Modality.EEG: asked}).tasks["replaced"].squeeze(-1)
    labels = replaced.gather(1, asked.channel)
    assert logits.shape == labels.shape == asked.counts.shape
    assert torch.isfinite(total_loss({}, weights={}, auxiliary={"replaced": (logits, labels)}))
