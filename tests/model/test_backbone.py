"""Backbones are interchangeable; a causal one does not see the future."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neurofm.model.backbone import BACKBONES, SlotBackbone, TemporalBackbone
from neurofm.model.settings import ModelSettings
from tests.model.conftest import SMALL

TIME_S = torch.arange(70) * 0.1


def _backbone(name: str, **changes: Any) -> TemporalBackbone:
    torch.manual_seed(0)
    settings = {**SMALL, "backbone": name, "dropout": 0.0, **changes}
    return TemporalBackbone(ModelSettings(**settings), layers=2)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_causal_backbone_does_not_see_the_future(name: str) -> None:
    backbone = _backbone(name, causal=True, latents=0, fusion_layers=0)
    x = torch.randn(2, 70, 16)
    changed = x.clone()
    changed[:, 40:] = torch.randn(2, 30, 16)
    before, after = backbone(x, TIME_S), backbone(changed, TIME_S)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40:], after[:, 40:], atol=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_both_directions_carry_information(name: str) -> None:
    backbone = _backbone(name)
    x = torch.randn(2, 70, 16)
    changed = x.clone()
    changed[:, 35] = torch.randn(2, 16)
    moved = (backbone(x, TIME_S) - backbone(changed, TIME_S)).abs().amax(dim=(0, 2))
    assert moved[34] > 1e-4
    assert moved[36] > 1e-4


@pytest.mark.parametrize("name", BACKBONES)
def test_activation_checkpointing_changes_nothing_but_memory(name: str) -> None:
    x = torch.randn(2, 9, 16)
    gradients = []
    for checkpointing in (False, True):
        backbone = _backbone(name, checkpointing=checkpointing, dropout=0.2)
        torch.manual_seed(1)
        backbone(x, TIME_S[:9]).square().sum().backward()
        gradients.append([parameter.grad for parameter in backbone.parameters()])
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, again)


@pytest.mark.parametrize(("mix", "layers", "exchanges"), [(0, 3, 0), (1, 3, 3), (2, 5, 2), (3, 3, 1)])
def test_slots_exchange_every_few_layers(mix: int, layers: int, exchanges: int) -> None:
    torch.manual_seed(0)
    backbone = SlotBackbone(ModelSettings(**{**SMALL, "mix": mix, "layers": layers})).eval()
    assert sum(len(stage.layers) for stage in backbone.over_time) == layers  # type: ignore[arg-type, misc]
    assert len(backbone.over_slots) == exchanges
    x = torch.randn(2, 2, 6, 16)
    changed = x.clone()
    changed[:, 0] = torch.randn(2, 6, 16)
    moved = (backbone(x, TIME_S[:6]) - backbone(changed, TIME_S[:6]))[:, 1].abs().max()
    assert moved > 1e-3 if exchanges else moved == 0
