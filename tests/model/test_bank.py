"""The bank is the set of Gaussian conditionals it says it is, sees nothing hidden, and gains on held-out trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.bank import (
    FLUORESCENCE_BANK,
    SPIKES_BANK,
    Bank,
    BankMixture,
    Member,
    MemberSettings,
    SmoothedSums,
    log_rate,
    smooth_windows,
    smoothed_sums,
)
from neurofm.model.core import smooth
from neurofm.model.losses import poisson_deviance
from neurofm.readers.shared.variables import load_variables

UNITS = 200
"""Of session 1, the most active, to be quick."""
CALIBRATION = 80
"""Trials of 114; the others are targets."""


@pytest.fixture(scope="module")
def counts(shared_data: Path) -> Tensor:
    """[114, 20, UNITS] spikes in bins of 20 ms."""
    fine = np.stack(load_variables(shared_data / "ephys/steinmetz2019_rds/session1.rds")["spks"])
    binned = torch.from_numpy(fine.reshape(len(fine), -1, 20, 2).sum(axis=-1).transpose(0, 2, 1))
    return binned[..., binned[:CALIBRATION].sum(dim=(0, 1)).argsort(descending=True)[:UNITS].sort().values]


@pytest.fixture(scope="module")
def scale(counts: Tensor) -> tuple[Tensor, Tensor]:
    known = counts[:CALIBRATION].flatten(0, 1)
    return known.mean(dim=0), known.std(dim=0)


@pytest.fixture(scope="module")
def z(counts: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    return (counts - scale[0]) / scale[1]


@pytest.fixture(scope="module")
def visible() -> Tensor:
    """[UNITS] bool"""
    return torch.rand(UNITS, generator=torch.Generator().manual_seed(2)) > 0.3


def _bank(z: Tensor, members: tuple[MemberSettings, ...] = SPIKES_BANK) -> Bank:
    return Bank.fit(smoothed_sums(z, members=members), members=members)


@pytest.fixture(scope="module")
def bank(z: Tensor) -> Bank:
    return _bank(z[:CALIBRATION], FLUORESCENCE_BANK)


def _covariance(member: Member) -> Tensor:
    if member.settings.rank is None:
        return member.loadings
    return member.loadings @ member.loadings.T + member.noise * torch.eye(UNITS, dtype=torch.float64)


@pytest.mark.parametrize("sd", [0.0, 0.5, 2.0])
def test_smoothing_is_that_of_the_linear_core(z: Tensor, sd: float) -> None:
    torch.testing.assert_close(smooth_windows(z[:3], sd_samples=sd), smooth(z[:3], sd_samples=sd))


@pytest.mark.parametrize("index", range(len(FLUORESCENCE_BANK)))
def test_every_member_is_the_exact_conditional(bank: Bank, z: Tensor, visible: Tensor, index: int) -> None:
    member = bank.members[index]
    found = bank.estimate(z[-2:], visible.expand(2, -1))[..., index]
    covariance = _covariance(member).numpy()
    v, h = np.flatnonzero(visible), np.flatnonzero(~visible)
    smoothed = smooth(z[-2:], sd_samples=member.settings.smoothing_samples).numpy()[..., v]
    expected = smoothed @ np.linalg.solve(covariance[np.ix_(v, v)], covariance[np.ix_(v, h)])
    np.testing.assert_allclose(found.numpy()[..., h], expected, atol=1e-9)


def test_a_low_rank_member_keeps_the_largest_components_and_the_variance(bank: Bank, z: Tensor) -> None:
    member = bank.members[0]
    smoothed = smooth(z[:CALIBRATION], sd_samples=0.5).flatten(0, 1)
    covariance = smoothed.T @ smoothed / len(smoothed)
    assert member.loadings.shape == (UNITS, 32)
    torch.testing.assert_close(_covariance(member).trace(), covariance.trace())
    powers = torch.linalg.eigvalsh(covariance)[-32:].flip(0)
    torch.testing.assert_close(torch.linalg.eigvalsh(_covariance(member))[-32:].flip(0), powers)


def test_sums_add_up_over_stretches(z: Tensor) -> None:
    members = SPIKES_BANK[:3]
    empty = SmoothedSums.zero(channels=UNITS, sds_samples=(0.5, 1.0))
    parts = empty + smoothed_sums(z[:50], members=members) + smoothed_sums(z[50:CALIBRATION], members=members)
    whole = smoothed_sums(z[:CALIBRATION], members=members)
    assert parts.samples == whole.samples
    for sd, product in whole.products.items():
        torch.testing.assert_close(parts.products[sd], product)


def test_only_valid_samples_are_summed(z: Tensor) -> None:
    valid = torch.ones(3, 20, dtype=torch.bool)
    valid[1, 5:9] = False
    known = torch.where(valid.unsqueeze(-1), z[:3], 0.0)
    found = smoothed_sums(known, members=SPIKES_BANK[2:3], valid=valid)
    kept = smooth(known, sd_samples=1.0)[valid]
    assert found.samples == 56
    torch.testing.assert_close(found.products[1.0], kept.T @ kept)


def test_a_hidden_value_and_a_target_trial_move_not_one_bit(z: Tensor, bank: Bank, visible: Tensor) -> None:
    masks = visible.expand(4, -1)
    expected = bank.estimate(z[-4:], masks)
    changed = z.clone()
    changed[-4:, :, ~visible] = torch.nan
    assert torch.equal(bank.estimate(changed[-4:], masks), expected)
    changed[CALIBRATION:] *= 1e3
    again = _bank(changed[:CALIBRATION], FLUORESCENCE_BANK)
    for ours, theirs in zip(bank.members, again.members, strict=True):
        assert torch.equal(ours.loadings, theirs.loadings)
    assert torch.equal(bank.communality(), again.communality())
    seen = z[-4:].clone()
    seen[..., visible] += 1.0
    assert not torch.equal(bank.estimate(seen, masks), expected)


def test_each_window_has_its_own_mask(z: Tensor, bank: Bank, visible: Tensor) -> None:
    masks = torch.stack([visible, ~visible])
    both = bank.estimate(z[-2:], masks)
    for row in range(2):
        torch.testing.assert_close(both[row : row + 1], bank.estimate(z[-2:][row : row + 1], masks[row : row + 1]))


@pytest.mark.parametrize("members", [SPIKES_BANK, FLUORESCENCE_BANK])
def test_one_matrix_per_scale_is_the_mixed_estimate(
    z: Tensor, visible: Tensor, members: tuple[MemberSettings, ...]
) -> None:
    bank, windows = _bank(z[:CALIBRATION], members), z[CALIBRATION:]
    weights = torch.rand(UNITS, len(members), generator=torch.Generator().manual_seed(3)).double()
    expected = (bank.estimate(windows, visible.expand(len(windows), -1)) * weights).sum(dim=-1)
    shown, hidden = visible.nonzero()[:, 0], (~visible).nonzero()[:5, 0]
    found = bank.blend(windows[..., shown], visible=shown, hidden=hidden, weights=weights[hidden])
    torch.testing.assert_close(found, expected[..., hidden], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("members", [SPIKES_BANK, FLUORESCENCE_BANK])
def test_channels_that_a_bank_does_not_know_are_their_mean_and_say_nothing(
    z: Tensor, members: tuple[MemberSettings, ...]
) -> None:
    known = torch.tensor([0, 2, 3, 5, 6])
    small, windows = _bank(z[:CALIBRATION, :, :5], members), z[CALIBRATION:, :, :5]
    wide, weights = small.among(known, channels=8), torch.full((1, len(members)), 0.5).double()
    expected = small.blend(windows[..., :4], visible=torch.arange(4), hidden=torch.tensor([4]), weights=weights)
    seen, visible = torch.cat([windows[..., :4], windows[..., :1] + 7], dim=-1), torch.tensor([0, 2, 3, 5, 1])
    found = wide.blend(seen, visible=visible, hidden=torch.tensor([6]), weights=weights)
    torch.testing.assert_close(found, expected)
    unknown = wide.blend(seen, visible=visible, hidden=torch.tensor([7]), weights=weights)
    assert torch.equal(unknown, torch.zeros_like(unknown))


def test_the_order_of_channels_does_not_matter(z: Tensor, bank: Bank, visible: Tensor) -> None:
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(1))
    shuffled = _bank(z[:CALIBRATION][..., order], FLUORESCENCE_BANK)
    found = shuffled.estimate(z[-2:][..., order], visible[order].expand(2, -1))
    torch.testing.assert_close(found, bank.estimate(z[-2:], visible.expand(2, -1))[..., order, :])


def test_the_mixture_starts_equal_and_learns_by_identity(
    z: Tensor, counts: Tensor, scale: tuple[Tensor, Tensor], bank: Bank, visible: Tensor
) -> None:
    values = z[CALIBRATION:].clone().requires_grad_()
    estimates = bank.estimate(values, visible.expand(len(values), -1))
    mixture = BankMixture(members=len(bank.members), features=len(bank.members)).double()
    identity = bank.communality()
    torch.testing.assert_close(mixture(estimates, identity), estimates.mean(dim=-1))
    before = poisson_deviance(
        log_rate(mixture(estimates, identity), mean=scale[0], sd=scale[1], sharpness=4.0), counts[CALIBRATION:]
    )[..., ~visible].mean()
    before.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert (values.grad[..., ~visible] == 0).all()
    assert (values.grad[..., visible] != 0).any()
    for parameter in mixture.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).any()
    with torch.no_grad():
        for parameter in mixture.parameters():
            assert parameter.grad is not None
            parameter.sub_(1e-3 * parameter.grad / parameter.grad.norm())
        after = poisson_deviance(
            log_rate(mixture(estimates, identity), mean=scale[0], sd=scale[1], sharpness=4.0), counts[CALIBRATION:]
        )[..., ~visible].mean()
    assert after < before


def test_log_rates_are_finite_and_close_to_the_relative_rate(scale: tuple[Tensor, Tensor]) -> None:
    mean, sd = (part[:3] for part in scale)
    relative = torch.tensor([[-50.0], [0.0], [1.0], [4.0]], dtype=torch.float64).expand(1, 4, 3).mT.mT
    rates = log_rate((relative - 1) * mean / sd, mean=mean, sd=sd, sharpness=4.0)
    assert rates.isfinite().all()
    torch.testing.assert_close(rates[0, 2:].exp(), relative[0, 2:] * mean, rtol=0.01, atol=0)
    assert (rates[0, 0] < rates[0, 1]).all()
    assert (rates[0, 1] < rates[0, 2]).all()


def test_the_bank_beats_each_member_and_the_mean_on_held_out_trials(
    z: Tensor, counts: Tensor, scale: tuple[Tensor, Tensor], visible: Tensor
) -> None:
    bank = _bank(z[:CALIBRATION])
    targets = counts[CALIBRATION:][..., ~visible]
    estimates = bank.estimate(z[CALIBRATION:], visible.expand(len(targets), -1))[:, :, ~visible]
    mean, sd = (part[~visible] for part in scale)

    def loss(estimate: Tensor) -> float:
        return float(poisson_deviance(log_rate(estimate, mean=mean, sd=sd, sharpness=4.0), targets).mean())

    ours = loss(estimates.mean(dim=-1))
    singles = [loss(estimates[..., index]) for index in range(len(bank.members))]
    assert ours < min(singles)
    assert ours < 0.97 * loss(torch.zeros_like(estimates[..., 0]))


def test_single_precision_and_few_channels(z: Tensor, bank: Bank, visible: Tensor) -> None:
    single = bank.to(z.float()).estimate(z[-2:].float(), visible.expand(2, -1))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), bank.estimate(z[-2:], visible.expand(2, -1)), atol=1e-3, rtol=1e-3)
    few = _bank(z[:CALIBRATION, :, :4])
    assert {member.loadings.shape for member in few.members} == {(4, 3)}
    assert few.estimate(z[-2:, :, :4], torch.tensor([[True, True, True, False]]).expand(2, -1)).isfinite().all()


def test_bad_input_is_refused_with_both_values(z: Tensor, bank: Bank, visible: Tensor) -> None:
    masks = visible.expand(2, -1)
    dark = masks.clone()
    dark[1] = False
    with pytest.raises(UserError, match=f"1 of 2 windows have all of their {UNITS} channels masked"):
        bank.estimate(z[:2], dark)
    with pytest.raises(UserError, match=f"7 channels, but the core was made for {UNITS}"):
        bank.estimate(z[:2, :, :7], masks[:, :7])
    damaged = z[:2].clone()
    damaged[0, 0, visible] = torch.nan
    with pytest.raises(UserError, match=rf"{int(visible.sum())} of {40 * int(visible.sum())} visible values"):
        bank.estimate(damaged, masks)
    with pytest.raises(UserError, match="3 dimensions instead of 2"):
        bank.estimate(z[:2], masks.unsqueeze(1).expand(-1, 20, -1))
    with pytest.raises(UserError, match="there are 0"):
        Bank.fit(SmoothedSums.zero(channels=2, sds_samples=(0.5,)), members=SPIKES_BANK[:1])
