"""A checkpoint says what it was trained on, and is refused where it is damaged or does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neurofm.errors import UserError
from neurofm.model.neurofm import NeuroFM
from neurofm.model.pretrained import describe_file
from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import FoldResult
from neurofm.windows import RecordingView
from tests.training.conftest import two_kinds

Whole = tuple[FoldResult, dict[str, bytes]]


@pytest.fixture
def folder(whole: Whole, tmp_path: Path) -> Path:
    """A checkpoint."""
    for name, content in whole[1].items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def _config(folder: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((folder / "config.json").read_text())
    return config


def _rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights, and what is said of their file."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    config = _config(folder)
    config["files"]["model.safetensors"] = describe_file(path.read_bytes())  # type: ignore[index]
    (folder / "config.json").write_text(json.dumps(config))


def test_it_says_what_it_was_trained_on(folder: Path) -> None:
    config = _config(folder)
    assert config["acquisitions"] == [
        {"modality": "fmri", "sampling_rate_hz": 10.0, "channel_set": "fmri-atlas", "channels": 6},
        {"modality": "spikes", "sampling_rate_hz": 10.0, "channel_set": "", "channels": 0},
    ]
    assert set(config["versions"]) == {"neurofm", "numpy", "torch"}  # type: ignore[call-overload]
    assert len(config["subjects_sha256"]) == 3  # type: ignore[arg-type]


def test_the_network_alone_is_loaded_with_its_weights(folder: Path) -> None:
    network = NeuroFM.from_pretrained(folder)
    saved = load_file(folder / "model.safetensors")
    assert not network.training
    assert {name: value.tolist() for name, value in network.state_dict().items()} == {
        name: value.tolist() for name, value in saved.items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_rate_hz": 0.5}, r"TR 2 s here, 0.1 s in training"),
        ({"channel_set": "fmri-x"}, r"atlas fmri-x of 6 channels here, fmri-atlas of 6 channels in training"),
        ({"sampling_rate_hz": 0.5, "channel_set": "fmri-x"}, r"TR 2 s here, 0.1 s in training; atlas fmri-x of"),
    ],
)
def test_data_of_another_acquisition_are_refused_with_both_values(
    change: dict[str, object], message: str, folder: Path
) -> None:
    subject = replace(two_kinds()[4], **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"fmri/sub3: not what the model was trained on: {message}"):
        Predictor.load(folder).prepare(subject)
    Predictor.load(folder, strict=False).prepare(subject)


def test_another_bin_is_refused_and_other_units_are_not(folder: Path) -> None:
    spikes: RecordingView = replace(two_kinds()[0], recording="other", channel_set="spikes-other")
    Predictor.load(folder).prepare(spikes)
    with pytest.raises(UserError, match="bin 50 ms here, 100 ms in training"):
        Predictor.load(folder).prepare(replace(spikes, recording="finer", sampling_rate_hz=20.0))
    assert spikes.modality is Modality.SPIKES


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-10], r"model.safetensors has \d+ bytes, and had \d+ when it was written"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its SHA-256 differs"),
    ],
)
def test_weights_that_are_not_whole_are_refused(damage: Callable[[bytes], bytes], message: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    for load in (Predictor.load, NeuroFM.from_pretrained):
        with pytest.raises(UserError, match=message) as refused:
            load(folder)
        assert "\n" not in str(refused.value)


def test_weights_of_another_size_are_refused_with_both_shapes(folder: Path) -> None:
    config = _config(folder)
    config["model"]["width"] = 32  # type: ignore[index]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is \[.*16.*\] in model.safetensors, and \[.*32.*\] in a network") as refused:
        Predictor.load(folder)
    assert "\n" not in str(refused.value)


def test_weights_that_lack_a_part_are_refused(folder: Path) -> None:
    def without_heads(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("heads.fmri")]:
            del weights[name]

    _rewrite(folder, without_heads)
    with pytest.raises(UserError, match=r"heads.fmri\S+ is absent in model.safetensors, and \["):
        Predictor.load(folder)


def test_a_checkpoint_of_another_schema_says_both(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(_config(folder) | {"schema": "neurofm-model/1"}))
    with pytest.raises(UserError, match="schema is 'neurofm-model/1', this version reads 'neurofm-model/4'"):
        NeuroFM.from_pretrained(folder)
