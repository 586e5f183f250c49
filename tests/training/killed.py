"""A training that can be killed: ``python -m tests.training.killed FOLDER`` notes what each step has drawn."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from neurofm.training.pretrain import pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.windows import WindowsSettings
from neurofm.windows.schedule import PoolSettings
from neurofm.windows.store import Store
from tests.training import conftest

POOL = PoolSettings(megabytes=0.006, uses=4.0)
"""Half of what there is."""


def train(folder: Path, settings: PretrainSettings, windows: WindowsSettings) -> None:
    """Train in `folder`: state in ``run``, the model in ``out``, a line per step in ``log``."""
    folder.mkdir(exist_ok=True)
    at = Store.at

    def noting(store: Store, step: int) -> Any:
        drawn, z, counts = at(store, step)
        digest = hashlib.sha256(z.numpy().tobytes() + drawn.hidden.tobytes()).hexdigest()[:16]
        with (folder / "log").open("a") as log:
            log.write(f"{step} {drawn.source} {digest}\n")
        return drawn, z, counts

    with patch.object(Store, "at", noting):
        pretrain(
            conftest.two_kinds(),
            settings=settings.model_copy(update={"pool": POOL}),
            windows=windows,
            fold=0,
            run_dir=folder / "run",
            out_dir=folder / "out",
        )


if __name__ == "__main__":
    train(Path(sys.argv[1]), conftest.small_settings(), conftest.short_windows())
