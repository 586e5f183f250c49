"""Pretraining: one model per fold, several at a time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from neurofm.files import sha256_of
from neurofm.splits import Splits
from neurofm.training.fold import FoldResult, pretrain
from neurofm.training.settings import PretrainSettings
from neurofm.units import code_digest
from neurofm.windows import WindowsSettings, load_views
from neurofm.windows.policy import StoreSite

__all__ = ["FoldResult", "pretrain", "pretrain_all_folds"]


def pretrain_all_folds(
    splits: Splits,
    *,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    runs: Path,
    out: Path,
    workers: int,
    site: StoreSite | None = None,
) -> dict[str, Any]:
    """Train every fold's model, `workers` at a time; the results do not depend on how many.

    Parameters
    ----------
    splits
        Folds and roles.
    shards
        ``data/shards``.
    settings, windows
        Of params.yaml.
    runs
        ``.neurofm/runs``: a folder named by the digest of settings, splits and shards keeps the runs' states.
    out
        Each fold's model is written to ``fold-<n>`` in it.
    workers
        Processes.
    site
        Where decoded samples lie meanwhile.

    Returns
    -------
    Plain data for ``metrics/pretrain.json``.
    """
    one = partial(
        _pretrain_fold,
        splits=splits,
        shards=shards,
        settings=settings,
        windows=windows,
        run=runs / _run_digest(splits, shards=shards, settings=settings, windows=windows),
        out=out,
        site=site,
        side_by_side=min(workers, len(splits.folds)),
    )
    folds = range(len(splits.folds))
    if workers == 1 or len(folds) == 1:
        results = [one(fold) for fold in folds]
    else:
        with ProcessPoolExecutor(max_workers=min(workers, len(folds)), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(one, folds))
    return {"folds": [{key: value for key, value in vars(result).items() if value is not None} for result in results]}


def _run_digest(splits: Splits, *, shards: Path, settings: PretrainSettings, windows: WindowsSettings) -> str:
    """Digest of everything that a run's state depends on."""
    digested = hashlib.sha256()
    code = code_digest("neurofm.training.pretrain")
    for text in (splits.model_dump_json(), settings.key(), windows.model_dump_json(), torch.__version__, code):
        digested.update(f"{text}\n".encode())
    for dataset, recording in sorted(
        {(one.dataset, one.recording) for fold in splits.folds for one in fold.recordings}
    ):
        digested.update(sha256_of(shards / dataset / f"{recording}.zarr.zip").encode())
    return digested.hexdigest()[:16]


def _pretrain_fold(
    fold: int,
    *,
    splits: Splits,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    run: Path,
    out: Path,
    site: StoreSite | None,
    side_by_side: int,
) -> FoldResult:
    return pretrain(
        load_views(splits, fold=fold, shards=shards, decoded=False),
        settings=settings,
        windows=windows,
        fold=fold,
        run_dir=run / f"fold-{fold}",
        out_dir=out / f"fold-{fold}",
        site=site,
        side_by_side=side_by_side,
    )
