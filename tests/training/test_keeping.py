"""A state that cannot be written costs nothing that was kept, and training goes on."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.training.pretrain import FoldResult
from neurofm.training.stopping import Stopped
from tests.disks import small_disk
from tests.training.faults import Lab, at_draw

Whole = tuple[FoldResult, dict[str, bytes]]


@contextmanager
def _files_of_at_most(count: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_no_earlier_state_and_the_next_validation_tries_again(
    lab: Lab, whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lab.at / "full" / "run"
    with small_disk(run, image=lab.at / "disk.img", kilobytes=4000):
        filler, kept = run / "filler", list[int]()

        def fault(step: int) -> None:
            if step == 5:
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(1024))
            if step == 9:
                kept.append(lab.kept("full")["step"])
                filler.unlink()

        with at_draw(fault):
            assert lab.train("full") == whole[0]
        assert kept == [4], "of two validations the first was kept"
        assert lab.kept("full")["step"] == 12
        assert not list(run.glob(".*part"))
    said = capsys.readouterr().err
    assert f"the state at step 8 is not kept, {run}: No space left on device; what is kept is of step 4" in said
    assert "never kept" not in said
    assert lab.model("full") == whole[1]


def test_a_last_state_that_cannot_be_kept_is_said_in_one_line_and_the_model_is_written(
    lab: Lab, whole: Whole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fault(step: int) -> None:
        if step == 5:
            monkeypatch.setattr("neurofm.files.os.fsync", failing)

    monkeypatch.setattr("neurofm.training.fold.write_checkpoint", lambda *_: monkeypatch.undo())
    with at_draw(fault):
        lab.train("failing")
    (last,) = (line for line in capsys.readouterr().err.splitlines() if "last state" in line)
    assert last.startswith("pretrain fold 0: the last state was never kept (Input/output error)")
    assert lab.kept("failing")["step"] == 4
    assert lab.train("failing") == whole[0], "it goes on from what was kept"


def test_a_model_that_cannot_be_written_ends_in_one_line_and_costs_no_training(lab: Lab, whole: Whole) -> None:
    lab.train("first")
    size = (lab.at / "first" / "out" / "model.safetensors").stat().st_size
    with _files_of_at_most(size - 1), pytest.raises(UserError, match="out: the finished model cannot be written"):
        lab.train("first")
    with at_draw(lambda _: None) as steps:
        lab.train("first")
    assert steps == []
    assert lab.model("first") == whole[1]


def test_a_signal_on_a_full_disk_says_what_is_kept(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fault(step: int) -> None:
        if step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with at_draw(fault), pytest.raises(Stopped):
            lab.train("told")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "ended by SIGTERM; what is kept is of step 4 (File too large)" in capsys.readouterr().err
    assert lab.kept("told")["step"] == 4


def test_a_damaged_state_is_set_aside_and_training_begins_anew(
    lab: Lab, whole: Whole, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.train("damaged", steps=4)
    path = lab.at / "damaged" / "run" / "last.pt"
    path.write_bytes(path.read_bytes()[:-4000])
    assert lab.train("damaged") == whole[0]
    assert "last.pt is damaged and now last.pt.damaged" in capsys.readouterr().err
    assert lab.model("damaged") == whole[1]
    assert Path(f"{path}.damaged").exists()


def test_a_state_that_a_disk_does_not_give_is_not_taken_for_a_damaged_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train("away", steps=4)
    path = lab.at / "away" / "run" / "last.pt"
    for error in (
        OSError(errno.EIO, os.strerror(errno.EIO)),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        with monkeypatch.context() as broken:
            broken.setattr("torch.load", _raising(error))
            with pytest.raises(UserError, match="the state of the training cannot be read"):
                lab.train("away")
    assert path.exists()
    assert lab.kept("away")["step"] == 4


def _raising(error: Exception) -> Callable[..., None]:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails
