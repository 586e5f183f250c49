"""Finetuned: the models of some folds, learned on from some datasets, with what validation says before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.splits import Splits
from neurofm.training.checkpoint import Checkpoint, read_checkpoint
from neurofm.training.finetune import finetune, met
from neurofm.training.pretrain import shard_digests
from neurofm.training.recordings import chosen_of
from neurofm.training.scoring import ValidationItem, losses, residuals, validation_items
from neurofm.training.settings import FinetuneSettings, PretrainSettings
from neurofm.windows import load_views
from neurofm.windows.policy import StoreSite

BEFORE, AFTER = "before", "after"


def finetune_folds(
    splits: Splits,
    chosen: FinetuneSettings,
    *,
    shards: Path,
    settings: PretrainSettings,
    models: Path,
    runs: Path,
    out: Path,
    site: StoreSite | None = None,
) -> dict[str, Any]:
    """Let the model of each chosen fold learn on from what the fold may learn from of the chosen datasets.

    Parameters
    ----------
    splits
        Folds and roles; test segments are not read.
    chosen
        Which folds and datasets, and how.
    shards
        ``data/shards``.
    settings
        Of `pretrain`: what `chosen` does not say.
    models
        Folder with ``fold-<n>`` per fold.
    runs
        The runs' states are kept in ``fold-<n>`` of it; a run that was ended goes on.
    out
        Each fold's model is written to ``fold-<n>`` in it.
    site
        Where decoded samples lie meanwhile.

    Returns
    -------
    Plain data for ``metrics/finetune/<key>.json``: per fold what `finetune` says of it, and under ``validation``
    the loss per modality ``before`` and ``after``, relative to predicting the mean.

    Raises
    ------
    UserError
        If a fold may learn nothing from these datasets, and as `finetune` does.
    Stopped
        After SIGTERM or SIGUSR1; what was learned is kept.
    """
    learning = settings.model_copy(update={"steps": chosen.steps, "learning_rate": chosen.learning_rate})
    learn_from, digests = frozenset(chosen.datasets), shard_digests(splits, shards=shards)
    folds = []
    for fold in chosen.folds:
        # All of the fold: the model predicts with what is expected from all that it has met.
        views = load_views(splits, fold=fold, shards=shards, decoded=False)
        if not any(view.roles.train for view in chosen_of(views, learn_from)):
            raise UserError(
                f"finetune: in fold {fold} nothing may be learned from {', '.join(chosen.datasets)}.",
                mend="choose other datasets or folds",
            )
        result = finetune(
            models / f"fold-{fold}",
            views,
            mode=chosen.mode,
            settings=learning,
            run_dir=runs / f"fold-{fold}",
            out_dir=out / f"fold-{fold}",
            rank=chosen.rank,
            site=site,
            learn_from=learn_from,
            shards_sha256=digests,
        )
        before, after = (read_checkpoint(folder / f"fold-{fold}") for folder in (models, out))
        # After's cores are before's, and those of channels that before had not met.
        items = validation_items(
            met(before, views, learn_from=learn_from),
            choices=after.choices,
            settings=learning,
            windows=after.windows,
            learn_from=learn_from,
        )
        told = {key: value for key, value in vars(result).items() if value is not None}
        validation = {BEFORE: _validated(before, items), AFTER: _validated(after, items)}
        folds.append({**told, "fold": fold, "validation": validation})
    return {"mode": chosen.mode, "datasets": list(chosen.datasets), "folds": folds}


def _validated(model: Checkpoint, items: Sequence[ValidationItem]) -> dict[str, float]:
    """Return the validation loss per modality with the gains of a checkpoint."""
    found = residuals(model.network, items)
    corrections = [model.gains.get(item.key, 0.0) * one for item, one in zip(items, found, strict=True)]
    return {str(modality): loss for modality, loss in sorted(losses(items, corrections, gain=1.0).items())}
