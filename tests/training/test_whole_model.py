"""Pretraining takes the whole model as well as the small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.model.foundation import Foundation
from neurofm.model.neurofm import NeuroFM
from neurofm.model.settings import ModelSettings
from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings

WHOLE = {
    "width": 16,
    "layers": 1,
    "heads": 2,
    "dropout": 0.0,
    "readout": "popt",
    "tokens": "modality",
    "pooling": "slots",
    "slots": 2,
    "latents": 4,
    "fusion_layers": 1,
    "popt_layers": 1,
    "fourier_bands": 2,
}


@pytest.mark.parametrize("backbone", ["transformer", "mamba2", "gru"])
def test_it_is_trained_written_loaded_and_applied(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path, backbone: str
) -> None:
    model = ModelSettings.parse(WHOLE | {"backbone": backbone}, where="test", mend="")
    result = pretrain(
        views,
        settings=settings.model_copy(update={"model": model}),
        windows=windows,
        fold=0,
        run_dir=tmp_path / "run",
        out_dir=tmp_path / "out",
    )
    assert result.steps == settings.steps
    assert result.curve[-1]["train"].keys() == {"spikes", "fmri"}

    network = Foundation.from_pretrained(tmp_path / "out")
    assert sum(one.numel() for one in network.parameters()) == result.parameters
    with pytest.raises(UserError, match="readout"):
        NeuroFM.from_pretrained(tmp_path / "out")

    predictor = Predictor.load(tmp_path / "out")
    for view in (next(v for v in views if v.modality is m and v.roles.test) for m in (Modality.SPIKES, Modality.FMRI)):
        start = view.roles.test[0].start
        z = view.z(start, start + 20)[None]
        visible, hidden = np.arange(2, z.shape[-1]), np.arange(2)
        found = predictor.predict(view, z[..., visible], visible, hidden)
        assert found.shape == (1, 20, 2)
        assert np.isfinite(found).all()
        encoded = predictor.encode(view, z)
        assert encoded.shape == (1, 4, 16 + 32)
        assert torch.from_numpy(encoded).isfinite().all()
