"""Kinds: whether the linear core predicts a set of channels, a bank, or both, by what predicts validation data best."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from types import MappingProxyType
from typing import Any

import torch

from neurofm.recording import Modality
from neurofm.training.batches import loss_of, make_batch, null_loss
from neurofm.training.contexts import CoreChoice, CoreKind, ModalityBank, make_context
from neurofm.training.mixtures import LearnedBank, learn_banks
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import AS_GOOD, CoreChoices, Trial, judging_trials, masks_of, prior_of
from neurofm.windows import RecordingView, WindowsSettings

KINDS: tuple[CoreKind, ...] = ("linear", "bank", "mixture")
"""From simple to involved."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What validation says of the cores of one set of channels."""

    modality: Modality
    recordings: tuple[str, ...]
    """That were scored."""
    losses: dict[CoreKind, float]
    """Mean over them, relative to predicting the mean."""
    errors: dict[CoreKind, float]
    """Standard error of each one's difference from the lowest, over stretches that judge; 0 where there is one."""

    def best(self) -> CoreKind:
        """Return the simplest that is about as good as the best: within 0.2 %, or within one standard error.

        Breiman, Friedman, Olshen & Stone 1984, Classification and regression trees, section 3.4.3.
        """
        lowest = min(self.losses.values())
        rooms = {kind: max((AS_GOOD - 1) * lowest, self.errors[kind]) for kind in KINDS}
        return next((kind for kind in KINDS if self.losses[kind] <= lowest + rooms[kind]), "linear")


@dataclass(frozen=True, kw_only=True)
class ChosenKinds:
    """Choices, and what speaks for them."""

    choices: CoreChoices
    by_channel_set: dict[str, Judged]
    by_modality: dict[Modality, Judged]
    """For recordings of channels never met in training."""

    def report(self) -> list[dict[str, Any]]:
        """Return both as plain data for ``metrics/``; `channels` is null for channels never met."""
        rows: list[tuple[str | None, Judged]] = [(None, one) for one in self.by_modality.values()]
        rows.extend(self.by_channel_set.items())
        return [
            {
                "modality": str(one.modality),
                "channels": name,
                "recordings": list(one.recordings),
                "core": one.best(),
                "validation_loss": dict(one.losses),
                "standard_error": dict(one.errors),
            }
            for name, one in rows
        ]


def choose_kinds(
    linear: CoreChoices,
    views: Sequence[RecordingView],
    *,
    settings: PretrainSettings,
    windows: WindowsSettings,
    banks: Mapping[Modality, ModalityBank] = MappingProxyType({}),
) -> ChosenKinds:
    """Choose what predicts, for modalities that have a bank.

    The windows, masks and losses are those that the settings of the linear core were chosen by, whose own loss is
    flattered by that a little. A chunk of a train segment is scored by weights that were not learned from it. Something
    more involved must be better by 0.2 % and by a standard error.

    Parameters
    ----------
    linear
        What was chosen for the linear cores.
    views
        All recordings of the fold.
    settings, windows
        Of training.
    banks
        What was learned before, by modality; it is not learned again.
    """
    if not settings.core.skip:
        return ChosenKinds(choices=_without_core(linear), by_channel_set={}, by_modality={})
    if not settings.core.bank:
        return ChosenKinds(choices=linear, by_channel_set={}, by_modality={})
    learned = learn_banks(views, choices=linear, settings=settings, windows=windows, known=banks)
    some = [view for view in views if view.modality in learned]
    by_set: defaultdict[str, list[tuple[Trial, dict[CoreKind, float]]]] = defaultdict(list)
    by_modality: defaultdict[Modality, list[tuple[Trial, dict[CoreKind, float]]]] = defaultdict(list)
    for trial in judging_trials(some, settings=settings, windows=windows):
        view = trial.view
        scored = _score(trial, learned[view.modality], views=some, choice=linear.of(view), settings=settings)
        by_set[view.channel_set].append((trial, scored))
        by_modality[view.modality].append((trial, scored))
    of_set = {name: _judged(found) for name, found in by_set.items()}
    of_modality = {modality: _judged(found) for modality, found in by_modality.items()}
    return ChosenKinds(
        choices=CoreChoices(
            by_channel_set={
                name: replace(choice, kind=of_set[name].best()) if name in of_set else choice
                for name, choice in linear.by_channel_set.items()
            },
            by_modality={
                modality: replace(choice, kind=of_modality[modality].best()) if modality in of_modality else choice
                for modality, choice in linear.by_modality.items()
            },
            banks={modality: one.shared for modality, one in learned.items()},
        ),
        by_channel_set=of_set,
        by_modality=of_modality,
    )


def _without_core(linear: CoreChoices) -> CoreChoices:
    """Keep what the network is told of a core (scales, correlations), and let none predict."""
    return CoreChoices(
        by_channel_set={name: replace(choice, kind="none") for name, choice in linear.by_channel_set.items()},
        by_modality={modality: replace(choice, kind="none") for modality, choice in linear.by_modality.items()},
    )


def _judged(found: Sequence[tuple[Trial, dict[CoreKind, float]]]) -> Judged:
    losses = {kind: sum(scored[kind] for _, scored in found) / len(found) for kind in KINDS}
    lowest = min(KINDS, key=lambda kind: losses[kind])
    errors: dict[CoreKind, float] = dict.fromkeys(KINDS, 0.0)
    if len(found) > 1:
        for kind in KINDS:
            errors[kind] = stdev(scored[kind] - scored[lowest] for _, scored in found) / math.sqrt(len(found))
    return Judged(
        modality=found[0][0].view.modality,
        recordings=tuple(sorted({trial.view.name for trial, _ in found})),
        losses=losses,
        errors=errors,
    )


def _score(
    trial: Trial,
    learned: LearnedBank,
    *,
    views: Sequence[RecordingView],
    choice: CoreChoice,
    settings: PretrainSettings,
) -> dict[CoreKind, float]:
    """Loss of each kind on one recording, over that of predicting the mean."""
    view = trial.view
    prior = prior_of(
        views,
        channel_set=view.channel_set,
        without=view.subject,
        sds_samples=choice.core.smoothing_samples,
        channels=len(view.channel_ids),
    )
    null = null_loss(view, trial.z[trial.counts])
    masks = masks_of(view, settings=settings)
    found: dict[CoreKind, float] = {}
    for kind in KINDS:
        context = make_context(
            view,
            calibration=trial.calibration,
            prior=prior,
            choice=replace(choice, kind=kind),
            shared=learned.judging(trial.episode),
        )
        total = 0.0
        for visible, hidden in masks:
            batch = make_batch(view, context, values=trial.z[..., visible], visible=visible, hidden=hidden)
            truth = trial.z[..., hidden]
            loss = loss_of(batch, residual=torch.zeros_like(truth), truth=truth, counts=trial.counts)
            # Each channel weighs the same, however the groups were cut.
            total += float(loss) * len(hidden)
        found[kind] = total / sum(len(hidden) for _, hidden in masks) / null
    return found
