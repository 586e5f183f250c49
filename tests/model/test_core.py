"""The linear core is the ridge regression it says it is, for any mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.model.core import CoreSettings, LinearCore, Moments, moments, smooth, smooth_scales

CHANNELS = 6


def _signal(samples: int, *, seed: int = 0) -> Tensor:
    """[sample, channel] of three latents, a little noise, and some memory."""
    generator = torch.Generator().manual_seed(seed)
    latents = smooth(torch.randn(samples, 3, generator=generator, dtype=torch.float64), sd_samples=2.0)
    loadings = torch.randn(3, CHANNELS, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    x = 2 * latents @ loadings + 0.3 * torch.randn(samples, CHANNELS, generator=generator, dtype=torch.float64)
    return (x - x.mean(0)) / x.std(0)


def _moments(x: Tensor, *scales: float) -> Moments:
    return moments([x], valid=[torch.ones(len(x), dtype=torch.bool)], sds_samples=scales, channels=x.shape[1])


def _settings(*scales: float, ridge: float = 1e-2, prior: float = 0.0) -> CoreSettings:
    return CoreSettings(smoothing_samples=scales, ridge=ridge, prior_samples=prior)


NO_PRIOR = Moments.zero(channels=CHANNELS, scales=1)


@pytest.mark.parametrize("sd", [0.5, 2.0, 16.0])
def test_smoothing_is_a_renormalised_gaussian(sd: float) -> None:
    x = _signal(30)
    time = np.arange(30)
    lags = time[:, None] - time[None, :]
    kernel = np.where(np.abs(lags) <= np.ceil(4 * sd), np.exp(-0.5 * (lags / sd) ** 2), 0.0)
    expected = (kernel / kernel.sum(axis=1, keepdims=True)) @ x.numpy()
    np.testing.assert_allclose(smooth(x, sd_samples=sd).numpy(), expected, atol=1e-12)


def test_no_smoothing_returns_the_signal() -> None:
    x = _signal(30)
    assert smooth(x, sd_samples=0) is x


def test_moments_add_up_over_recordings_and_leave_out_by_subtraction() -> None:
    first, second = _signal(50), _signal(70, seed=1)
    both = moments(
        [first, second],
        valid=[torch.ones(50, dtype=torch.bool), torch.ones(70, dtype=torch.bool)],
        sds_samples=(0.0, 2.0),
        channels=CHANNELS,
    )
    left = both - _moments(second, 0.0, 2.0)
    assert left.samples == 50
    torch.testing.assert_close(left.ss, _moments(first, 0.0, 2.0).ss)
    torch.testing.assert_close(left.xs, _moments(first, 0.0, 2.0).xs)


def test_invalid_samples_do_not_count() -> None:
    x = _signal(50)
    valid = torch.arange(50) < 30
    counted = moments([x], valid=[valid], sds_samples=(0.0,), channels=CHANNELS)
    assert counted.samples == 30
    torch.testing.assert_close(counted.ss, x[:30].T @ x[:30])


@pytest.mark.parametrize("scales", [(0.0,), (2.0,), (0.0, 2.0, 8.0)])
def test_core_is_ridge_regression_on_the_smoothed_visible_channels(scales: tuple[float, ...]) -> None:
    x = _signal(400)
    visible, hidden = torch.tensor([0, 2, 5]), torch.tensor([1, 4])
    core = LinearCore.fit(
        _moments(x, *scales),
        Moments.zero(channels=CHANNELS, scales=len(scales)),
        settings=_settings(*scales, ridge=0.05),
    )
    features = np.concatenate([smooth(x, sd_samples=sd)[:, visible].numpy() for sd in scales], axis=1)
    gram = features.T @ features / 400
    weights = np.linalg.solve(
        gram + 0.05 * np.diag(gram).mean() * np.eye(len(gram)), features.T @ x[:, hidden].numpy() / 400
    )
    seen = smooth_scales(x[:, visible], sds_samples=scales)
    estimate = core.estimate(seen, visible=visible, hidden=hidden)
    np.testing.assert_allclose(estimate.numpy(), features @ weights, atol=1e-9)


def test_core_finds_the_conditional_mean_of_a_gaussian() -> None:
    mixing = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    covariance = mixing @ mixing.T
    x = torch.randn(40_000, CHANNELS, generator=torch.Generator().manual_seed(3), dtype=torch.float64) @ mixing.T
    visible, hidden = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5])
    core = LinearCore.fit(_moments(x, 0.0), NO_PRIOR, settings=_settings(0.0, ridge=1e-9))
    truth = torch.linalg.solve(covariance[visible][:, visible], covariance[visible][:, hidden])
    torch.testing.assert_close(core.weights(visible, hidden), truth, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("weight", "like_prior"), [(0.0, False), (1e12, True)])
def test_prior_weight_moves_the_core_between_own_and_prior(weight: float, *, like_prior: bool) -> None:
    own, prior = _moments(_signal(60), 0.0), _moments(-_signal(500, seed=4).flip(1), 0.0)
    visible, hidden = torch.tensor([0, 1, 2]), torch.tensor([3])
    mixed = LinearCore.fit(own, prior, settings=_settings(0.0, prior=weight))
    alone = LinearCore.fit(prior if like_prior else own, NO_PRIOR, settings=_settings(0.0))
    torch.testing.assert_close(mixed.weights(visible, hidden), alone.weights(visible, hidden))


def test_a_recording_without_variance_predicts_the_mean() -> None:
    core = LinearCore.fit(
        _moments(torch.zeros(20, CHANNELS, dtype=torch.float64), 0.0), NO_PRIOR, settings=_settings(0.0)
    )
    estimate = core.estimate(
        torch.ones(5, 1, 2, dtype=torch.float64), visible=torch.tensor([0, 1]), hidden=torch.tensor([2])
    )
    assert torch.equal(estimate, torch.zeros(5, 1, dtype=torch.float64))


def test_components_are_the_principal_components_of_the_visible_channels() -> None:
    x = _signal(500)
    visible = torch.tensor([0, 2, 3, 5])
    core = LinearCore.fit(_moments(x, 0.0), NO_PRIOR, settings=_settings(0.0))
    components = core.components(visible, count=6)
    assert torch.equal(components[:, 4:], torch.zeros(4, 2, dtype=torch.float64))
    torch.testing.assert_close(components.T @ components, torch.diag(torch.tensor([1.0] * 4 + [0.0] * 2).double()))
    variance = (x[:, visible] @ components).square().mean(dim=0)
    assert (variance.diff() <= 1e-9).all()
    assert variance.sum() == pytest.approx(float(x[:, visible].square().mean(dim=0).sum()))
