"""Validation: fixed windows and masks, the core beside the whole model, and the gain of the residual."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neurofm.model.whole_channels import Network
from neurofm.recording import Modality
from neurofm.training.batches import Batch, loss_of, make_batch, null_loss
from neurofm.training.contexts import make_context
from neurofm.training.memory import fitting
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import CoreChoices, masks_of, prior_of, validation_trials
from neurofm.windows import RecordingView, WindowsSettings


@dataclass(frozen=True, kw_only=True)
class ValidationItem:
    """One recording under one mask."""

    batch: Batch
    truth: Tensor
    """[window, time, hidden] float32, z units."""
    counts: Tensor
    """[window, time] bool"""
    null: float
    """Loss of predicting the mean, averaged over all of the recording's channels."""


def validation_items(
    views: Sequence[RecordingView], *, choices: CoreChoices, settings: PretrainSettings, windows: WindowsSettings
) -> list[ValidationItem]:
    """Prepare validation, which is the same at every step."""
    items = []
    for trial in validation_trials(views, settings=settings, windows=windows):
        view = trial.view
        choice = choices.of(view)
        prior = prior_of(
            views,
            channel_set=view.channel_set,
            without=view.name,
            sds_samples=choice.core.smoothing_samples,
            channels=len(view.channel_ids),
        )
        context = make_context(
            view, calibration=trial.calibration, prior=prior, choice=choice, shared=choices.bank(view)
        )
        null = null_loss(view, trial.z[trial.counts])
        for visible, hidden in masks_of(view, settings=settings):
            batch = make_batch(view, context, values=trial.z[..., visible], visible=visible, hidden=hidden)
            items.append(ValidationItem(batch=batch, truth=trial.z[..., hidden], counts=trial.counts, null=null))
    return items


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


def losses(items: Sequence[ValidationItem], corrections: Sequence[Tensor], *, gain: float) -> dict[Modality, float]:
    """Mean validation loss per modality, relative to predicting the mean.

    Parameters
    ----------
    items
        What is validated on.
    corrections
        Residual per item.
    gain
        What they are multiplied with; 0 gives the core.
    """
    found: defaultdict[Modality, list[float]] = defaultdict(list)
    for item, residual in zip(items, corrections, strict=True):
        loss = loss_of(item.batch, residual=gain * residual, truth=item.truth, counts=item.counts)
        found[item.batch.modality].append(float(loss) / item.null)
    return {modality: sum(values) / len(values) for modality, values in found.items()}


def choose_gains(
    items: Sequence[ValidationItem], corrections: Sequence[Tensor], *, gains: Sequence[float]
) -> dict[Modality, float]:
    """Choose the gain of the residual per modality; 0 unless validation shows better, and without validation.

    Parameters
    ----------
    items, corrections
        As in `losses`.
    gains
        Choices beside 0.
    """
    tried = {gain: losses(items, corrections, gain=gain) for gain in sorted({0.0, *gains})}
    validated = tried[0.0]
    return {
        modality: min(tried, key=lambda gain: tried[gain][modality]) if modality in validated else 0.0
        for modality in Modality
    }


def score_of(items: Sequence[ValidationItem], corrections: Sequence[Tensor], *, gains: Sequence[float]) -> float:
    """Mean over modalities of the loss with the best gain over that of the core: 1 where nothing helps.

    A modality whose residual overfits counts as its core, which is what it falls back to, and so does not stop the
    others from learning on. Without validation data it is 1.

    Parameters
    ----------
    items, corrections, gains
        As in `choose_gains`.
    """
    core = losses(items, corrections, gain=0.0)
    chosen = choose_gains(items, corrections, gains=gains)
    ratios = [losses(items, corrections, gain=chosen[modality])[modality] / core[modality] for modality in core]
    return sum(ratios) / len(ratios) if ratios else 1.0
