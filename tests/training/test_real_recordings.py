"""On real fMRI of subjects never seen, the model finds hidden regions from visible ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings, channel_groups, tiles

ROLES = ["train"] * 5 + ["validation", "test", "test"]


def test_hidden_regions_of_unseen_subjects_are_predicted(
    shared_data: Path,
    make_view: Callable[..., RecordingView],
    settings: PretrainSettings,
    windows: WindowsSettings,
    tmp_path: Path,
) -> None:
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[: len(ROLES)]
    views = []
    for file, role in zip(files, ROLES, strict=True):
        whole = [(0, 168)]
        segments = {"train": whole} if role == "train" else {role: [(48, 168)]}
        views.append(
            make_view(
                np.load(file).astype(np.float64),
                modality=Modality.FMRI,
                name=file.name.partition("_")[0],
                channel_set="fmri-basc064",
                kind="subject",
                calibration=whole if role == "train" else [(0, 48)],
                **segments,
            )
        )
    chosen = settings.model_copy(update={"steps": 40, "validate_every_steps": 20})
    result = pretrain(
        views, settings=chosen, windows=windows, fold=0, run_dir=tmp_path / "run", out_dir=tmp_path / "out"
    )
    assert result.curve[-1]["train"]["fmri"] < 0.8
    predictor = Predictor.load(tmp_path / "out")
    for view in views[-2:]:
        assert not predictor.trained_on(view.subject)
        cuts = tiles(view.roles.test, window_samples=20)
        z = np.stack([view.z(tile.start, tile.stop) for tile in cuts])
        predicted, linear = np.zeros(z.shape), np.zeros(z.shape)
        for hidden in channel_groups(view.usable, groups=3, recording=view.channel_set, seed=0):
            visible = np.setdiff1d(np.flatnonzero(view.usable), hidden)
            predicted[..., hidden] = predictor.predict(view, z[..., visible], visible, hidden)
            linear[..., hidden] = predictor.predict_linear(view, z[..., visible], visible, hidden)
        r2, r2_linear = (1 - ((z - found) ** 2).sum() / (z**2).sum() for found in (predicted, linear))
        assert r2_linear > 0.3
        assert r2 > r2_linear - 0.02
