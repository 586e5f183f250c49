"""Caches of what was computed of recordings: bounded, and to the same bits however little room there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.model.stationary_core import StationaryCore
from neurofm.recording import Modality
from neurofm.training.cache import Cache, bytes_of
from neurofm.training.contexts import Context
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.recordings import schedule_of, training_recordings
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.training.stationary import StationaryCores
from neurofm.training.step import Drawn
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.policy import StoreSite
from neurofm.windows.store import Store
from tests.training.conftest import short_windows, small_settings, view_of

ROLES = ["train", "train", "validation", "test", "test", "test"]
CHANNELS = 8


@pytest.fixture(scope="module")
def settings() -> PretrainSettings:
    """Hide patches; the network learns nothing."""
    masks = MaskShares.parse({"fmri": {"channels": 1, "patches": 1}}, where="masks", mend="")
    core = small_settings().core.model_copy(update={"smoothing_samples": (0.0,), "ridge": (0.1,)})
    return small_settings().model_copy(update={"masks": masks, "core": core, "steps": 0, "validation_windows": 1})


def _persons(shared_data: Path, roles: list[str]) -> list[RecordingView]:
    """Eight ROIs of a person per role, each with another one that is not usable, so that no two share a prior."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    made = []
    for number, (file, role) in enumerate(zip(files, roles, strict=False)):
        view = view_of(
            np.load(file).astype(np.float64)[:, ::8],
            modality=Modality.FMRI,
            name=file.name.partition("_")[0],
            channel_set="fmri-basc064",
            kind="subject",
            calibration=[(0, 168 if role == "train" else 48)],
            **{role: [(0, 168)] if role == "train" else [(48, 168)]},
        )
        usable = np.arange(CHANNELS) != number
        made.append(replace(view, normaliser=replace(view.normaliser, usable=usable)))
    return made


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """Two persons to learn from, one to validate on, three to score."""
    return _persons(shared_data, ROLES)


def _bits(core: StationaryCore) -> tuple[torch.Tensor, torch.Tensor]:
    return core.prior.covariance, core.prior.spectra


def test_cores_of_many_recordings_stay_within_bounds_and_are_the_same(
    views: list[RecordingView], settings: PretrainSettings
) -> None:
    ample = StationaryCores(views, settings=settings, windows=short_windows())
    least = [ample.of(view, view.roles.calibration) for view in views]
    most = 3 * max(core.bytes for core in least)
    assert ample.bytes > 3 * most, "without a bound there is more, so the bound is real"
    tight = StationaryCores(views, settings=settings, windows=short_windows(), most_bytes=most)
    for _ in range(2):
        for view, core in zip(views, least, strict=True):
            found = tight.of(view, view.roles.calibration)
            assert all(torch.equal(a, b) for a, b in zip(_bits(found), _bits(core), strict=True))
            assert tight.bytes <= 3 * most


def test_a_predictor_of_many_recordings_stays_within_bounds_and_predicts_the_same(
    views: list[RecordingView], settings: PretrainSettings, tmp_path: Path
) -> None:
    windows: WindowsSettings = short_windows()
    pretrain(views, settings=settings, windows=windows, fold=0, run_dir=tmp_path / "run", out_dir=tmp_path / "out")
    ample = Predictor.load(tmp_path / "out")
    tight = Predictor(ample.checkpoint, most_bytes=20_000)
    for view in [*views, *views]:
        z = np.stack([view.z(60, 80)])
        shown = np.arange(4 * CHANNELS).reshape(1, 4, CHANNELS) % 3 > 0
        for name in ("predict_patches", "predict_patches_core"):
            found, whole = (getattr(one, name)(view, z, shown, kind="patches") for one in (tight, ample))
            np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(tight.encode(view, z), ample.encode(view, z))
        assert tight.bytes <= 2 * 20_000
    assert ample.bytes > 4 * 20_000


def test_contexts_of_many_recordings_stay_within_bounds_and_steps_are_the_same(
    shared_data: Path, settings: PretrainSettings
) -> None:
    corpus, windows = _persons(shared_data, ["train"] * 6), short_windows()
    choices = choose_cores(corpus, settings=settings, windows=windows)
    ample: Cache[str, tuple[Context, ...]] = Cache()
    held = training_recordings(corpus, choices=choices, settings=settings, windows=windows, kept=ample)
    tight: Cache[str, tuple[Context, ...]] = Cache(most_bytes=ample.bytes // 3)
    remade = training_recordings(corpus, choices=choices, settings=settings, windows=windows, kept=tight)
    assert len(ample) == 6
    with Store(
        [one.view.signal for one in held], schedule_of(held, settings=settings), site=StoreSite(decoders=0)
    ) as store:
        for number in range(12):
            draw, z, counts = store.at(number)
            one, other = (
                Drawn(recording=each[draw.source], draw=draw, z=z, counts=counts).lesson(
                    step=number, patch=5, settings=settings
                )
                for each in (held, remade)
            )
            assert torch.equal(one.batch.linear, other.batch.linear)
            assert torch.equal(one.batch.query.correlations, other.batch.query.correlations)
            assert torch.equal(one.batch.query.identity, other.batch.query.identity)
            assert 0 < tight.bytes <= ample.bytes // 3
            assert len(tight) <= 2


def test_what_was_asked_for_longest_ago_goes_first_and_the_latest_stays() -> None:
    cache: Cache[str, torch.Tensor] = Cache(most_bytes=100)
    made: list[str] = []

    def get(key: str, count: int) -> None:
        cache.get(key, lambda: made.append(key) or torch.zeros(count, dtype=torch.float64))  # type: ignore[func-returns-value]  # it is None

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key, 5)
    assert made == ["a", "b", "c", "b"]
    get("large", 1000)
    assert (len(cache), cache.bytes) == (1, 8000)
    get("a", 5)
    assert cache.bytes == 40
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_bytes_are_those_of_all_tensors_within(views: list[RecordingView], settings: PretrainSettings) -> None:
    core = StationaryCores(views, settings=settings, windows=short_windows()).of(views[0], ())
    prior = core.prior
    assert bytes_of({"one": [core, None], "two": "x"}) == prior.covariance.nbytes + prior.spectra.nbytes
