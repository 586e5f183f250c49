"""The network: starts at the linear core, treats channels as a set, and takes any number of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.neurofm import NeuroFM, Query, Visible
from neurofm.model.settings import ModelSettings
from neurofm.model.sizes import size
from neurofm.recording import Modality

SETTINGS = ModelSettings(backbone="transformer", width=16, layers=2, heads=2, dropout=0.1)
PATCH = dict.fromkeys(Modality, 4)


def _network(*, trained: bool) -> NeuroFM:
    torch.manual_seed(0)
    network = NeuroFM(SETTINGS, patch_samples=PATCH).eval()
    if trained:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def _inputs(modality: Modality, *, visible: int = 7, hidden: int = 3, patches: int = 5) -> tuple[Visible, Query]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    seen = Visible(
        modality=modality,
        sampling_rate_hz=10.0,
        values=random(2, 4 * patches, visible),
        smoothed=random(2, 4 * patches, visible),
        identity=random(visible, IDENTITY_FEATURES),
    )
    query = Query(
        linear=random(2, 4 * patches, hidden),
        identity=random(hidden, IDENTITY_FEATURES),
        correlations=random(hidden, visible),
    )
    return seen, query


@pytest.mark.parametrize("modality", list(Modality))
def test_untrained_residual_is_exactly_zero(modality: Modality) -> None:
    residual = _network(trained=False)(*_inputs(modality))
    assert torch.equal(residual, torch.zeros(2, 20, 3))


@pytest.mark.parametrize("modality", list(Modality))
def test_order_of_channels_does_not_matter(modality: Modality) -> None:
    network = _network(trained=True)
    seen, query = _inputs(modality)
    expected = network(seen, query)
    order, asked = torch.tensor([3, 0, 6, 1, 5, 2, 4]), torch.tensor([2, 0, 1])
    shuffled = replace(
        seen, values=seen.values[..., order], smoothed=seen.smoothed[..., order], identity=seen.identity[order]
    )
    turned = Query(
        linear=query.linear[..., asked],
        identity=query.identity[asked],
        correlations=query.correlations[asked][:, order],
    )
    torch.testing.assert_close(network(shuffled, turned), expected[..., asked], atol=1e-4, rtol=1e-4)


def test_channels_asked_for_do_not_influence_each_other() -> None:
    network = _network(trained=True)
    seen, query = _inputs(Modality.EEG)
    one = Query(linear=query.linear[..., 1:2], identity=query.identity[1:2], correlations=query.correlations[1:2])
    torch.testing.assert_close(network(seen, one), network(seen, query)[..., 1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("visible", "patches"), [(1, 1), (40, 3), (3, 17)])
def test_any_number_of_channels_and_patches(visible: int, patches: int) -> None:
    network = _network(trained=True)
    seen, query = _inputs(Modality.SPIKES, visible=visible, patches=patches)
    assert network(seen, query).shape == (2, 4 * patches, 3)
    assert network.encode(seen).shape == (2, patches, 16)


def test_backbone_carries_information_between_patches() -> None:
    network = _network(trained=True)
    seen, query = _inputs(Modality.FMRI)
    changed = replace(seen, values=seen.values.clone())
    changed.values[:, :4] += 1.0
    last = slice(-4, None)
    assert not torch.allclose(network(seen, query)[:, last], network(changed, query)[:, last], atol=1e-3)


def test_seconds_not_patches_are_encoded() -> None:
    network = _network(trained=True)
    seen, _ = _inputs(Modality.FMRI)
    slower = replace(seen, sampling_rate_hz=1.0)
    assert not torch.allclose(network.encode(seen), network.encode(slower), atol=1e-3)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    settings = {"backbone": "transformer", "width": 18, "layers": 1, "heads": 4, "dropout": 0.0}
    with pytest.raises(UserError, match="width 18 is not a multiple of 2 \\* heads 8"):
        ModelSettings.parse(settings, where="params.yaml: pretrain.model", mend="change it")


# What the network of params.yaml computed before it shared its parts with the whole model: mean, SD and two values.
BEFORE = {
    Modality.SPIKES: (0.1075306, 2.3728426, -1.3057516, 2.8621771),
    Modality.CALCIUM: (0.0751888, 2.9545264, -1.1021826, -3.943707),
    Modality.MINISCOPE: (-0.3180586, 3.2415266, -7.8773017, -5.0465136),
    Modality.FMRI: (0.5066949, 2.7202592, -2.3644676, -3.2651868),
    Modality.EEG: (-1.343591, 1.7294086, -1.8901535, -1.1372116),
}


def test_the_network_of_the_pipeline_computes_what_it_always_did() -> None:
    torch.manual_seed(3)
    # A project without MEG has no part for it.
    network = NeuroFM(size("nano"), patch_samples={modality: PATCH[modality] for modality in BEFORE}).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 103_892
    generator = torch.Generator().manual_seed(4)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    for head in network.heads.values():
        head.project.weight.data = random(4, 64)  # type: ignore[union-attr]
    for modality, (mean, sd, first, last) in BEFORE.items():
        seen = Visible(
            modality=modality,
            sampling_rate_hz=10.0,
            values=random(2, 12, 5),
            smoothed=random(2, 12, 5),
            identity=random(5, IDENTITY_FEATURES),
        )
        query = Query(linear=random(2, 12, 3), identity=random(3, IDENTITY_FEATURES), correlations=random(3, 5))
        found = network(seen, query)
        expected = torch.tensor([mean, sd, first, last])
        actual = torch.stack([found.mean(), found.std(), found[0, 0, 0], found[1, 11, 2]])
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
