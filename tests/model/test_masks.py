"""Masks hide what they say, and batches hold what is visible, within the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.masks import MASKS, Surface, draw_hidden, hide
from neurofm.model.settings import MaskSettings
from neurofm.recording import Modality
from tests.model.conftest import PATCH, batch, hidden_of, real_windows, scale, table, z_of


def _surface(*, patches: int = 10, channels: int = 12, regions: int = 4, known: bool = True) -> Surface:
    features = torch.randn(channels, IDENTITY_FEATURES, generator=torch.Generator().manual_seed(0))
    features[:, 3] = float(known)
    return Surface(
        patches=patches,
        features=features,
        region=1 + torch.arange(channels) % regions if regions else None,
    )


def _draw(kind: str, surface: Surface, *, fraction: float = 0.3, windows: int = 20) -> Tensor:
    settings = MaskSettings(shares={kind: 1.0}, hidden_fraction_min=fraction, hidden_fraction_max=fraction)  # type: ignore[dict-item]
    return draw_hidden(settings, surface, windows=windows, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("fraction", [0.01, 0.4, 0.99])
@pytest.mark.parametrize(("patches", "channels"), [(10, 12), (2, 2)])
def test_something_is_hidden_and_something_visible(kind: str, fraction: float, patches: int, channels: int) -> None:
    hidden = _draw(kind, _surface(patches=patches, channels=channels), fraction=fraction).flatten(1)
    assert hidden.any(dim=1).all()
    assert not hidden.all(dim=1).any()


def test_random_patches() -> None:
    hidden = _draw("random", _surface())
    assert (hidden.sum(dim=(1, 2)) == 36).all()
    assert hidden.float().mean(dim=0).std() < 0.2
    assert len({tuple(one) for one in hidden.flatten(1).tolist()}) == 20


def test_whole_channels() -> None:
    hidden = _draw("channel", _surface())
    assert torch.equal(hidden.all(dim=1), hidden.any(dim=1))
    assert (hidden.any(dim=1).sum(dim=1) == 4).all()


@pytest.mark.parametrize("kind", ["time", "forward"])
def test_blocks_of_time_hide_all_channels(kind: str) -> None:
    hidden = _draw(kind, _surface())
    assert torch.equal(hidden.all(dim=2), hidden.any(dim=2))
    block = hidden.any(dim=2)
    assert (block.sum(dim=1) == 3).all()
    starts = block.float().argmax(dim=1)
    assert all(block[window, start : start + 3].all() for window, start in enumerate(starts))
    different = set(starts.tolist())
    assert different == {7} if kind == "forward" else len(different) > 4


def test_a_region_is_hidden_as_a_whole() -> None:
    surface = _surface()
    assert surface.region is not None
    for hidden in _draw("region", surface):
        (region,) = set(surface.region[hidden.any(dim=0)].tolist())
        assert torch.equal(hidden, (surface.region == region).expand(10, -1))


@pytest.mark.parametrize("regions", [0, 1])
def test_without_regions_a_neighbourhood_is_hidden(regions: int) -> None:
    surface = _surface(regions=regions)
    for hidden in _draw("region", surface):
        inside = surface.features[hidden.any(dim=0), :3]
        assert len(inside) == 4
        reach = torch.cdist(inside, inside).amax(dim=1).min()
        outside = surface.features[~hidden.any(dim=0), :3]
        assert torch.cdist(inside, outside).amin(dim=1).max() > 0
        # Some channel has all of the others nearer than anything that is left.
        nearest = [torch.cdist(inside, outside)[n].min() >= torch.cdist(inside, inside)[n].max() for n in range(4)]
        assert any(nearest)
        assert reach > 0


def test_without_regions_and_positions_any_channels_are_hidden() -> None:
    hidden = _draw("region", _surface(regions=0, known=False))
    assert (hidden.any(dim=1).sum(dim=1) == 4).all()


def test_kinds_are_drawn_by_their_shares() -> None:
    settings = MaskSettings(shares={"time": 3.0, "channel": 1.0})
    hidden = draw_hidden(settings, _surface(), windows=400, generator=torch.Generator().manual_seed(0))
    time = (hidden.all(dim=2).any(dim=1)).float().mean()
    assert 0.69 < time < 0.81


def test_too_small_a_window_for_a_mask_is_refused() -> None:
    with pytest.raises(UserError, match=r"mask time with share 1.0 needs windows of 2 patches and 1 channels, these"):
        _draw("time", _surface(patches=1))
    with pytest.raises(UserError, match=r"mask channel with share 1.0 .* these have 10 and 1\."):
        _draw("channel", _surface(channels=1))


@pytest.mark.parametrize("modality", list(Modality))
def test_places_hold_visible_patches_and_targets_hidden_ones(modality: Modality) -> None:
    z = z_of(modality)
    hidden = hidden_of(z)
    part = batch(modality, z=z, hidden=hidden)
    pieces = z.reshape(2, 5, 4, 7).transpose(2, 3)
    shown = (pieces * 0.9 + 0.8).round() if modality is Modality.SPIKES else pieces
    for window, patch, place in part.seen.counts.nonzero():
        channel = part.seen.channel[window, patch, place]
        assert not hidden[window, patch, channel]
        torch.testing.assert_close(part.seen.values[window, patch, place], shown[window, patch, channel])
    assert torch.equal(part.seen.counts.sum(dim=2), (~hidden).sum(dim=2))
    assert (part.seen.values[~part.seen.counts] == 0).all()
    for window, target in part.asked.counts.nonzero():
        channel, patch = part.asked.channel[window, target], part.asked.patch[window, target]
        assert hidden[window, patch, channel]
        torch.testing.assert_close(part.truth.z[window, target], pieces[window, patch, channel])
    assert torch.equal(part.asked.counts.sum(dim=1), hidden.sum(dim=(1, 2)))
    assert torch.equal(part.truth.counts, part.asked.counts.unsqueeze(-1).expand(-1, -1, 4))


def test_the_budget_is_kept_and_shared_out_at_random() -> None:
    part = batch(Modality.EEG, visible=3, targets=5)
    assert part.seen.values.shape == (2, 5, 3, 4)
    assert part.asked.channel.shape == (2, 5)
    assert part.seen.counts.float().mean() > 0.9
    assert set(part.seen.channel[part.seen.counts].tolist()) == set(range(7))


def test_the_core_sees_zeros_where_hidden_and_says_what_is_asked(shared_data: Path) -> None:
    z = real_windows(shared_data)
    hidden = hidden_of(z)
    met = []

    def core(known: Tensor, visible: Tensor) -> Tensor:
        met.append((known, visible))
        return known + 7.0

    part = batch(Modality.FMRI, z=z, hidden=hidden, core=core)
    ((known, visible),) = met
    assert torch.equal(visible, ~hidden.repeat_interleave(4, dim=1))
    assert torch.equal(known, torch.where(visible, z, 0.0))
    assert (part.asked.estimate[part.asked.counts] == 7.0).all()
    torch.testing.assert_close(part.seen.smoothed[part.seen.counts], part.seen.values[part.seen.counts] + 7.0)


def test_samples_that_are_not_valid_are_not_judged() -> None:
    z = z_of(Modality.EEG)
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[0, 5:9] = False
    part = hide(
        z,
        hidden_of(z),
        patch=4,
        sampling_rate_hz=10.0,
        channels=table(7),
        scale=scale(7),
        settings=MaskSettings(),
        generator=torch.Generator().manual_seed(0),
        valid=valid,
    )
    for window, target in part.asked.counts.nonzero():
        first = int(part.asked.patch[window, target]) * PATCH[Modality.EEG]
        assert torch.equal(part.truth.counts[window, target], valid[window, first : first + 4])


def test_masks_that_do_not_fit_or_hide_all_are_refused() -> None:
    z = z_of(Modality.EEG)
    with pytest.raises(UserError, match=r"windows of 20 samples and 7 channels, masks of \(4, 7\) patches"):
        batch(Modality.EEG, z=z, hidden=hidden_of(z)[:, :4])
    with pytest.raises(UserError, match="all 7 channels are hidden"):
        batch(Modality.EEG, z=z, hidden=torch.ones(2, 5, 7, dtype=torch.bool))
