"""Losses are smallest at the truth; links go there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from neurofm.model.links import Scale, predict, target, to_z
from neurofm.model.losses import LOSSES
from neurofm.recording import Modality

SCALE = Scale(mean=torch.tensor([0.5, 2.0]).double(), sd=torch.tensor([0.7, 1.5]).double(), rate_floor=0.1)


@pytest.mark.parametrize("modality", list(Modality))
def test_loss_is_zero_at_the_truth_and_grows_away_from_it(modality: Modality) -> None:
    truth = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    right = truth.log() if modality is Modality.SPIKES else truth
    loss = LOSSES[modality]
    torch.testing.assert_close(loss(right, truth), torch.zeros(3, dtype=torch.float64))
    assert (loss(right + 0.5, truth) > 0.05).all()
    assert (loss(right + 1.0, truth) > loss(right + 0.5, truth)).all()
    assert (loss(right - 1.0, truth) > loss(right - 0.5, truth)).all()


def test_deviance_differs_from_the_poisson_likelihood_by_what_no_model_can_change() -> None:
    counts = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    one, other = (LOSSES[Modality.SPIKES](torch.full((3,), log_rate).double(), counts) for log_rate in (-1.0, 0.5))
    likelihood = [poisson.logpmf(counts.numpy(), np.exp(log_rate)) for log_rate in (-1.0, 0.5)]
    np.testing.assert_allclose((one - other).numpy(), likelihood[1] - likelihood[0])


@pytest.mark.parametrize("modality", list(Modality))
def test_without_residual_the_link_returns_the_linear_estimate(modality: Modality) -> None:
    linear = torch.rand(3, 5, 2, dtype=torch.float64)
    prediction = predict(modality, linear=linear, residual=torch.zeros_like(linear), scale=SCALE)
    torch.testing.assert_close(to_z(modality, prediction, scale=SCALE), linear)
    assert (target(modality, linear, scale=SCALE) == linear).all() == (modality is not Modality.SPIKES)


def test_rates_stay_above_the_floor() -> None:
    linear = torch.full((1, 1, 2), -50.0, dtype=torch.float64)
    log_rate = predict(Modality.SPIKES, linear=linear, residual=torch.zeros_like(linear), scale=SCALE)
    torch.testing.assert_close(log_rate.exp()[0, 0], 0.1 * SCALE.mean)


def test_a_bank_bends_rates_where_a_linear_core_has_a_floor() -> None:
    bent = replace(SCALE, sharpness=4.0)
    assert bent.of(torch.tensor([1])).sharpness == 4.0
    linear = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64).reshape(1, 4, 1).expand(1, 4, 2)
    log_rate = predict(Modality.SPIKES, linear=linear, residual=torch.zeros_like(linear), scale=bent)
    assert (
        log_rate.exp() < predict(Modality.SPIKES, linear=linear, residual=torch.zeros_like(linear), scale=SCALE).exp()
    )[0, 0].all()
    assert (log_rate.diff(dim=1) > 0).all()
    torch.testing.assert_close(to_z(Modality.SPIKES, log_rate, scale=bent)[0, 3], linear[0, 3], rtol=0, atol=0.01)
    for modality in (Modality.CALCIUM, Modality.EEG):
        assert torch.equal(predict(modality, linear=linear, residual=torch.zeros_like(linear), scale=bent), linear)
