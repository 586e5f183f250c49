"""Cells are checked before anything runs, and change what they say and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.ablation.settings import PARAMS, AblationSettings, read_ablations, settings_of
from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.model.sizes import size
from neurofm.operations.ablations import foretell_ablations
from neurofm.params import load_params

PROJECT = Path(__file__).resolve().parents[2]
BASE = load_params(PROJECT).pretrain


def _read(tmp_path: Path, text: str, *, folds: int | None = 3) -> AblationSettings:
    path = tmp_path / "params.yaml"
    path.write_text(f"seeds: [1]\ncells:\n  base: {{part: nothing, changes: {{}}}}\n{text}")
    return read_ablations(path, pretrain=BASE, folds=folds)


def test_cells_of_the_project() -> None:
    settings = read_ablations(PROJECT / PARAMS, pretrain=BASE, folds=3)
    base = settings_of(settings, "base", seed=2, pretrain=BASE)
    assert base.seed == 2
    assert base.steps == settings.common["pretrain.steps"]
    assert (base.model, base.masks) == (BASE.model, BASE.masks)
    for name, cell in settings.cells.items():
        own = settings_of(settings, name, seed=2, pretrain=BASE)
        # A cell that changes nothing would be a row of zeros.
        assert (own == base) == (name == "base"), name
        assert cell.against == "base" or settings.cells[cell.against].against == "base"
        # DVC reads `cells.<name>.changes`, so each has some, be it none.
        assert "changes" in read_yaml(PROJECT / PARAMS)["cells"][name]


def test_a_mapping_is_replaced_whole(tmp_path: Path) -> None:
    settings = _read(tmp_path, "  masks: {part: masks, changes: {pretrain.masks.fmri: {channels: 1.0}}}\n")
    masks = settings_of(settings, "masks", seed=1, pretrain=BASE).masks
    assert masks.fmri == {"channels": 1.0}
    assert masks.eeg == BASE.masks.eeg


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("  a: {part: x, changes: {pretrain.model.backbon: gru}}\n", "cells.a: pretrain: `model.backbon`: unknown key"),
        ("  a: {part: x, changes: {pretrain.steps: many}}\n", "cells.a: pretrain: `steps`"),
        ("  a: {part: x, changes: {pretrain.steps.more: 1}}\n", "`steps` has no keys"),
        ("  a: {part: x, changes: {evaluate.seed: 1}}\n", "`evaluate.seed` is no key of `pretrain`"),
        ("  a: {part: x, changes: {}, against: b}\n", "there is no cell `b`"),
        ("  a-b: {part: x, changes: {}}\n", "cells.a-b"),
        ("  a: {part: x, changes: {pretrain.model.slots: 4}}\n", "slots 4 contradicts pooling identity"),
        ("fold: 3\n", "no fold 3"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        _read(tmp_path, text)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_with_leave_out_the_splits_say_which_folds_there_are(tmp_path: Path) -> None:
    params = load_params(PROJECT)
    assert params.known_folds == params.split.folds
    split = params.split.model_copy(update={"leave_out": "site"})
    known = params.model_copy(update={"split": split}).known_folds
    assert _read(tmp_path, "fold: 9\n", folds=known).fold == 9


def test_what_is_not_told_is_not_written_down() -> None:
    # Otherwise checkpoints and runs of before would have other bytes and names.
    assert not {"position", "statistics"} & size("nano").model_dump(mode="json").keys()
    assert '"skip"' not in BASE.key()
    without = BASE.model_copy(update={"core": BASE.core.model_copy(update={"skip": False})})
    assert '"skip":false' in without.key()


def test_cost_is_said_before() -> None:
    trainings, cost = foretell_ablations(PROJECT)
    assert "trainings" in trainings
    assert "CPU-seconds" in cost
