"""Hidden patches and blocks of real fMRI: learned from, validated and filled in, without a look at what is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.pooled_lags import PooledLags
from neurofm.model.stationary_core import StationaryCore
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.checkpoint import digest, read_checkpoint, write_checkpoint
from neurofm.training.fold import FoldResult
from neurofm.training.hidden_patches import draw_shown, fixed_masks, kind_at, training_masks
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.recordings import training_recordings
from neurofm.training.scoring import validation_items
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.training.stationary import StationaryCores, pooled_lags_of
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView, WindowsSettings, tiles
from tests.training.conftest import short_windows, small_settings, view_of

ROLES = ["train"] * 4 + ["validation", "test"]
WINDOW, PATCH = 40, 8
KINDS = ("patches", "block")


@pytest.fixture(scope="module")
def windows() -> WindowsSettings:
    """Five patches of 8 TR."""
    plain = short_windows().model_dump()
    section = {"window_samples": WINDOW, "patch_samples": PATCH}
    return WindowsSettings.parse(plain | {"fmri": section, "eeg": section}, where="windows", mend="")


@pytest.fixture(scope="module")
def settings() -> PretrainSettings:
    """Hide patches more often than not."""
    masks = MaskShares.parse(
        {"fmri": {"channels": 0.3, "patches": 0.4, "block": 0.3}, "windows": 2}, where="masks", mend=""
    )
    core = small_settings().core.model_copy(update={"smoothing_samples": (0.0,), "ridge": (0.1,)})
    return small_settings().model_copy(update={"masks": masks, "core": core, "mask_groups": 2, "seed": 3})


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """ROIs of six persons."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[: len(ROLES)]
    made = []
    for file, role in zip(files, ROLES, strict=True):
        whole = [(0, 168)]
        segments = {"train": whole} if role == "train" else {role: [(48, 168)]}
        made.append(
            view_of(
                np.load(file).astype(np.float64)[:, ::2],
                modality=Modality.FMRI,
                name=file.name.partition("_")[0],
                channel_set="fmri-basc064",
                kind="subject",
                calibration=whole if role == "train" else [(0, 48)],
                **segments,
            )
        )
    return made


@pytest.fixture(scope="module")
def trained(
    views: list[RecordingView],
    settings: PretrainSettings,
    windows: WindowsSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[FoldResult, Path]:
    """What a short training says, and the folder of its model."""
    at = tmp_path_factory.mktemp("patches")
    result = pretrain(views, settings=settings, windows=windows, fold=0, run_dir=at / "run", out_dir=at / "out")
    return result, at / "out"


def _spoilt(view: RecordingView, segments: Sequence[Segment]) -> RecordingView:
    stored = view.stored[:].copy()
    rng = np.random.default_rng(5)
    for segment in segments:
        part = stored[segment.start : segment.stop]
        part[...] = rng.integers(-3000, 3000, size=part.shape)
    return replace(view, stored=stored)


def _bits(core: StationaryCore) -> tuple[Tensor, Tensor]:
    return core.prior.covariance, core.prior.spectra


def _same(one: StationaryCore, other: StationaryCore) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_bits(one), _bits(other), strict=True))


def _everything(view: RecordingView) -> list[Segment]:
    return [Segment(start=0, stop=len(view.stored))]


def test_cores_of_an_episode_never_saw_its_targets(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    choices = choose_cores(views, settings=settings, windows=windows)
    before = training_recordings(views, choices=choices, settings=settings, windows=windows)[0]
    for number, episode in enumerate(before.source.episodes):
        changed = [_spoilt(views[0], episode.targets), *views[1:]]
        after = training_recordings(changed, choices=choices, settings=settings, windows=windows)[0]
        same = [_same(before.stationary(each), after.stationary(each)) for each in range(len(before.source.episodes))]
        assert same[number]
        assert not all(same), "other episodes are described by these samples, so the corruption is real"


def test_what_is_expected_of_a_recording_knows_neither_its_subject_nor_those_scored(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    def expected(given: list[RecordingView], which: int) -> StationaryCore:
        return StationaryCores(given, settings=settings, windows=windows).of(given[which], ())

    second_run = replace(views[1], recording="second", roles=views[1].roles.model_copy(update={"recording": "second"}))
    siblings = [*views, replace(second_run, subject=views[0].subject)]
    spoilt = [
        _spoilt(view, _everything(view)) if view.subject == views[0].subject or not view.roles.train else view
        for view in siblings
    ]
    for which in (0, len(views)):
        assert _same(expected(siblings, which), expected(spoilt, which))
    assert not _same(expected(siblings, 1), expected(spoilt, 1))


def test_validation_estimates_see_calibration_and_what_is_shown_only(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings
) -> None:
    choices = choose_cores(views, settings=settings, windows=windows)
    items = {item.key: item for item in validation_items(views, choices=choices, settings=settings, windows=windows)}
    assert set(items) == {"fmri", "fmri patches", "fmri block"}
    for kind in KINDS:
        item = items[f"fmri {kind}"]
        shown = item.batch.seen.shown
        assert shown is not None
        hidden = ~shown.repeat_interleave(PATCH, dim=1)
        assert not (item.counts & ~hidden).any()
        assert item.counts.any()
        assert not item.batch.seen.values[hidden].any()
        error = (item.batch.linear - item.truth)[item.counts].square().sum() / item.truth[item.counts].square().sum()
        assert error < (0.8 if kind == "patches" else 1.02)
    for patch in ~items["fmri block"].batch.seen.shown.flatten(0, 1):  # type: ignore[union-attr]  # checked above
        assert patch.all() or not patch.any()


def test_it_trains_validates_and_keeps_gains_per_kind(trained: tuple[FoldResult, Path]) -> None:
    result, folder = trained
    keys = {"fmri", "fmri patches", "fmri block"}
    assert set(result.curve[-1]["validation"]) == keys
    assert set().union(*(point["train"] for point in result.curve)) == keys
    assert keys < set(result.residual_gain)
    predictor = Predictor.load(folder)
    assert predictor.checkpoint.gains == result.residual_gain
    assert sorted(predictor.kinds(Modality.FMRI)) == sorted(KINDS)
    assert predictor.kinds(Modality.EEG) == ()


def test_predictions_do_not_depend_on_hidden_or_scored_values(
    trained: tuple[FoldResult, Path], views: list[RecordingView]
) -> None:
    view = views[-1]
    z, shown = _puzzle(view)
    hidden = ~np.repeat(shown, PATCH, axis=1)
    spoilt = np.where(hidden, np.float32(np.nan), z)
    changed = _spoilt(view, view.roles.test)
    folder = trained[1]
    core, again = (Predictor.load(folder) for _ in range(2))
    for predictor in (core, again):
        predictor.checkpoint.gains["fmri patches"] = 1.0
        with torch.no_grad():
            for weights in predictor.checkpoint.network.heads.parameters():
                weights.add_(0.1)
    whole = core.predict_patches(view, z, shown, kind="patches")
    np.testing.assert_array_equal(again.predict_patches(changed, spoilt, shown, kind="patches"), whole)
    linear = core.predict_patches_core(view, z, shown, kind="patches")
    np.testing.assert_array_equal(again.predict_patches_core(changed, spoilt, shown, kind="patches"), linear)
    assert not np.array_equal(whole[hidden], linear[hidden])
    np.testing.assert_array_equal(whole[~hidden], z[~hidden])
    alone = core.predict_patches_core(view, z, shown, kind="forward")
    np.testing.assert_array_equal(core.predict_patches(view, z, shown, kind="forward"), alone)
    assert ((linear - z)[hidden] ** 2).sum() < 0.8 * (z[hidden] ** 2).sum()


def test_the_order_of_channels_does_not_matter(trained: tuple[FoldResult, Path], views: list[RecordingView]) -> None:
    predictor = Predictor.load(trained[1])
    view, turned = views[-1], _turned(views[-1])
    turned_predictor = Predictor(replace(predictor.checkpoint, lagged=_turned_sums(predictor), priors={}))
    z, shown = _puzzle(view)
    straight = Predictor(replace(predictor.checkpoint, priors={})).predict_patches_core(view, z, shown, kind="patches")
    found = turned_predictor.predict_patches_core(turned, z[..., ::-1].copy(), shown[..., ::-1].copy(), kind="patches")
    # Conjugate gradients end within their tolerance, not at the same bits.
    assert np.sqrt(((found[..., ::-1] - straight) ** 2).mean()) < 0.005
    assert np.sqrt(((found - straight) ** 2).mean()) > 0.5


def test_a_recording_that_trained_does_not_count_twice(
    trained: tuple[FoldResult, Path], views: list[RecordingView]
) -> None:
    checkpoint = Predictor.load(trained[1]).checkpoint
    (total,) = checkpoint.lagged["fmri-basc064"].by_interval.values()
    assert total.pairs[0] == 4 * 168
    assert digest(views[0].name) in checkpoint.prior_recordings
    known = Predictor(checkpoint)._stationary(views[0]).prior
    others = replace(checkpoint, lagged={}, prior_recordings=frozenset())
    alone = Predictor(others)._stationary(views[0]).prior
    assert known.own_samples == alone.own_samples == 168
    assert not torch.equal(known.covariance, alone.covariance)


def test_lagged_products_of_two_trs_come_back_from_the_files_of_a_checkpoint(
    trained: tuple[FoldResult, Path], views: list[RecordingView], tmp_path: Path
) -> None:
    checkpoint = Predictor.load(trained[1]).checkpoint
    faster = pooled_lags_of(replace(views[0], sampling_rate_hz=1 / 0.72), views[0].roles.train)
    pooled = PooledLags.total([checkpoint.lagged["fmri-basc064"], faster])
    write_checkpoint(replace(checkpoint, lagged={"fmri-basc064": pooled}), tmp_path)
    found = read_checkpoint(tmp_path).lagged["fmri-basc064"]
    assert list(found.by_interval) == list(pooled.by_interval) == [0.1, 0.72]
    for interval_s, sums in pooled.by_interval.items():
        assert torch.equal(found.by_interval[interval_s].pairs, sums.pairs)
        assert torch.equal(found.by_interval[interval_s].products, sums.products)
    assert not torch.equal(*(found.by_interval[interval_s].pairs[:1] for interval_s in (0.1, 0.72)))


def test_masks_follow_seed_step_and_start_only(settings: PretrainSettings) -> None:
    features = torch.zeros(6, 20)
    starts = np.array([3, 90, 12])

    def drawn(starts: np.ndarray, step: int) -> Tensor:
        return training_masks("patches", starts=starts, patches=5, features=features, step=step, settings=settings)

    assert torch.equal(drawn(starts, 4)[1:], drawn(starts[1:], 4))
    assert not torch.equal(drawn(starts, 4), drawn(starts, 5))
    kinds = [kind_at(step, Modality.FMRI, settings=settings) for step in range(400)]
    shares = [kinds.count(kind) / 400 for kind in ("channels", *KINDS)]
    np.testing.assert_allclose(shares, [0.3, 0.4, 0.3], atol=0.08)
    assert {kind_at(step, Modality.SPIKES, settings=settings) for step in range(20)} == {"channels"}


@pytest.mark.parametrize("kind", ["patches", "block", "region", "forward"])
@pytest.mark.parametrize("patches", [1, 2, 3, 8])
def test_every_mask_hides_something_and_shows_something(kind: str, patches: int) -> None:
    features = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    for seed in range(10):
        shown = draw_shown(kind, patches=patches, features=features, fraction=0.3, seed=seed)
        assert shown.any()
        assert not shown.all()
        if kind == "block" and patches >= 3:
            assert shown[0].all()
            assert shown[-1].all()
    fixed = fixed_masks(kind, windows=4, patches=8, features=features, name="r", seed=1)
    assert torch.equal(fixed, fixed_masks(kind, windows=4, patches=8, features=features, name="r", seed=1))


def test_modalities_without_such_a_core_are_refused(trained: tuple[FoldResult, Path]) -> None:
    view = view_of(np.ones((80, 4)), modality=Modality.CALCIUM, train=[(0, 40)])
    predictor = Predictor.load(trained[1])
    predictor.checkpoint.choices.by_modality[Modality.CALCIUM] = predictor.checkpoint.choices.by_modality[Modality.FMRI]
    z, shown = np.zeros((1, 40, 4), dtype=np.float32), np.ones((1, 5, 4), dtype=bool)
    with pytest.raises(UserError, match="hidden patches of calcium have no core"):
        Predictor(predictor.checkpoint, strict=False).predict_patches(view, z, shown, kind="patches")


def test_without_the_skip_the_network_starts_from_the_mean(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path
) -> None:
    off = settings.model_copy(update={"steps": 1, "core": settings.core.model_copy(update={"skip": False})})
    pretrain(views, settings=off, windows=windows, fold=0, run_dir=tmp_path / "run", out_dir=tmp_path / "out")
    predictor, view = Predictor.load(tmp_path / "out"), views[-1]
    z, shown = _puzzle(view)
    hidden = ~shown.repeat(PATCH, axis=1)
    filled = predictor.predict_patches_core(view, z, shown, kind="patches")
    assert not filled[hidden].any()
    np.testing.assert_array_equal(filled[~hidden], z[~hidden])
    visible, asked = np.arange(4, z.shape[-1]), np.arange(4)
    assert not predictor.predict_linear(view, z[..., visible], visible, asked).any()
    # What it is told of channels stays: the part that is left out is the estimate alone.
    assert predictor.prepare(view).core.correlations(torch.from_numpy(visible), torch.from_numpy(asked)).any()


def _puzzle(view: RecordingView) -> tuple[np.ndarray, np.ndarray]:
    cuts = tiles(view.roles.test, window_samples=WINDOW)
    z = np.stack([view.z(tile.start, tile.stop) for tile in cuts])
    return z, np.random.default_rng(0).random((len(z), WINDOW // PATCH, z.shape[-1])) > 0.5


def _turned(view: RecordingView) -> RecordingView:
    normaliser = view.normaliser
    turned = replace(
        normaliser, mean=normaliser.mean[::-1].copy(), sd=normaliser.sd[::-1].copy(), usable=view.usable[::-1].copy()
    )
    return replace(
        view,
        stored=view.stored[:][:, ::-1].copy(),
        scale=view.scale[::-1].copy(),
        recording="turned",
        normaliser=turned,
    )


def _turned_sums(predictor: Predictor) -> dict[str, PooledLags]:
    (sums,) = predictor.checkpoint.lagged["fmri-basc064"].by_interval.values()
    order = torch.arange(len(sums.products[0])).flip(0)
    return {name: pooled.of(order) for name, pooled in predictor.checkpoint.lagged.items()}
