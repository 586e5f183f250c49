"""Faults: what a training meets on real machines, put where a test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from neurofm.model.neurofm import NeuroFM
from neurofm.training.pretrain import FoldResult, pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.store import Store


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Trains one fold into folders of its own."""

    views: list[RecordingView]
    settings: PretrainSettings
    windows: WindowsSettings
    at: Path

    def train(self, name: str, *, price_per_hour: float = 0.0, **changed: Any) -> FoldResult:
        """Train with changed settings: state in ``<name>/run``, the model in ``<name>/out``."""
        return pretrain(
            self.views,
            settings=self.settings.model_copy(update=changed),
            windows=self.windows,
            fold=0,
            run_dir=self.at / name / "run",
            out_dir=self.at / name / "out",
            price_per_hour=price_per_hour,
        )

    def model(self, name: str) -> dict[str, bytes]:
        """Return the files of a model."""
        return {path.name: path.read_bytes() for path in sorted((self.at / name / "out").iterdir())}

    def kept(self, name: str, *, file: str = "last.pt") -> dict[str, Any]:
        """Return a kept state."""
        state: dict[str, Any] = torch.load(self.at / name / "run" / file, weights_only=True)
        return state


@contextmanager
def at_draw(fault: Callable[[int], float | None]) -> Iterator[list[int]]:
    """Call `fault` with each step before it draws, and add what it returns to all samples; gives the steps drawn."""
    at, steps = Store.at, list[int]()

    def drawing(store: Store, step: int) -> Any:
        steps.append(step)
        added = fault(step)
        drawn, z, counts = at(store, step)
        return drawn, z if added is None else z + added, counts

    with patch.object(Store, "at", drawing):
        yield steps


@contextmanager
def memory_for(windows: int) -> Iterator[list[int]]:
    """Let the network have memory for so many windows; gives how many it was asked for each time."""
    forward, asked = NeuroFM.forward, list[int]()

    def hungry(network: NeuroFM, seen: Any, query: Any) -> Any:
        asked.append(len(seen.values))
        if len(seen.values) > windows:
            torch.empty(1 << 60)  # What torch itself says where there is no memory.
        return forward(network, seen, query)

    with patch.object(NeuroFM, "forward", hungry):
        yield asked
