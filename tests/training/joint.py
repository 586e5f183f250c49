"""A fold on real fMRI that several processes train; for processes that a watchdog starts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from neurofm.recording import Modality
from neurofm.training.guard import Guard
from neurofm.training.pretrain import FoldResult, pretrain
from neurofm.training.site import TrainingSite
from neurofm.windows import RecordingView
from tests.training import conftest
from tests.training.faults import Lab, at_draw

_ROLES = ("train", "train", "train", "validation")


def real_views(shared_data: Path) -> list[RecordingView]:
    """Parcels of children and adults who watched a film (ds000228)."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    return [
        conftest.view_of(
            np.load(file).astype(np.float64),
            modality=Modality.FMRI,
            name=file.name.partition("_")[0],
            channel_set="fmri-basc064",
            kind="subject",
            calibration=[(0, 168)] if role == "train" else [(0, 48)],
            **({"train": [(0, 168)]} if role == "train" else {role: [(48, 168)]}),
        )
        for file, role in zip(files, _ROLES, strict=False)
    ]


def real_lab(at: Path, shared_data: Path, **changed: object) -> Lab:
    """Train on them and on simulated spikes, so that parts of the network have no use in every other step."""
    lab = conftest.small_lab(at)
    settings = lab.settings.model_copy(update={"steps": 8, "slices": 2} | changed)
    return Lab(views=[lab.views[0], *real_views(shared_data)], settings=settings, windows=lab.windows, at=at)


def train(
    fold: int,
    *,
    guard: Guard,
    at: Path,
    shared_data: Path,
    site: TrainingSite,
    slices: int = 2,
    killed: int = -1,
    slow_s: float = 0.0,
) -> FoldResult:
    """Train as one of several, of which the second is killed at a step, once."""
    lab = real_lab(at, shared_data, slices=slices)
    rank = os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK"))

    def meet(step: int) -> None:
        time.sleep(slow_s)
        with (at / f"log-{rank}").open("a") as log:
            log.write(f"{step}\n")
        if rank == "1" and step == killed and not (at / "killed").exists():
            (at / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with at_draw(meet):
        return pretrain(
            lab.views,
            settings=lab.settings,
            windows=lab.windows,
            fold=fold,
            run_dir=at / "joint" / "run",
            out_dir=at / "joint" / "out",
            guard=guard,
            training=site,
        )
