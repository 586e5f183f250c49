"""Every size has the number of parameters that it says it has, and settings that contradict each other are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from neurofm.errors import UserError
from neurofm.model.foundation import Foundation
from neurofm.model.neurofm import NeuroFM
from neurofm.model.settings import MaskSettings, ModelSettings
from neurofm.model.sizes import Backbone, size
from neurofm.recording import Modality
from tests.model.conftest import PATCH, SMALL, batch

PATCH_SAMPLES = {
    Modality.SPIKES: 5,
    Modality.CALCIUM: 8,
    Modality.MINISCOPE: 8,
    Modality.FMRI: 8,
    Modality.EEG: 40,
}


@pytest.mark.parametrize(
    ("name", "backbone", "millions"),
    [
        ("tiny", "transformer", 1.9),
        ("tiny", "mamba2", 1.9),
        ("small", "transformer", 11.6),
        ("small", "mamba2", 11.6),
        ("base", "transformer", 108.8),
        ("base", "mamba2", 110.3),
        ("large", "transformer", 649.0),
        ("large", "mamba2", 665.0),
    ],
)
def test_sizes_of_the_whole_model(name: str, backbone: Backbone, millions: float) -> None:
    with torch.device("meta"):
        network = Foundation(size(name, backbone=backbone), patch_samples=PATCH_SAMPLES)
    counted = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert counted == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("backbone", ["transformer", "mamba2"])
def test_tiny_answers(backbone: Backbone) -> None:
    part = batch(Modality.EEG)
    network = Foundation(size("tiny", backbone=backbone), patch_samples=PATCH).eval()
    output = network({Modality.EEG: part.seen}, {Modality.EEG: part.asked})
    assert output.reconstruction[Modality.EEG].residual.shape == part.truth.z.shape


def test_nano_is_what_the_pipeline_trains() -> None:
    params = Path(__file__).resolve().parents[2] / "params.yaml"
    said = YAML(typ="safe").load(params)["pretrain"]["model"]
    assert size("nano") == ModelSettings.model_validate(said)
    assert sum(p.numel() for p in NeuroFM(size("nano"), patch_samples=PATCH_SAMPLES).parameters()) < 320_000


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="no size huge with backbone mamba2"):
        size("huge", backbone="mamba2")
    with pytest.raises(UserError, match="no size base with backbone gru"):
        size("base", backbone="gru")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 3}, "width 16 is not a multiple of 2 * heads 6"),
        ({"pooling": "identity"}, "slots 2 contradicts pooling identity"),
        ({"slots": 1}, "mix 1 contradicts slots 1"),
        ({"mix": 3}, "mix 3 contradicts layers 2"),
        ({"latents": 0}, "fusion_layers 1 contradicts latents 0"),
        ({"causal": True}, "causal True contradicts latents 3"),
        ({"readout": "pairs"}, "tokens modality contradicts readout pairs"),
        ({"regions": 1}, "regions 1 is a table without a row for a name"),
        ({"units": 1}, "units 1 is a table without a row for a name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        ModelSettings.parse({**SMALL, **changes}, where="params.yaml: pretrain.model", mend="change it")
    assert said in refused.value.problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_fraction_min": 0.6}, "hidden_fraction_min 0.6 exceeds hidden_fraction_max 0.5"),
        ({"shares": {"time": 0.0}}, "shares {'time': 0.0} must be at least 0, and one of them more"),
        ({"shares": {"noise": 1.0}}, "noise"),
    ],
)
def test_mask_settings_that_hide_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        MaskSettings.parse(changes, where="params.yaml: pretrain.masks", mend="change it")
    assert said in refused.value.problem


def test_each_network_refuses_the_settings_of_the_other() -> None:
    with pytest.raises(UserError, match="readout pairs is of the small network"):
        Foundation(size("nano"), patch_samples=PATCH)
    with pytest.raises(UserError, match="readout popt is of the whole model"):
        NeuroFM(size("tiny"), patch_samples=PATCH)
