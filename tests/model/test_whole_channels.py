"""The whole model takes the place of the small one wherever whole channels are hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.foundation import Foundation
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.links import predict
from neurofm.model.neurofm import NeuroFM, Query, Visible
from neurofm.model.settings import ModelSettings
from neurofm.model.sizes import size
from neurofm.model.whole_channels import WholeChannels, network_of
from neurofm.recording import Modality
from tests.model.conftest import PATCH, SMALL, scale, z_of


def _inputs(modality: Modality) -> tuple[Visible, Query]:
    z = z_of(modality)
    features = torch.randn(7, IDENTITY_FEATURES, generator=torch.Generator().manual_seed(1))
    seen = Visible(
        modality=modality,
        sampling_rate_hz=10.0,
        values=z[..., :5],
        smoothed=z[..., :5],
        identity=features[:5],
        scale=scale(5),
    )
    estimate = z[..., :5].mean(dim=2, keepdim=True).expand(-1, -1, 2)
    return seen, Query(linear=estimate, identity=features[5:], correlations=torch.zeros(2, 5))


def _network(*, trained: bool, **changes: Any) -> WholeChannels:
    torch.manual_seed(0)
    network = network_of(ModelSettings(**{**SMALL, **changes}), patch_samples=PATCH).eval()
    assert isinstance(network, WholeChannels)
    if trained:
        for parameter in network.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return network


def test_settings_choose_the_network() -> None:
    assert isinstance(network_of(size("nano"), patch_samples=PATCH), NeuroFM)
    assert isinstance(network_of(size("tiny"), patch_samples=PATCH), WholeChannels)


@pytest.mark.parametrize("modality", list(Modality))
def test_shapes_are_those_of_the_small_network_and_it_starts_at_the_core(modality: Modality) -> None:
    seen, query = _inputs(modality)
    network = _network(trained=False)
    residual = network(seen, query)
    assert torch.equal(residual, torch.zeros(2, 20, 2))
    assert network.encode(seen).shape == (2, 5, 16)
    predicted = predict(modality, linear=query.linear, residual=residual, scale=scale(2))
    assert predicted.shape == query.linear.shape


def test_answers_stand_at_their_channel_and_time() -> None:
    network = _network(trained=True, popt_layers=0)
    seen, query = _inputs(Modality.EEG)
    before = network(seen, query)
    linear = query.linear.clone()
    linear[1, 8:12, 0] += torch.tensor([1.0, -1.0, 2.0, 0.5])
    moved = (network(seen, replace(query, linear=linear)) - before).abs() > 1e-6
    expected = torch.zeros_like(moved)
    expected[1, 8:12, 0] = True
    assert torch.equal(moved, expected)


def test_weights_are_those_of_the_whole_model() -> None:
    network = _network(trained=True)
    foundation = Foundation(ModelSettings(**SMALL), patch_samples=PATCH).eval()
    foundation.load_state_dict(network.state_dict())
    seen, _ = _inputs(Modality.FMRI)
    assert torch.equal(
        foundation({Modality.FMRI: network._seen(seen)}, {}).patches[Modality.FMRI], network.encode(seen)
    )


def test_counts_of_spikes_need_their_scale() -> None:
    seen, query = _inputs(Modality.SPIKES)
    with pytest.raises(UserError, match="tokens modality embeds counts of spikes, and the scale"):
        _network(trained=False)(replace(seen, scale=None), query)
    assert _network(trained=False, tokens="plain")(replace(seen, scale=None), query).shape == (2, 20, 2)
