"""Gates: how much of a stationary core's estimate is kept, per kind of mask, by what predicts validation data best.

A core that knows few recordings expects rhythms that others do not have, and its stretches of time are then worse than
the mean. What it estimates of hidden patches is multiplied by a gain; 0 is the mean itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from neurofm.model.links import predict, target
from neurofm.model.losses import LOSSES
from neurofm.model.stationary_core import StationaryCore
from neurofm.recording import Modality
from neurofm.training.contexts import identity_of, scale_of
from neurofm.training.hidden_patches import fixed_masks, key_of, regions_of
from neurofm.training.recordings import chosen_of
from neurofm.training.settings import MaskKind, PretrainSettings
from neurofm.training.stationary import StationaryCores, usable_of
from neurofm.training.tuning import AS_GOOD, CoreChoices, Trial, judging_trials, train_trials
from neurofm.windows import RecordingView, WindowsSettings, fit_normaliser

GAINS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""From the core as it is to the mean."""
_FEWEST_SUBJECTS = 8
"""With fewer to validate on, those that are learned from judge too, each by a core of the others."""
_MOST_RECORDINGS = 24
"""So many of a set of channels judge, spread evenly, to bound time."""
_FEWEST_WINDOWS = 12
"""Of a recording: fewer are judged under several masks each, since a block hides one patch in a window."""
_MOST_WINDOWS = 16
"""Of a stretch, spread evenly, to bound time."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What validation says of a core under one kind of mask."""

    modality: Modality
    kind: str
    """Of mask."""
    channels: str | None
    """Set of channels; None for channels never met, whose core knows no other recording."""
    recordings: tuple[str, ...]
    """That judged."""
    losses: dict[float, float]
    """By gain: mean over recordings, relative to predicting the mean."""
    errors: dict[float, float]
    """Standard error of each one's difference from the lowest, over recordings, or over the stretches of the only
    one; 0 where there is one."""

    @property
    def key(self) -> str:
        """As `CoreChoices.gates` names it."""
        return key_of(self.channels or self.modality, self.kind)

    def gain(self) -> float:
        """Return the largest that is about as good as the best, and no worse than the mean.

        About as good is within 0.2 %, or within one standard error (Breiman, Friedman, Olshen & Stone 1984,
        Classification and regression trees, section 3.4.3).
        """
        lowest = min(self.losses.values())
        rooms = {gain: max((AS_GOOD - 1) * lowest, self.errors[gain]) for gain in GAINS}
        fit = (gain for gain in GAINS if self.losses[gain] <= min(lowest + rooms[gain], self.losses[0.0]))
        return next(fit, 0.0)

    def row(self) -> dict[str, Any]:
        """Return it as plain data for ``metrics/``."""
        return {
            "modality": str(self.modality),
            "channels": self.channels,
            "mask": self.kind,
            "gain": self.gain(),
            "recordings": list(self.recordings),
            "validation_loss": {str(gain): loss for gain, loss in self.losses.items()},
            "standard_error": {str(gain): error for gain, error in self.errors.items()},
        }


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """One stretch of a recording that judged."""

    view: RecordingView
    losses: dict[float, float]


def choose_gates(
    choices: CoreChoices,
    views: Sequence[RecordingView],
    *,
    settings: PretrainSettings,
    windows: WindowsSettings,
    learn_from: frozenset[str] | None = None,
) -> tuple[CoreChoices, list[Gate]]:
    """Choose how much of the stationary cores' estimates is kept, per set of channels and kind of mask.

    Judged are validation segments, and train segments in turn where those judge poorly: of recordings split in time,
    and of subjects where there are fewer than eight to validate on. No core knows the subject that it is judged on, nor
    the samples.

    Parameters
    ----------
    choices
        What was chosen so far.
    views
        All recordings of the fold.
    settings, windows
        Of training.
    learn_from
        Datasets that judge; all without.

    Returns
    -------
    The choices with their gates, and what speaks for them.
    """
    cores = StationaryCores(views, settings=settings, windows=windows)
    by_key: defaultdict[tuple[Modality, str | None, MaskKind], list[_Scored]] = defaultdict(list)
    settings = settings.model_copy(update={"validation_windows": min(settings.validation_windows, _MOST_WINDOWS)})
    trials = _trials(chosen_of(views, learn_from), settings=settings, windows=windows)
    there: Counter[str] = Counter()
    for trial in trials:
        there[trial.view.name] += len(trial.z)
    for trial in trials:
        view = trial.view
        draws = -(-_FEWEST_WINDOWS // there[view.name])
        known = cores.of(view, trial.calibration)
        alone = cores.alone(view, trial.calibration)
        for kind in settings.masks.patches_of(view.modality):
            judge = partial(_score, trial, kind=kind, draws=draws, settings=settings, windows=windows)
            losses = judge(known)
            if losses:
                met = _Scored(view=view, losses=losses)
                by_key[view.modality, view.channel_set, kind].append(met)
                never_met = met if alone is known else _Scored(view=view, losses=judge(alone))
                by_key[view.modality, None, kind].append(never_met)
    gates = [
        _judged(found, modality=modality, channels=channels, kind=kind)
        for (modality, channels, kind), found in by_key.items()
    ]
    return replace(choices, gates={gate.key: gate.gain() for gate in gates}), gates


def _trials(views: Sequence[RecordingView], *, settings: PretrainSettings, windows: WindowsSettings) -> list[Trial]:
    """Cut what judges, of up to 24 recordings of each set of channels."""
    hidden = [view for view in views if settings.masks.patches_of(view.modality)]
    by_set: defaultdict[str, list[RecordingView]] = defaultdict(list)
    for view in hidden:
        by_set[view.channel_set].append(view)
    trials = []
    for _, some in sorted(by_set.items()):
        judges = [view for view in some if view.roles.validation]
        subjects = {view.subject for view in judges}
        made = judging_trials(_spread(judges, _MOST_RECORDINGS), settings=settings, windows=windows)
        others = [view for view in some if view.roles.train and not view.roles.validation]
        for view in _spread(others, _FEWEST_SUBJECTS - len(subjects)):
            made.extend(_as_if_held_out(view, settings=settings, windows=windows))
        trials.extend(made)
    return trials


def _as_if_held_out(view: RecordingView, *, settings: PretrainSettings, windows: WindowsSettings) -> Iterator[Trial]:
    """Cut the train segments of a subject, whose mean and SD are those of its calibration, as of one never met.

    Training takes them from all of the recording, which leaves no drift, and the mean is too hard to beat.
    """
    for known in train_trials(view, settings=settings, windows=windows):
        parts = [view.values(s.start, s.stop)[view.valid[s.start : s.stop]] for s in known.calibration]
        unmet = replace(view, normaliser=fit_normaliser(parts, usable=view.usable))
        yield from (
            trial
            for trial in train_trials(unmet, settings=settings, windows=windows)
            if trial.calibration == known.calibration
        )


def _spread(views: Sequence[RecordingView], most: int) -> list[RecordingView]:
    """Return at most so many, spread evenly."""
    count = min(most, len(views))
    return [views[index] for index in np.linspace(0, len(views) - 1, count).round().astype(int)] if count > 0 else []


def _score(
    trial: Trial, core: StationaryCore, *, kind: str, draws: int, settings: PretrainSettings, windows: WindowsSettings
) -> dict[float, float]:
    """Loss of each gain on one stretch, over that of predicting the mean; nothing where the mean is never wrong."""
    view, usable = trial.view, usable_of(trial.view)
    patch = windows.of(view.modality).patch_samples
    count, length = trial.z.shape[:2]
    features = identity_of(view, trial.calibration)[usable]
    region = regions_of(view)
    scale = scale_of(view, rate_floor=1.0).of(usable)
    loss = LOSSES[view.modality]
    masks = [
        fixed_masks(
            kind,
            windows=count,
            patches=length // patch,
            features=features,
            name=f"{view.name} gate {trial.episode} {draw}",
            seed=settings.seed,
            region=region,
        )
        for draw in range(draws)
    ]
    # All draws at once: the core goes through its spectra at every step, however many windows there are.
    visible = torch.cat(masks).repeat_interleave(patch, dim=1)
    true = trial.z[..., usable].repeat(draws, 1, 1)
    filled = core.fill(torch.where(visible, true, 0.0), visible & trial.valid.repeat(draws, 1).unsqueeze(-1)).double()
    counts = ~visible & trial.counts.repeat(draws, 1).unsqueeze(-1)
    wanted = target(view.modality, true.double(), scale=scale)
    totals = {}
    for gain in GAINS:
        linear = gain * filled
        predicted = predict(view.modality, linear=linear, residual=torch.zeros_like(linear), scale=scale)
        totals[gain] = float(loss(predicted, wanted)[counts].sum())
    null = totals[0.0]
    return {gain: total / null for gain, total in totals.items()} if null > 0 else {}


def _judged(found: Sequence[_Scored], *, modality: Modality, channels: str | None, kind: str) -> Gate:
    """Average over recordings, of each over its stretches."""
    by_recording: defaultdict[str, list[dict[float, float]]] = defaultdict(list)
    for one in found:
        by_recording[one.view.name].append(one.losses)
    whole = [{gain: fmean(each[gain] for each in some) for gain in GAINS} for some in by_recording.values()]
    units = whole if len(whole) > 1 else [one.losses for one in found]
    losses = {gain: fmean(each[gain] for each in units) for gain in GAINS}
    lowest = min(GAINS, key=lambda gain: losses[gain])
    errors = dict.fromkeys(GAINS, 0.0)
    if len(units) > 1:
        for gain in GAINS:
            errors[gain] = stdev(each[gain] - each[lowest] for each in units) / math.sqrt(len(units))
    return Gate(
        modality=modality,
        kind=kind,
        channels=channels,
        recordings=tuple(sorted(by_recording)),
        losses=losses,
        errors=errors,
    )
