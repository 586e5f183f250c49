"""Several processes train one model to the bits that one process comes to, and none is left waiting for another."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from neurofm.errors import UserError
from neurofm.training.pretrain import refuse_uneven
from neurofm.training.settings import PretrainSettings
from neurofm.training.site import TrainingSite
from neurofm.training.watchdog import train_folds
from tests.training.joint import real_lab, train

SITE = TrainingSite(processes=2, after_hang="resume")


def _joint(at: Path, shared_data: Path, *, slices: int, killed: int = -1) -> None:
    one = partial(train, at=at, shared_data=shared_data, site=SITE, slices=slices, killed=killed)
    (joint,) = train_folds(one, [0], workers=2, site=SITE)
    lab = real_lab(at, shared_data, slices=slices)
    assert joint == lab.train("alone")
    assert lab.model("joint") == lab.model("alone")


def test_two_processes_come_to_the_bits_of_one(shared_data: Path, tmp_path: Path) -> None:
    _joint(tmp_path, shared_data, slices=4)
    assert (tmp_path / "log-0").read_text() == (tmp_path / "log-1").read_text(), "both draw every step"


@pytest.mark.long
def test_when_one_is_killed_the_other_keeps_what_both_learned_and_both_go_on(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _joint(tmp_path, shared_data, slices=2, killed=6)
    assert "its process was ended by SIGKILL at step 6" in capfd.readouterr().err
    steps = [int(line) for line in (tmp_path / "log-0").read_text().split()]
    assert steps == [*range(7), *range(6, 8)], "not a step that was finished is done again"


@pytest.mark.long
def test_weights_that_are_cut_among_processes_learn_the_same(shared_data: Path, tmp_path: Path) -> None:
    """Sums are rounded otherwise, and Adam makes much of that at first, so that it is near and not equal."""
    site = SITE.model_copy(update={"strategy": "fsdp"})
    one = partial(train, at=tmp_path, shared_data=shared_data, site=site)
    (cut,) = train_folds(one, [0], workers=2, site=site)
    lab = real_lab(tmp_path, shared_data)
    whole = lab.train("alone")
    assert (cut.steps, cut.best_step, cut.residual_gain) == (whole.steps, whole.best_step, whole.residual_gain)
    for ours, other in zip(cut.curve, whole.curve, strict=True):
        assert ours["train"] == pytest.approx(other["train"], rel=1e-3)
        assert ours["validation"] == pytest.approx(other["validation"], rel=1e-3)
    kept, expected = lab.kept("joint"), lab.kept("alone")
    assert kept["optimizer"]["state"].keys() == expected["optimizer"]["state"].keys()
    for name, weight in expected["average"].items():
        torch.testing.assert_close(kept["average"][name], weight, rtol=1e-2, atol=1e-3)
    # What was kept is whole, and so one process alone goes on from it.
    shutil.copytree(tmp_path / "joint", tmp_path / "on")
    shutil.rmtree(tmp_path / "on" / "out")
    assert lab.train("on") == cut


def test_processes_that_would_get_unequal_shares_are_refused(settings: PretrainSettings) -> None:
    with pytest.raises(UserError, match=r"2 processes .* cannot share `pretrain.slices` 1 of params.yaml out evenly"):
        refuse_uneven(settings, SITE)
    refuse_uneven(settings.model_copy(update={"slices": 4}), SITE)
