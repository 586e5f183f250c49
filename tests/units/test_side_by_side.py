"""Things side by side come back in order, and one that fails or dies is told."""

from __future__ import annotations

import os
import signal
import time
from importlib import import_module

import pytest

from neurofm.errors import UserError
from neurofm.units import side_by_side


def work(thing: int) -> tuple[int, int]:
    if thing == 7:
        raise UserError("seven.", mend="eight")
    if thing == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2 / (1 + thing))  # The first takes longest.
    return thing, os.getpid()


def test_they_come_back_in_order_from_other_processes() -> None:
    found = list(side_by_side(work, [0, 1, 2, 3], workers=2))
    assert [thing for thing, _ in found] == [0, 1, 2, 3]
    assert len({process for _, process in found} - {os.getpid()}) == 2


def test_one_worker_is_this_process() -> None:
    assert list(side_by_side(work, [4, 5], workers=1)) == [(4, os.getpid()), (5, os.getpid())]


def test_a_users_mistake_comes_through_as_it_was_raised() -> None:
    with pytest.raises(UserError, match="seven") as caught:
        list(side_by_side(work, [1, 7, 2], workers=2))
    assert caught.value.mend == "eight"


def test_a_process_that_is_killed_is_told_with_the_mend() -> None:
    with pytest.raises(UserError, match=r"killed .* Mend: set `workers`"):
        list(side_by_side(work, [1, 9, 2], workers=2))


@pytest.mark.parametrize(("each_mb", "others"), [(0.4, 2), (0.6, 0), (5.0, 0)], ids=["both fit", "one fits", "none"])
def test_no_more_than_the_memory_holds(monkeypatch: pytest.MonkeyPatch, each_mb: float, others: int) -> None:
    monkeypatch.setattr(import_module("neurofm.units.side_by_side"), "free_memory_mb", lambda: 1.0)
    found = list(side_by_side(work, [0, 1, 2, 3], workers=2, each_mb=each_mb))
    assert [thing for thing, _ in found] == [0, 1, 2, 3]
    assert len({process for _, process in found} - {os.getpid()}) == others
