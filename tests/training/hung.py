"""A fold whose training hangs, stops or is killed, each once; for processes that a watchdog starts."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.training.guard import Guard
from neurofm.training.stopping import Stopped, Stopping


def _hang() -> None:
    """In native code, as a driver does; other threads go on."""
    ctypes.CDLL(None).sleep(600)


def _tell_parent(signum: int) -> None:
    """And this process too, as a terminal and Slurm do."""
    os.kill(os.getppid(), signum)
    os.kill(os.getpid(), signum)
    time.sleep(60)


def _fail() -> None:
    raise ZeroDivisionError("a bug")


def _refuse() -> None:
    raise UserError("the user's mistake.", mend="mend it")


_FAULTS: dict[str, Callable[[], None]] = {
    "hangs": _hang,
    "stops": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "told": lambda: os.kill(os.getpid(), signal.SIGUSR1),
    "parent told": partial(_tell_parent, signal.SIGTERM),
    "all interrupted": partial(_tell_parent, signal.SIGINT),
    "fails": _fail,
    "refuses": _refuse,
}


def _meet(step: int, *, folder: Path, faults: Mapping[int, str]) -> None:
    """Let what is to happen at a step happen, once; ``log`` has a line per step and process."""
    with (folder / "log").open("a") as log:
        log.write(f"{step} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
    if step in faults and not (folder / f"{step}").exists():
        (folder / f"{step}").touch()
        _FAULTS[faults[step]]()


def count(fold: int, *, guard: Guard, folder: Path, faults: Mapping[int, str]) -> Any:
    """Count to ten, and go on from where the file says; no library is needed, so that it starts at once."""
    kept, step = folder / "kept", 0
    step = int(kept.read_text()) if kept.exists() else 0

    def keep() -> bool:
        kept.write_text(str(step))
        return True

    guard.can_keep(keep)
    with Stopping() as stopping:
        try:
            while step < 10:
                guard.beat(step, f"step {step}")
                _meet(step, folder=folder, faults=faults)
                time.sleep(0.02)
                with stopping.held():
                    step += 1
        except Stopped as stopped:
            keep()
            sys.stderr.write(f"ended by {stopped.name}\n")
            raise
    return "ten"


def train(fold: int, *, guard: Guard, folder: Path, faults: Mapping[int, str]) -> Any:
    """Train for real."""
    from neurofm.training.pretrain import pretrain  # noqa: PLC0415
    from tests.training import conftest  # noqa: PLC0415
    from tests.training.faults import at_draw  # noqa: PLC0415

    lab = conftest.small_lab(folder)
    with at_draw(lambda step: _meet(step, folder=folder, faults=faults)):
        return pretrain(
            lab.views,
            settings=lab.settings,
            windows=lab.windows,
            fold=fold,
            run_dir=folder / "told" / "run",
            out_dir=folder / "told" / "out",
            guard=guard,
        )
