"""Finetune: a trained model learns on from other recordings, with all of its weights or with a few."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.model.core import Moments
from neurofm.model.pooled_lags import PooledLags
from neurofm.model.pretrained import CONFIG, STATISTICS, WEIGHTS
from neurofm.model.whole_channels import Network
from neurofm.training.checkpoint import Checkpoint, digest, read_checkpoint
from neurofm.training.fold import FoldResult, checkpoint_of, learn, learned_from, save_model
from neurofm.training.gates import choose_gates
from neurofm.training.guard import Guard
from neurofm.training.keeping import Keeper
from neurofm.training.kinds import choose_kinds
from neurofm.training.recordings import chosen_of
from neurofm.training.reproducible import reproducible
from neurofm.training.settings import Mode, PretrainSettings
from neurofm.training.stopping import Stopping
from neurofm.training.tuning import CoreChoices, choose_cores
from neurofm.units import code_digest
from neurofm.windows import RecordingView
from neurofm.windows.policy import StoreSite

_LEARNS = {"full": "", "lora": "heads.", "head": "heads.", "unit": "identity.unit."}
"""How the names of the weights begin that learn."""


class LowRank(nn.Module):
    """A matrix, and a product of two narrow ones that is added to it and starts at zero.

    Hu et al. 2022, arXiv:2106.09685.
    """

    def __init__(self, weight: Tensor, *, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.narrow = nn.Parameter(torch.randn(rank, columns).to(weight.device) / math.sqrt(columns))
        self.wide = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """[out, in] -> the same."""
        return weight + self.wide @ self.narrow


def freeze(network: Network, *, mode: Mode, rank: int) -> None:
    """Let only the weights of `mode` learn.

    Parameters
    ----------
    network
        Changed in place.
    mode
        Which weights.
    rank
        Of the low-rank additions.

    Raises
    ------
    UserError
        For another mode, or if the network has no such weights.
    """
    if mode not in get_args(Mode):
        raise UserError(f"finetune: there is no mode {mode!r}.", mend=f"choose one of {', '.join(get_args(Mode))}")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(_LEARNS[mode]))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(
            f"finetune: mode {mode!r} trains {_LEARNS[mode]}*, and this network has no such weights.",
            mend=f"choose another of {', '.join(get_args(Mode))}",
        )
    if mode == "lora":
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.Linear) and not name.startswith("heads."):
                parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank=rank))


def merge(network: Network) -> None:
    """Make low-rank additions part of the matrices that they were added to: an ordinary network is left."""
    for module in list(network.modules()):
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def finetune(
    model: Path,
    views: Sequence[RecordingView],
    *,
    mode: Mode,
    settings: PretrainSettings,
    run_dir: Path,
    out_dir: Path,
    rank: int = 4,
    site: StoreSite | None = None,
    learn_from: frozenset[str] | None = None,
    shards_sha256: Mapping[str, str] | None = None,
) -> FoldResult:
    """Train a checkpoint's network on from other recordings and write what it has become, as a checkpoint.

    Parameters
    ----------
    model
        The checkpoint; it stays as it is. Its sizes and windows hold.
    views
        Recordings to learn from, with train and validation segments, and others that the checkpoint learned from:
        while it learns on, priors are those that the finished model has.
    mode
        Which weights learn.
    settings
        As of pretraining; its `model` is not looked at.
    run_dir, out_dir, site
        As in `pretrain`.
    rank
        Of `lora`.
    learn_from
        Datasets that are learned from and validated on; all of `views` without.
    shards_sha256
        As in `pretrain`.

    Raises
    ------
    UserError, Stopped
        As `pretrain` does; or for a mode that does not exist.
    """
    before = read_checkpoint(model)
    network, chosen = before.network, settings.model_copy(update={"model": before.model})
    views = met(before, views, learn_from=learn_from)
    new, digests = chosen_of(views, learn_from), shards_sha256 or {}
    # A finished run's state stays: whatever its weights depend on must be told, or it would pass for the new ones.
    told = _told(
        [mode, rank, chosen.key(), before.windows.model_dump_json(), sorted(learn_from or ()), torch.__version__],
        [sha256_of(model / name) for name in (WEIGHTS, STATISTICS, CONFIG)],
        [code_digest("neurofm.training.finetune")],
        [f"{v.roles.model_dump_json()} {v.stored.shape} {digests.get(v.name, '')}" for v in views],
    )
    with Stopping() as stopping, reproducible():
        cores = choose_kinds(
            # Of channels met before, what was chosen then holds: nothing else of theirs is asked for here.
            choose_cores(new, settings=chosen, windows=before.windows),
            new,
            settings=chosen,
            windows=before.windows,
            banks=before.choices.banks,
        )
        found, _ = choose_gates(cores.choices, views, settings=chosen, windows=before.windows, learn_from=learn_from)
        choices = _choices(before, found)
        torch.manual_seed(settings.seed)
        freeze(network, mode=mode, rank=rank)
        learned = learn(
            network,
            views,
            choices=choices,
            settings=chosen,
            windows=before.windows,
            keeper=Keeper(run_dir / "last.pt", key=told, who=f"finetune {mode}"),
            stopping=stopping,
            site=site or StoreSite(),
            side_by_side=1,
            price_per_hour=0.0,
            guard=Guard(),
            is_trained=True,
            learn_from=learn_from,
        )
        merge(network)
        after = checkpoint_of(
            network, new, choices=choices, gains=learned.gains, settings=chosen, windows=before.windows
        )
        after = replace(after, shards=learned_from(new, digests))
        save_model(_joined(before, after, new), out_dir)
    return learned.result(0, network)


def met(
    before: Checkpoint, views: Sequence[RecordingView], *, learn_from: frozenset[str] | None
) -> list[RecordingView]:
    """Return the recordings that a model knows of when it has learned on: those of `learn_from`, and in its priors."""
    chosen = {view.name for view in chosen_of(views, learn_from)}
    return [view for view in views if view.name in chosen or digest(view.name) in before.prior_recordings]


def _told(*parts: Sequence[object]) -> str:
    """Digest of everything that a run's state depends on."""
    return hashlib.sha256("\n".join(f"{one}" for part in parts for one in part).encode()).hexdigest()


def _choices(before: Checkpoint, found: CoreChoices) -> CoreChoices:
    """Keep what was chosen in pretraining; of channels never met, take what these recordings show."""
    return CoreChoices(
        by_channel_set={**found.by_channel_set, **before.choices.by_channel_set},
        by_modality={**found.by_modality, **before.choices.by_modality},
        banks={**found.banks, **before.choices.banks},
        gates={**found.gates, **before.choices.gates},
    )


def _joined(before: Checkpoint, after: Checkpoint, views: Sequence[RecordingView]) -> Checkpoint:
    """Put together what was learned before and now: priors add up, and nobody who was seen is forgotten."""
    known = {view.channel_set for view in views if digest(view.name) in before.prior_recordings}
    priors: dict[str, Moments] = dict(before.priors)
    for name, prior in after.priors.items():
        if name not in known:  # Recordings that are in it already would count twice.
            priors[name] = priors[name] + prior if name in priors else prior
    lagged: dict[str, PooledLags] = dict(before.lagged)
    for name, pooled in after.lagged.items():
        # Sums hold all recordings of a channel set that the priors know of, or none.
        if name not in known and (name in lagged or name not in before.priors):
            lagged[name] = PooledLags.total([lagged[name], pooled]) if name in lagged else pooled
    subject_sums = dict(before.subject_sums)
    for name, groups in after.subject_sums.items():
        if name not in known:
            subject_sums[name] = subject_sums.get(name, ()) + groups
    validated = {view.modality for view in views if view.roles.validation}
    return replace(
        after,
        gains={
            **before.gains,
            **{key: gain for key, gain in after.gains.items() if key.partition(" ")[0] in validated},
        },
        priors=priors,
        lagged=lagged,
        subject_sums=subject_sums,
        acquisitions=tuple(sorted({*before.acquisitions, *after.acquisitions}, key=repr)),
        prior_recordings=before.prior_recordings
        | frozenset(digest(view.name) for view in views if view.roles.train and view.channel_set not in known),
        subjects=before.subjects | after.subjects,
        shards=before.shards | after.shards,
        roles=joined_roles(before, after),
    )


def joined_roles(before: Checkpoint, after: Checkpoint) -> dict[str, str]:
    """Keep by which roles a recording was learned from; by several, or by none that is known, is by no split's."""
    if before.subjects and not before.roles:
        return {}
    differs = {name for name, told in after.roles.items() if before.roles.get(name, told) != told}
    return {**before.roles, **after.roles, **dict.fromkeys(differs, "")}
