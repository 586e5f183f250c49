"""Run: which recordings, how long it will take, and all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neurofm.errors import UserError
from neurofm.operations.challenge.fitting import read_splits
from neurofm.operations.latency.heldout import HeldOut, halved_view, held_out, split_views
from neurofm.operations.latency.measure import (
    WARM_UP,
    Latency,
    Measured,
    about_machine,
    core_seconds,
    devices,
    measure,
    use_threads,
)
from neurofm.operations.latency.precision import PRECISIONS
from neurofm.progress import Progressing
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView

_CORE_WINDOWS = 10


def latency(
    model: Path, *, shards: Sequence[Path], splits: Path, root: Path, fold: int, windows: int, threads: int
) -> Measured:
    """Measure a model.

    Parameters
    ----------
    model
        A checkpoint.
    shards
        Recordings to take windows of; without any, one held-out recording per modality that `splits` has.
    splits, root, fold
        ``data/splits.json``, ``data/shards`` and the model's fold, where `shards` is empty.
    windows
        At most so many per recording.
    threads
        Of torch, on the CPU.

    Raises
    ------
    UserError
        If the model or a shard cannot be read, or there is nothing to measure on.
    """
    if windows < 1:
        raise UserError(f"latency: --windows is {windows}.", mend="give at least 1")
    predictor = Predictor.load(model, strict=False)
    views = [halved_view(shard) for shard in shards] or split_views(
        read_splits(splits), fold=fold, shards=root, modalities=list(predictor.checkpoint.choices.by_modality)
    )
    if not views:
        raise UserError(f"latency: {splits} holds nothing out in fold {fold}.", mend="give a recording with --shard")
    before = use_threads(threads)
    try:
        made = _measured(model, predictor, views, windows=windows, threads=threads)
        return replace(made, held_out=not shards)
    finally:
        torch.set_num_threads(before)


def _measured(
    model: Path, predictor: Predictor, views: Sequence[RecordingView], *, windows: int, threads: int
) -> Measured:
    network = predictor.checkpoint.network
    rows: list[Latency] = []
    core: dict[str, float] = {}
    total = len(views) * (1 + len(devices()) * len(PRECISIONS))
    with Progressing(f"latency of {model}", total=total, unit="steps") as progress:
        for view in views:
            held: HeldOut = held_out(view, predictor, windows=windows)
            context = predictor.prepare(held.view)
            core[held.view.name] = float(1e3 * np.median(core_seconds(held, context, windows=_CORE_WINDOWS)))
            progress.advance()
            for device in devices():
                rows += measure(network, held, device=device, advance=progress.advance)
    return Measured(
        model=str(model),
        windows=windows,
        warm_up=WARM_UP,
        threads=threads,
        torch=str(torch.__version__),
        machine=about_machine(),
        core_p50_ms=core,
        rows=tuple(rows),
    )
