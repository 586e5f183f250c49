"""`kill -9` at any step: the run that goes on sees the same samples and ends with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from neurofm.training.settings import PretrainSettings
from neurofm.windows import WindowsSettings
from tests.training.killed import train

PROJECT = Path(__file__).resolve().parents[2]
KILLED_AFTER = (2, 6, 9)
"""Steps: before the first state is kept, and twice between two that are (every fourth)."""


def _lines(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def _kill_after(step: int, folder: Path) -> None:
    path = f"{PROJECT}{os.pathsep}{PROJECT / 'src'}"
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.training.killed", str(folder)], env=os.environ | {"PYTHONPATH": path}, cwd=PROJECT
    )
    until = time.monotonic() + 120
    while not any(line.startswith(f"{step} ") for line in _lines(folder)):
        assert run.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL


def test_a_killed_run_sees_the_same_samples_and_ends_with_the_same_bits(
    settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path
) -> None:
    train(tmp_path / "whole", settings, windows)
    whole = _lines(tmp_path / "whole")
    assert [int(line.split()[0]) for line in whole] == list(range(settings.steps))
    for step in KILLED_AFTER:
        _kill_after(step, tmp_path / "killed")
    train(tmp_path / "killed", settings, windows)
    lines = _lines(tmp_path / "killed")
    assert len(lines) > len(whole)
    assert set(lines) == set(whole)
    weights = [
        torch.load(tmp_path / name / "run" / "last.pt", weights_only=True)["weights"] for name in ("killed", "whole")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name in ("config.json", "model.safetensors", "statistics.safetensors"):
        assert (tmp_path / "killed" / "out" / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes()
