"""Pretraining: one model per fold, several at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.splits import Splits
from neurofm.training.fold import FoldResult, pretrain
from neurofm.training.guard import Guard
from neurofm.training.settings import PretrainSettings
from neurofm.training.site import TrainingSite
from neurofm.training.watchdog import train_folds
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
    training: TrainingSite | None = None,
    price_per_hour: float = 0.0,
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
    training
        How a watchdog watches over it, and in how many processes each fold trains; None lets nobody watch.
    price_per_hour
        Of the machine.

    Returns
    -------
    Plain data for ``metrics/pretrain.json``.

    Raises
    ------
    UserError
        As `pretrain` does; after too many hung steps; or if processes cannot share the slices out evenly.
    Stopped
        After SIGTERM or SIGUSR1; what was learned is kept.
    """
    training_site = training or TrainingSite(step_limit_s=None)
    refuse_uneven(settings, training_site)
    digests = shard_digests(splits, shards=shards)
    one = partial(
        _pretrain_fold,
        splits=splits,
        shards=shards,
        settings=settings,
        windows=windows,
        run=runs / _run_digest(splits, digests=digests, settings=settings, windows=windows),
        out=out,
        site=site,
        side_by_side=min(max(1, workers // training_site.processes), len(splits.folds)),
        price_per_hour=price_per_hour * training_site.nodes,
        shards_sha256=digests,
        training=training_site,
    )
    folds = range(len(splits.folds))
    if training is None and (workers == 1 or len(folds) == 1):
        results = [one(fold) for fold in folds]
    else:
        results = train_folds(one, folds, workers=workers, site=training_site)
    return {"folds": [{key: value for key, value in vars(result).items() if value is not None} for result in results]}


def refuse_uneven(settings: PretrainSettings, site: TrainingSite) -> None:
    """Refuse more processes than there are slices, or some that would get more of them than others.

    Raises
    ------
    UserError
        If so.
    """
    if settings.slices % site.count:
        raise UserError(
            f"pretrain: {site.count} processes (`training` in site.yaml) cannot share `pretrain.slices` "
            f"{settings.slices} of params.yaml out evenly.",
            mend=f"set `pretrain.slices` to a multiple of {site.count}; any of its divisors gives the same bits then",
        )
    fewest = len(range(0, settings.batch_windows, -(-settings.batch_windows // settings.masks.windows)))
    if site.strategy == "fsdp" and site.count > 1 and fewest < settings.slices:
        raise UserError(
            f"pretrain: {fewest} windows of a step that hides patches (`pretrain.masks.windows`) cannot be cut into "
            f"{settings.slices} slices (`pretrain.slices`).",
            mend=f"set `pretrain.slices` to at most {fewest}, or `pretrain.masks.windows` to more",
        )


def shard_digests(splits: Splits, *, shards: Path) -> dict[str, str]:
    """SHA-256 of every shard that takes part, by ``<dataset>/<recording>``."""
    taking_part = {(one.dataset, one.recording) for fold in splits.folds for one in fold.recordings}
    return {
        f"{dataset}/{recording}": sha256_of(shards / dataset / f"{recording}.zarr.zip")
        for dataset, recording in sorted(taking_part)
    }


def _run_digest(
    splits: Splits, *, digests: Mapping[str, str], settings: PretrainSettings, windows: WindowsSettings
) -> str:
    """Digest of everything that a run's state depends on."""
    digested = hashlib.sha256()
    code = code_digest("neurofm.training.pretrain")
    for text in (splits.model_dump_json(), settings.key(), windows.model_dump_json(), torch.__version__, code):
        digested.update(f"{text}\n".encode())
    for sha256 in digests.values():
        digested.update(sha256.encode())
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
    price_per_hour: float,
    shards_sha256: Mapping[str, str],
    training: TrainingSite,
    guard: Guard | None = None,
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
        price_per_hour=price_per_hour,
        guard=guard,
        shards_sha256=shards_sha256,
        training=training,
    )
