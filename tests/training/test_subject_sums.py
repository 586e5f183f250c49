"""Priors without a subject: real fMRI of persons with two recordings each, or one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.training.stationary import expected_lags
from neurofm.training.subject_sums import moments_of_others, pooled_lags_of_others
from neurofm.windows import RecordingView
from tests.training.conftest import short_windows, small_settings, view_of

CHANNELS = "fmri-basc064"
HALVES = ((0, 84), (84, 168))


@pytest.fixture(scope="module")
def settings() -> PretrainSettings:
    """Hide patches; the network learns nothing."""
    masks = MaskShares.parse({"fmri": {"channels": 1, "patches": 1}}, where="masks", mend="")
    core = small_settings().core.model_copy(
        update={"smoothing_samples": (0.0,), "ridge": (0.1,), "prior_samples": (100.0,)}
    )
    return small_settings().model_copy(update={"masks": masks, "core": core, "steps": 0, "validation_windows": 1})


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """Both halves of two persons as recordings of their own, the first half of a third, and one to validate on."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    made = []
    for number, file in enumerate(files[:4]):
        for start, stop in HALVES if number < 2 else HALVES[:1]:
            view = view_of(
                np.load(file).astype(np.float64)[start:stop, ::8],
                modality=Modality.FMRI,
                name=f"{number}-{start}",
                channel_set=CHANNELS,
                kind="subject",
                calibration=[(0, 84 if number < 3 else 40)],
                **{"train" if number < 3 else "validation": [(0, 84)] if number < 3 else [(40, 84)]},
            )
            made.append(replace(view, subject=f"lab:{number}"))
    return made


@pytest.fixture(scope="module")
def predictor(
    views: list[RecordingView], settings: PretrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> Predictor:
    """A model of them, read from its files."""
    at = tmp_path_factory.mktemp("subjects")
    pretrain(views, settings=settings, windows=short_windows(), fold=0, run_dir=at / "run", out_dir=at / "out")
    return Predictor.load(at / "out")


@pytest.mark.parametrize("which", [0, 1, 2, 4])
def test_a_recording_that_trained_is_expected_from_other_subjects_only(
    which: int, predictor: Predictor, views: list[RecordingView]
) -> None:
    view, checkpoint = views[which], predictor.checkpoint
    sds = checkpoint.choices.of(view).core.smoothing_samples
    others = [one for one in views if one.roles.train and one.subject != view.subject]
    found = moments_of_others(checkpoint, view, sds_samples=sds)
    pooled = pooled_lags_of_others(checkpoint, view)
    assert pooled is not None
    lagged = expected_lags(view, pooled)
    assert found.samples == float(lagged.pairs[0]) == 84 * len(others)
    z = np.concatenate([one.z(0, 84) for one in others]).astype(np.float64)
    for products in (found.ss, lagged.products[0]):
        torch.testing.assert_close(products, torch.from_numpy(z.T @ z), rtol=1e-9, atol=1e-9)


def test_a_subject_never_met_is_expected_from_all(predictor: Predictor, views: list[RecordingView]) -> None:
    view, checkpoint = views[-1], predictor.checkpoint
    sds = checkpoint.choices.of(view).core.smoothing_samples
    assert moments_of_others(checkpoint, view, sds_samples=sds).samples == 5 * 84


def test_predictions_do_not_know_a_sibling(
    predictor: Predictor, views: list[RecordingView], settings: PretrainSettings, tmp_path: Path
) -> None:
    """A model that learned from another signal in the sibling's place predicts the same, but for rounding."""
    changed = [
        replace(one, stored=one.stored[::-1].copy()[:, ::-1].copy()) if one is views[1] else one for one in views
    ]
    pretrain(
        changed, settings=settings, windows=short_windows(), fold=0, run_dir=tmp_path / "run", out_dir=tmp_path / "out"
    )
    other = Predictor(replace(Predictor.load(tmp_path / "out").checkpoint, choices=predictor.checkpoint.choices))
    for which, is_same in ((0, True), (2, False)):
        one, same = (each.prepare(views[which]).core.ss for each in (predictor, other))
        assert torch.allclose(one, same, rtol=0, atol=1e-10) is is_same
