"""A fold that there is not is refused, by how many the splits have and not by what params.yaml says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.ablation.cell import run_cell
from neurofm.errors import UserError
from neurofm.evaluation.folds import check_folds, left_out_of
from neurofm.params import load_params
from neurofm.splits import Fold, Splits
from tests.evaluation.conftest import view_of

PROJECT = Path(__file__).resolve().parents[2]
SPLITS = Splits(seed=1, folds=(Fold(recordings=()),) * 4, left_out=())


def test_folds_of_the_splits() -> None:
    check_folds(SPLITS, (0, 3), where="params.yaml: `finetune.a.folds`")
    with pytest.raises(UserError, match=r"`finetune.a.folds`: there is no fold 5, .* has 4") as caught:
        check_folds(SPLITS, (0, 5), where="params.yaml: `finetune.a.folds`")
    assert caught.value.mend == "choose from 0 to 3"
    assert len(str(caught.value).splitlines()) == 1


def test_a_dataset_that_is_not_scored_in_every_fold_says_in_how_many() -> None:
    views = [
        view_of(np.ones((40, 2)), name=name, kind="subject", calibration=[(0, 10)], test=[(10, 40)])
        for name in ("a", "b")
    ]
    few = [view.roles.model_copy(update={"dataset": "few"}) for view in views]
    many = [view.roles.model_copy(update={"dataset": "many"}) for view in views]
    folds = (Fold(recordings=(few[0], many[0])), Fold(recordings=(few[1], many[1])), Fold(recordings=(many[0],)))
    assert left_out_of(Splits(seed=1, folds=folds, left_out=())) == {"few": "2 of 3 folds by subject"}
    # Of a model that learned on in the first fold alone.
    assert left_out_of(Splits(seed=1, folds=folds, left_out=()), folds=(0,)) == {}
    by_site = Splits(seed=1, folds=folds, left_out=(), left_out_by={"few": "site"})
    assert left_out_of(by_site) == {"few": "one site left out, 2 folds"}


def test_a_cell_is_refused_before_it_trains(tmp_path: Path) -> None:
    params = load_params(PROJECT)
    with pytest.raises(UserError, match=r"ablations/params.yaml: `fold`: there is no fold 4"):
        run_cell(
            "base",
            splits=SPLITS,
            fold=4,
            shards=tmp_path,
            pretrain=params.pretrain,
            windows=params.windows,
            evaluate=params.evaluate,
            work=tmp_path,
        )
    assert not list(tmp_path.iterdir())
