"""Real runs of ds000228 whose motion is known, as shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.params import load_params
from tests.movers import mover, write_movers

PROJECT = Path(__file__).resolve().parents[2]
RUNS = 14
EXCLUDED = "mean FD 1.9 mm is above 0.5 mm"


@pytest.fixture(scope="session")
def settings() -> ConnectivitySettings:
    """The project's, with fewer draws."""
    return load_params(PROJECT).connectivity.model_copy(update={"permutations": 199, "bootstrap_samples": 100})


@pytest.fixture(scope="session")
def entries() -> list[CatalogEntry]:
    """Four datasets: with confounds, without, without any shard, and one that is no fMRI."""
    fmri, eeg = load_entry("gw-rest", root=PROJECT), load_entry("tiny-bids-eeg", root=PROJECT)
    return [*(fmri.model_copy(update={"id": name}) for name in ("moved", "plain", "empty")), eeg]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """``data/shards`` with some runs that cannot be used."""
    folder = tmp_path_factory.mktemp("group") / "shards"
    motions = np.linspace(0.05, 0.3, RUNS)
    moved = {f"sub-{n:02d}": mover(shared_data, n, motion=float(motions[n * 5 % RUNS])) for n in range(RUNS)}
    moved["sub-90"] = mover(shared_data, 90, motion=1.0, excluded=EXCLUDED)
    moved["sub-91"] = mover(shared_data, 91, motion=3.0)
    write_movers(folder / "moved", moved)
    whole = (folder / "moved" / "sub-00.zarr.zip").read_bytes()
    (folder / "moved" / "sub-92.zarr.zip").write_bytes(whole[: len(whole) // 2])
    write_movers(folder / "plain", {f"sub-{n:02d}": mover(shared_data, n, maker=None) for n in range(3)})
    return folder
