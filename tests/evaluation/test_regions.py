"""Regions and the future of real fMRI are hidden, learned from and scored, where params.yaml asks for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.evaluation.patches import fill_set
from neurofm.evaluation.scoreboard import make_rows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.training.fold import FoldResult
from neurofm.training.hidden_patches import fixed_masks, regions_of
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.training.settings import MaskShares, PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings
from tests.evaluation.conftest import SETTINGS, Roles, view_of
from tests.evaluation.test_evaluate import PRETRAIN

pytestmark = pytest.mark.long

ROLES = ["train"] * 3 + ["validation", "test"]
WINDOW, PATCH = 40, 8
LOBES = {3: "limbic", 4: "limbic", 5: "occipital", 8: "temporal"}
"""By the first digit of four of a region of the AAL atlas; those left out are in no lobe here."""
CHOSEN = EvaluateSettings.parse(SETTINGS | {"shrinkages": [0.1], "prior_samples": [100.0]}, where="", mend="")


@pytest.fixture(scope="module")
def views(shared_data: Path) -> list[RecordingView]:
    """Every fifth region of the AAL atlas, of five persons."""
    folder = shared_data / "fmri" / "ds000228_pixar_rois"
    codes = np.array(_codes(folder))[::5]
    lobes = tuple(LOBES.get(code // 1000, "") for code in codes.tolist())
    made = []
    for file, role in zip(sorted((folder / "timeseries").glob("*AAL*.npy")), ROLES, strict=False):
        spans: Roles = {role: [(0 if role == "train" else 48, 168)]}
        view = view_of(
            np.load(file).astype(np.float64)[:, ::5],
            modality=Modality.FMRI,
            name=file.name.partition("_")[0],
            channel_set="fmri-aal",
            kind="subject",
            calibration=[(0, 168 if role == "train" else 48)],
            **spans,
        )
        made.append(replace(view, region=lobes))
    return made


def _codes(folder: Path) -> list[int]:

    labels: list[int] = json.loads((folder / "atlas_labels.json").read_text())["AAL"]
    return labels


@pytest.fixture(scope="module")
def trained(views: list[RecordingView], tmp_path_factory: pytest.TempPathFactory) -> tuple[FoldResult, Predictor]:
    """A network that took six steps."""
    at = tmp_path_factory.mktemp("regions")
    section = {"window_samples": WINDOW, "patch_samples": PATCH}
    windows = WindowsSettings.parse({str(m): section for m in Modality}, where="", mend="")
    masks = MaskShares.parse({"fmri": {"region": 1, "forward": 1}, "windows": 2}, where="", mend="")
    changes = {"masks": masks, "steps": 6, "validate_every_steps": 3, "validation_windows": 1, "seed": 1, "episodes": 2}
    settings: PretrainSettings = PRETRAIN.model_copy(update=changes)
    result = pretrain(views, settings=settings, windows=windows, fold=0, run_dir=at / "run", out_dir=at / "out")
    return result, Predictor.load(at / "out")


def test_both_are_learned_from_validated_and_gated(trained: tuple[FoldResult, Predictor]) -> None:
    result, predictor = trained
    kinds = {"fmri region", "fmri forward"}
    assert set().union(*(point["train"] for point in result.curve)) == kinds
    assert kinds < set(result.curve[-1]["validation"])
    assert result.gates is not None
    assert {row["mask"] for row in result.gates} == {"region", "forward"}
    assert sorted(predictor.kinds(Modality.FMRI)) == ["forward", "region"]


def test_both_are_tasks_of_the_scoreboard(trained: tuple[FoldResult, Predictor], views: list[RecordingView]) -> None:
    scores, _ = fill_set(views, trained[1], settings=CHOSEN, window_samples=WINDOW)
    values = {(row.task, row.model): row.value for row in make_rows(scores, folds=1, settings=CHOSEN)}
    assert {task for task, _ in values} == {"hidden_region", "hidden_forward"}
    assert values["hidden_region", "neurofm-core"] > 0.05 > values["hidden_region", "null"]
    assert values["hidden_forward", "null"] <= 0


def test_a_region_is_hidden_whole_and_nothing_else(views: list[RecordingView]) -> None:
    view = views[0]
    region = regions_of(view)
    assert region is not None
    shown = fixed_masks(
        "region", windows=30, patches=5, features=torch.zeros(len(region), 20), name="r", seed=1, region=region
    )
    lobes = {tuple((region == number).tolist()) for number in range(1, int(region.max()) + 1)}
    assert len(lobes) == len(set(view.region)) - 1
    hidden = [tuple((~one).all(dim=0).tolist()) for one in shown]
    assert len(lobes & set(hidden)) > 1
    assert regions_of(replace(view, region=tuple(map(str, range(len(view.region)))))) is None
