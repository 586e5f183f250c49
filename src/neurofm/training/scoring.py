"""Validation: fixed windows and masks, the core beside the whole model, and the gain of the residual."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neurofm.model.stationary_core import StationaryCore
from neurofm.model.whole_channels import Network
from neurofm.recording import Modality
from neurofm.training.batches import Batch, loss_of, make_batch, null_loss
from neurofm.training.contexts import Context, make_context
from neurofm.training.hidden_patches import fixed_masks, key_of, make_patch_batch, regions_of
from neurofm.training.memory import fitting
from neurofm.training.recordings import chosen_of
from neurofm.training.settings import CHANNELS, PretrainSettings
from neurofm.training.stationary import StationaryCores, usable_of
from neurofm.training.train_moments import TrainMoments
from neurofm.training.tuning import CoreChoices, Trial, masks_of, prior_of, validation_trials
from neurofm.windows import RecordingView, WindowsSettings


@dataclass(frozen=True, kw_only=True)
class ValidationItem:
    """One recording under one mask."""

    batch: Batch
    truth: Tensor
    """[window, time, hidden] float32, z units."""
    counts: Tensor
    """[window, time] bool, or [window, time, hidden]"""
    null: float
    """Loss of predicting the mean, averaged over all of the recording's channels."""
    kind: str = CHANNELS

    @property
    def key(self) -> str:
        """Modality and kind of mask."""
        return key_of(self.batch.modality, self.kind)


def validation_items(
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
    cores: StationaryCores | None = None,
    learn_from: frozenset[str] | None = None,
) -> list[ValidationItem]:
    """Prepare validation, which is the same at every step: estimates of cores are computed here once.

    Priors come from all `views`; only recordings of the datasets `learn_from` are validated on, where it is given.
    """
    known = TrainMoments()
    cores = cores or StationaryCores(views, settings=settings, windows=windows)
    items = []
    for trial in validation_trials(chosen_of(views, learn_from), settings=settings, windows=windows):
        view = trial.view
        choice = choices.of(view)
        prior = prior_of(
            views,
            channel_set=view.channel_set,
            without=view.subject,
            sds_samples=choice.core.smoothing_samples,
            channels=len(view.channel_ids),
            known=known,
        )
        context = make_context(
            view, calibration=trial.calibration, prior=prior, choice=choice, shared=choices.bank(view)
        )
        null = null_loss(view, trial.z[trial.counts])
        for visible, hidden in masks_of(view, settings=settings):
            batch = make_batch(view, context, values=trial.z[..., visible], visible=visible, hidden=hidden)
            items.append(ValidationItem(batch=batch, truth=trial.z[..., hidden], counts=trial.counts, null=null))
        for kind in settings.masks.patches_of(view.modality):
            patch = windows.of(view.modality).patch_samples
            core = cores.of(view, trial.calibration)
            gate = choices.gate(view, kind)
            items.append(
                _patch_item(trial, context, core, kind=kind, patch=patch, null=null, seed=settings.seed, gate=gate)
            )
    return items


def _patch_item(
    trial: Trial,
    context: Context,
    core: StationaryCore,
    *,
    kind: str,
    patch: int,
    null: float,
    seed: int,
    gate: float,
) -> ValidationItem:
    """Hide patches of all channels."""
    view, usable = trial.view, usable_of(trial.view)
    shown = fixed_masks(
        kind,
        windows=len(trial.z),
        patches=trial.z.shape[1] // patch,
        features=context.identity[usable],
        name=view.name,
        seed=seed,
        region=regions_of(view),
    )
    everyone = torch.arange(len(usable))
    batch, hidden = make_patch_batch(
        view, context, core, z=trial.z, valid=trial.valid, shown=shown, asked=everyone, gate=gate
    )
    return ValidationItem(
        batch=batch, truth=trial.z[..., usable], counts=hidden & trial.counts.unsqueeze(-1), null=null, kind=kind
    )


def residuals(
    network: Network, items: Sequence[ValidationItem], *, each: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Residual of every item, without dropout; `each` is called before each of them."""
    device = next(network.parameters()).device
    made, most = [], max((len(item.batch) for item in items), default=1)
    network.eval()
    with torch.no_grad():
        for item in items:
            each()
            in_parts = partial(_in_parts, network, item.batch.to(device))
            found, most = fitting(in_parts, windows=most, what="pretrain: validation")
            made.append(found)
    network.train()
    return made


def _in_parts(network: Network, batch: Batch, windows: int) -> Tensor:
    """[window, time, hidden] residual, of so many windows at a time."""
    parts = [batch.rows(first, first + windows) for first in range(0, len(batch), windows)]
    return torch.cat([network(part.seen, part.query) for part in parts]).cpu()


def losses(items: Sequence[ValidationItem], corrections: Sequence[Tensor], *, gain: float) -> dict[str, float]:
    """Mean validation loss per modality and kind of mask (`key_of`), relative to predicting the mean.

    Parameters
    ----------
    items
        What is validated on.
    corrections
        Residual per item.
    gain
        What they are multiplied with; 0 gives the core.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for item, residual in zip(items, corrections, strict=True):
        loss = loss_of(item.batch, residual=gain * residual, truth=item.truth, counts=item.counts)
        found[item.key].append(float(loss) / item.null)
    return {key: sum(values) / len(values) for key, values in found.items()}


def choose_gains(
    items: Sequence[ValidationItem],
    corrections: Sequence[Tensor],
    *,
    settings: PretrainSettings,
    modalities: Iterable[Modality],
) -> dict[str, float]:
    """Choose the gain of the residual per modality and kind of mask (`key_of`).

    It is 0 unless validation shows better, and without validation.

    Parameters
    ----------
    items, corrections
        As in `losses`.
    settings
        Choices beside 0, and the kinds of masks that were learned.
    modalities
        That the network has a part for.
    """
    tried = {gain: losses(items, corrections, gain=gain) for gain in sorted({0.0, *settings.residual_gains})}
    validated = tried[0.0]
    keys = [
        key_of(modality, kind) for modality in modalities for kind in (CHANNELS, *settings.masks.patches_of(modality))
    ]
    return {key: min(tried, key=lambda gain: tried[gain][key]) if key in validated else 0.0 for key in keys}


def score_of(items: Sequence[ValidationItem], corrections: Sequence[Tensor], *, gains: Sequence[float]) -> float:
    """Mean over modalities of the loss with the best gain over that of the core: 1 where nothing helps.

    Kinds of masks share the weight of their modality. One whose residual overfits counts as its core, which is what
    it falls back to, and so does not stop the others from learning on. Without validation data it is 1.

    Parameters
    ----------
    items, corrections
        As in `losses`.
    gains
        Choices beside 0.
    """
    tried = [losses(items, corrections, gain=gain) for gain in sorted({0.0, *gains})]
    ratios: defaultdict[Modality, dict[str, float]] = defaultdict(dict)
    for item in items:
        ratios[item.batch.modality][item.key] = min(one[item.key] for one in tried) / tried[0][item.key]
    means = [sum(kinds.values()) / len(kinds) for kinds in ratios.values()]
    return sum(means) / len(means) if means else 1.0
