"""TensorBoard shows what a training does, changes no bit of it, and cannot end it."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.training.board import TensorBoard
from neurofm.training.pretrain import FoldResult, pretrain
from neurofm.training.site import TrainingSite
from tests.training.faults import Lab


def _shown(folder: Path) -> dict[str, dict[int, float]]:
    """Value per step and scalar."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {one.step: one.value for one in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_it_shows_the_losses_of_each_modality_and_changes_no_bit(
    lab: Lab, whole: tuple[FoldResult, dict[str, bytes]]
) -> None:
    pytest.importorskip("tensorboard", reason="to run this: pip install tensorboard")
    result = pretrain(
        lab.views,
        settings=lab.settings,
        windows=lab.windows,
        fold=0,
        run_dir=lab.at / "shown" / "fold-0",
        out_dir=lab.at / "shown" / "out",
        training=TrainingSite(tensorboard=True),
    )
    assert result == whole[0]
    assert lab.model("shown") == whole[1]
    shown = _shown(lab.at / "shown" / "tensorboard" / "fold-0")
    assert shown["train/spikes"].keys() | shown["train/fmri"].keys() == set(range(1, 13))
    for point in result.curve:
        assert shown["validation/fmri"][point["step"]] == pytest.approx(point["validation"]["fmri"])
    assert {"learning rate", "gradient", "windows/s", "hours"} <= shown.keys()


def test_a_full_disk_ends_the_event_files_and_not_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        def add_scalar(self, *_: object) -> None:
            raise OSError(28, "No space left on device")

    board = TensorBoard.__new__(TensorBoard)
    board._writer, board._who = Full(), "test"
    with board:
        board.show(1, {"a": 1.0, "b": 2.0})
        board.show(2, {"a": 1.0})
    assert capsys.readouterr().err == "test: TensorBoard gets nothing any more: No space left on device\n"


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError("no tensorboard")
        return loaded(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs TensorBoard: no tensorboard.*\n?.*neurofm\[tensorboard\]"):
        TensorBoard(tmp_path, who="test")
