"""Gates of stationary cores: real fMRI of few persons, whose stretches of time the core alone makes worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.recording import Modality
from neurofm.training.fold import FoldResult
from neurofm.training.gates import GAINS, Gate, choose_gates
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.training.tuning import CoreChoices
from neurofm.windows import RecordingView, WindowsSettings, tiles
from tests.training.conftest import short_windows, small_settings, view_of

pytestmark = pytest.mark.long

ROLES = ["train"] * 4 + ["validation"] + ["test"] * 4
WINDOW, PATCH, FIRST = 40, 8, 60
CHANNELS = "fmri-basc064"
NOTHING = CoreChoices(by_channel_set={}, by_modality={})


@pytest.fixture(scope="module")
def windows() -> WindowsSettings:
    """Five patches of 8 TR."""
    section = {"window_samples": WINDOW, "patch_samples": PATCH}
    return WindowsSettings.parse(short_windows().model_dump() | {"fmri": section}, where="windows", mend="")


@pytest.fixture(scope="module")
def settings() -> PretrainSettings:
    """Hide blocks; the network learns nothing."""
    masks = MaskShares.parse({"fmri": {"channels": 1, "block": 1}}, where="masks", mend="")
    core = small_settings().core.model_copy(update={"smoothing_samples": (0.0,), "ridge": (0.1,)})
    return small_settings().model_copy(update={"masks": masks, "core": core, "steps": 0})


def _views(shared_data: Path, *, every: int) -> list[RecordingView]:
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[FIRST:]
    made = []
    for file, role in zip(files, ROLES, strict=False):
        made.append(
            view_of(
                np.load(file).astype(np.float64)[:, ::every],
                modality=Modality.FMRI,
                name=file.name.partition("_")[0],
                channel_set=CHANNELS,
                kind="subject",
                calibration=[(0, 168 if role == "train" else 48)],
                **{role: [(0, 168)] if role == "train" else [(48, 168)]},
            )
        )
    return made


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """ROIs of eight persons."""
    return _views(shared_data, every=2)


@pytest.fixture(scope="module")
def trained(
    views: list[RecordingView],
    settings: PretrainSettings,
    windows: WindowsSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[FoldResult, Path]:
    """What training says, and the folder of the model."""
    at = tmp_path_factory.mktemp("gates")
    result = pretrain(views, settings=settings, windows=windows, fold=0, run_dir=at / "run", out_dir=at / "out")
    return result, at / "out"


def test_with_few_persons_blocks_are_shrunk_to_where_they_are_no_worse_than_the_mean(
    trained: tuple[FoldResult, Path],
) -> None:
    result, folder = trained
    assert result.gates is not None
    rows = {row["channels"]: row for row in result.gates}
    assert set(rows) == {CHANNELS, None}
    row = rows[CHANNELS]
    assert row["mask"] == "block"
    assert len(row["recordings"]) == 5, "the person to validate on, and those learned from"
    assert row["validation_loss"]["1.0"] > 1 > row["validation_loss"][str(row["gain"])]
    assert 0 < row["gain"] < 1
    gates = Predictor.load(folder).checkpoint.choices.gates
    assert gates == {f"{CHANNELS} block": row["gain"], "fmri block": rows[None]["gain"]}


def test_persons_never_met_are_filled_in_better_behind_the_gate(
    trained: tuple[FoldResult, Path], views: list[RecordingView]
) -> None:
    predictor = Predictor.load(trained[1])
    gated, bare = _loss(predictor, views), _loss(_gated(predictor, {}), views)
    assert gated < bare - 0.01
    assert gated < 1


def test_a_gate_of_one_changes_no_bit_and_one_of_zero_is_the_mean(
    trained: tuple[FoldResult, Path], views: list[RecordingView]
) -> None:
    predictor, view = Predictor.load(trained[1]), views[-1]
    z, shown = _puzzle(view)
    hidden = ~np.repeat(shown, PATCH, axis=1)

    def filled(gates: Mapping[str, float]) -> np.ndarray:
        found: np.ndarray = _gated(predictor, gates).predict_patches_core(view, z, shown, kind="block")
        return found

    whole = filled({})
    np.testing.assert_array_equal(filled({f"{CHANNELS} block": 1.0, "fmri block": 0.0}), whole)
    assert not filled({f"{CHANNELS} block": 0.0})[hidden].any()
    np.testing.assert_allclose(filled({"fmri block": 0.5})[hidden], 0.5 * whole[hidden], rtol=1e-6)
    np.testing.assert_array_equal(filled({"fmri block": 0.5})[~hidden], whole[~hidden])


def test_gates_never_see_what_is_scored(
    shared_data: Path, settings: PretrainSettings, windows: WindowsSettings
) -> None:
    views = [view for view in _views(shared_data, every=16) if view.roles.validation or view.roles.test][:2]
    views = [*_views(shared_data, every=16)[:2], *views]
    spoilt = [replace(view, stored=-view.stored[:]) if view.roles.test else view for view in views]
    found, again = (choose_gates(NOTHING, some, settings=settings, windows=windows)[1] for some in (views, spoilt))
    assert found == again
    assert all(len(gate.recordings) == 3 for gate in found)


@pytest.mark.parametrize(
    ("losses", "error", "gain"),
    [
        ((0.5, 0.6, 0.7, 0.8), 0.0, 1.0),
        ((0.61, 0.6, 0.7, 0.8), 0.0, 0.75),
        ((0.601, 0.6, 0.7, 0.8), 0.0, 1.0),
        ((0.61, 0.6, 0.7, 0.8), 0.02, 1.0),
        ((1.01, 0.99, 0.98, 0.97), 0.1, 0.75),
        ((1.4, 1.3, 1.2, 1.1), 0.0, 0.0),
        ((1.4, 1.3, 1.2, 1.1), 0.5, 0.0),
    ],
)
def test_the_largest_gain_that_is_as_good_as_the_best_and_no_worse_than_the_mean(
    losses: tuple[float, ...], error: float, gain: float
) -> None:
    gate = Gate(
        modality=Modality.FMRI,
        kind="block",
        channels=None,
        recordings=("one",),
        losses=dict(zip(GAINS, (*losses, 1.0), strict=True)),
        errors=dict.fromkeys(GAINS, error),
    )
    assert gate.gain() == gain


def _gated(predictor: Predictor, gates: Mapping[str, float]) -> Predictor:
    checkpoint = predictor.checkpoint
    return Predictor(replace(checkpoint, choices=replace(checkpoint.choices, gates=gates)))


def _puzzle(view: RecordingView) -> tuple[np.ndarray, np.ndarray]:
    cuts = tiles(view.roles.test, window_samples=WINDOW)
    z = np.stack([view.z(tile.start, tile.stop) for tile in cuts])
    shown = np.ones((len(z), WINDOW // PATCH, z.shape[-1]), dtype=bool)
    shown[np.arange(len(z)), 1 + np.arange(len(z)) % 3] = False
    return z, shown


def _loss(predictor: Predictor, views: list[RecordingView]) -> float:
    """Squared error of blocks over that of the mean, averaged over the persons tested on."""
    found = []
    for view in (view for view in views if view.roles.test):
        z, shown = _puzzle(view)
        hidden = ~np.repeat(shown, PATCH, axis=1)
        filled = predictor.predict_patches_core(view, z, shown, kind="block")
        found.append(((filled - z)[hidden] ** 2).sum() / (z[hidden].astype(np.float64) ** 2).sum())
    return float(np.mean(found))
