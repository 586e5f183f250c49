"""Both networks read windows of which patches are hidden, and nothing of what is hidden reaches them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.neurofm import Query, Visible
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import Network, network_of
from neurofm.recording import Modality
from tests.model.conftest import PATCH, SMALL, scale, z_of

PAIRS = {"backbone": "transformer", "width": 16, "layers": 1, "heads": 2, "dropout": 0.1}
CHANNELS, PATCHES = 7, 5


@pytest.fixture(params=[PAIRS, SMALL], ids=["pairs", "popt"])
def network(request: pytest.FixtureRequest) -> Network:
    """With weights that matter."""
    chosen: dict[str, Any] = request.param
    torch.manual_seed(0)
    made = network_of(ModelSettings(**chosen), patch_samples=PATCH).eval()
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return made


@pytest.fixture
def shown() -> Tensor:
    """[window, patch, channel]: single patches, one channel for good, and all channels in one patch."""
    mask = torch.rand(2, PATCHES, CHANNELS, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[:, :, 3] = False
    mask[:, 2] = False
    return mask


def _inputs(shown: Tensor | None) -> tuple[Visible, Query]:
    z = z_of(Modality.EEG)
    features = torch.randn(CHANNELS, IDENTITY_FEATURES, generator=torch.Generator().manual_seed(1))
    correlations = torch.tanh(torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(3)))
    seen = Visible(
        modality=Modality.EEG,
        sampling_rate_hz=10.0,
        values=z,
        smoothed=0.5 * z,
        identity=features,
        scale=scale(CHANNELS),
        shown=shown,
    )
    linear = 0.1 * torch.ones_like(z)
    return seen, Query(linear=linear, identity=features, correlations=correlations)


def _of(seen: Visible, channels: Tensor) -> Visible:
    assert seen.shown is not None
    return replace(
        seen,
        values=seen.values[..., channels],
        smoothed=seen.smoothed[..., channels],
        identity=seen.identity[channels],
        scale=scale(len(channels)),
        shown=seen.shown[..., channels],
    )


@pytest.mark.parametrize("value", [1e3, float("nan"), float("inf")])
def test_hidden_values_move_not_one_bit_and_seen_ones_do(network: Network, shown: Tensor, value: float) -> None:
    seen, query = _inputs(shown)
    before = network(seen, query)
    assert before.isfinite().all()
    hidden = ~shown.repeat_interleave(PATCH[Modality.EEG], dim=1)
    spoilt = replace(
        seen, values=seen.values.masked_fill(hidden, value), smoothed=seen.smoothed.masked_fill(hidden, value)
    )
    assert torch.equal(network(spoilt, query), before)
    assert torch.equal(network.encode(spoilt), network.encode(seen))
    assert not torch.equal(network(replace(seen, values=seen.values.masked_fill(~hidden, 1.0)), query), before)


def test_a_channel_that_is_hidden_for_good_is_as_one_that_is_not_there(network: Network, shown: Tensor) -> None:
    seen, query = _inputs(shown)
    others = torch.tensor([0, 1, 2, 4, 5, 6])
    fewer = replace(query, correlations=query.correlations[:, others])
    torch.testing.assert_close(network(_of(seen, others), fewer), network(seen, query), atol=2e-5, rtol=1e-4)


def test_the_order_of_channels_does_not_matter(network: Network, shown: Tensor) -> None:
    seen, query = _inputs(shown)
    order = torch.tensor([5, 2, 0, 6, 3, 1, 4])
    turned = replace(query, correlations=query.correlations[:, order])
    torch.testing.assert_close(network(_of(seen, order), turned), network(seen, query), atol=2e-5, rtol=1e-4)


def test_where_all_is_shown_it_is_as_with_whole_channels(network: Network) -> None:
    everything, query = _inputs(torch.ones(2, PATCHES, CHANNELS, dtype=torch.bool))
    torch.testing.assert_close(
        network(everything, query), network(replace(everything, shown=None), query), atol=2e-5, rtol=1e-4
    )
