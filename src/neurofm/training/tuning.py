"""Tuning: choose the linear core's settings on data that it was not computed from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from neurofm.model.core import CoreSettings, LinearCore, Moments, smooth_scales
from neurofm.model.links import predict, target
from neurofm.model.losses import LOSSES
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.batches import cut
from neurofm.training.contexts import CoreChoice, ModalityBank, moments_of, scale_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.train_moments import TrainMoments
from neurofm.windows import RecordingView, WindowsSettings, channel_groups, tiles
from neurofm.windows.sampling import source_of

_MOST_SCALES = 3
"""Each scale adds as many regressors as there are channels."""
AS_GOOD = 1.002
"""The simpler choice is kept where its validation loss is at most this many times that of the best."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Windows to score and the only samples of their recording that may be looked at."""

    view: RecordingView
    calibration: tuple[Segment, ...]
    z: Tensor
    """[window, time, channel] float32, z units."""
    counts: Tensor
    """[window, time] bool: valid, and not scored by another window."""
    valid: Tensor
    """[window, time] bool"""
    episode: int | None = None
    """Which episode the targets are of; None for validation segments."""


def trial_of(
    view: RecordingView,
    *,
    calibration: Sequence[Segment],
    targets: Sequence[Segment],
    window_samples: int,
    most: int,
    episode: int | None = None,
) -> Trial | None:
    """Cut `targets` into windows, keeping at most `most` of them, spread evenly; None where there is none."""
    cuts = tiles(targets, window_samples=window_samples)
    if not cuts or int(view.usable.sum()) < 2:
        return None
    kept = [cuts[index] for index in np.unique(np.linspace(0, len(cuts) - 1, min(most, len(cuts))).round().astype(int))]
    z, valid = cut(view, np.array([tile.start for tile in kept]), window_samples=window_samples)
    counts = valid.clone()
    for row, tile in enumerate(kept):
        counts[row, : tile.score_from - tile.start] = False
    if not counts.any():
        return None
    return Trial(view=view, calibration=tuple(calibration), z=z, counts=counts, valid=valid, episode=episode)


def validation_trials(
    views: Sequence[RecordingView], *, settings: PretrainSettings, windows: WindowsSettings
) -> list[Trial]:
    """Cut validation windows from every recording that has any."""
    made = (
        trial_of(
            view,
            calibration=view.roles.calibration,
            targets=view.roles.validation,
            window_samples=windows.of(view.modality).window_samples,
            most=settings.validation_windows,
        )
        for view in views
    )
    return [trial for trial in made if trial is not None]


def masks_of(
    view: RecordingView, *, settings: PretrainSettings, among: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """(visible, hidden) channels of each validation mask; recordings of one channel set share masks.

    Where `among` (int64) is given, only those channels are visible or hidden.
    """
    taken = view.usable if among is None else view.usable & np.isin(np.arange(len(view.usable)), among.numpy())
    usable = np.flatnonzero(taken)
    groups = channel_groups(
        taken, groups=min(settings.mask_groups, len(usable)), recording=view.channel_set, seed=settings.seed
    )
    return [(torch.from_numpy(np.setdiff1d(usable, group)), torch.from_numpy(group)) for group in groups]


@dataclass(frozen=True, kw_only=True)
class CoreChoices:
    """Chosen cores and their settings."""

    by_channel_set: dict[str, CoreChoice]
    by_modality: dict[Modality, CoreChoice]
    """For recordings of channels never met in training."""
    banks: Mapping[Modality, ModalityBank] = field(default_factory=dict, compare=False)
    """Where some recording may be predicted by one."""
    gates: Mapping[str, float] = field(default_factory=dict)
    """What a stationary core's estimate of hidden patches is multiplied with: by set of channels, or by modality for
    channels never met, and kind of mask (`neurofm.training.gates`)."""

    def of(self, view: RecordingView) -> CoreChoice:
        """Return the choice for a recording."""
        return self.by_channel_set.get(view.channel_set) or self.by_modality[view.modality]

    def bank(self, view: RecordingView) -> ModalityBank | None:
        """Return the bank of a recording's modality."""
        return self.banks.get(view.modality)

    def gate(self, view: RecordingView, kind: str) -> float:
        """Return the gain of a recording's stationary core; 1 where nothing was judged."""
        return self.gates.get(f"{view.channel_set} {kind}", self.gates.get(f"{view.modality} {kind}", 1.0))


def judging_trials(
    views: Sequence[RecordingView], *, settings: PretrainSettings, windows: WindowsSettings
) -> list[Trial]:
    """Cut what cores are chosen on: validation segments, and train segments in turn where those judge poorly."""
    trials = validation_trials(views, settings=settings, windows=windows)
    validated = {trial.view.channel_set for trial in trials}
    for view in views:
        # One validation block of a single recording judges poorly: its train chunks take turns beside it.
        if view.roles.kind == "time" or view.channel_set not in validated:
            trials.extend(train_trials(view, settings=settings, windows=windows))
    return trials


def choose_cores(
    views: Sequence[RecordingView], *, settings: PretrainSettings, windows: WindowsSettings
) -> CoreChoices:
    """Choose scales, ridge, weight of the prior and rate floor.

    Each candidate is scored on the validation windows, relative to predicting the mean, and averaged over the
    recordings of a channel set (or of a modality). Recordings split in time, and channel sets without validation
    windows, are scored on their train segments too, chunk by chunk, each from the other chunks. Scales are added
    one at a time.

    Parameters
    ----------
    views
        All recordings of the fold.
    settings, windows
        Of training; the grid is `settings.core`.
    """
    trials = judging_trials(views, settings=settings, windows=windows)
    by_set: defaultdict[str, list[int]] = defaultdict(list)
    by_modality: defaultdict[Modality, list[int]] = defaultdict(list)
    for index, trial in enumerate(trials):
        by_set[trial.view.channel_set].append(index)
        by_modality[trial.view.modality].append(index)

    known = TrainMoments()

    @cache
    def table(index: int, scales: tuple[float, ...]) -> dict[CoreChoice, float]:
        return _score(trials[index], views=views, scales=scales, settings=settings, known=known)

    def best(indices: Sequence[int], scales: tuple[float, ...]) -> tuple[float, CoreChoice]:
        tables = [table(index, scales) for index in indices]
        choice = min(tables[0], key=lambda one: sum(each[one] for each in tables))
        return sum(each[choice] for each in tables), choice

    return CoreChoices(
        by_channel_set={
            name: _grow(partial(best, indices), grid=settings.core.smoothing_samples)
            for name, indices in by_set.items()
        },
        by_modality={
            modality: _grow(partial(best, indices), grid=settings.core.smoothing_samples)
            for modality, indices in by_modality.items()
        },
    )


def _grow(best: Callable[[tuple[float, ...]], tuple[float, CoreChoice]], *, grid: Sequence[float]) -> CoreChoice:
    """Add the scale that helps most, one at a time; then keep the fewest that are about as good as the best."""
    path: list[tuple[float, CoreChoice]] = []
    scales: tuple[float, ...] = ()
    while len(scales) < min(_MOST_SCALES, len(grid)):
        larger = [best(tuple(sorted((*scales, sd)))) for sd in grid if sd not in scales]
        path.append(min(larger, key=lambda found: found[0]))
        scales = path[-1][1].core.smoothing_samples
    lowest = min(loss for loss, _ in path)
    return next((choice for loss, choice in path if loss <= AS_GOOD * lowest), path[0][1])


def train_trials(view: RecordingView, *, settings: PretrainSettings, windows: WindowsSettings) -> list[Trial]:
    """Cut the train segments of a recording into stretches that judge in turn, each described by others."""
    source = source_of(view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes)
    if source is None:
        return []
    made = (
        trial_of(
            view,
            calibration=episode.calibration,
            targets=episode.targets,
            window_samples=source.window_samples,
            most=max(1, settings.validation_windows // len(source.episodes)),
            episode=number,
        )
        for number, episode in enumerate(source.episodes)
    )
    return [trial for trial in made if trial is not None]


def prior_of(
    views: Sequence[RecordingView],
    *,
    channel_set: str,
    without: str,
    sds_samples: Sequence[float],
    channels: int,
    among: Tensor | None = None,
    known: TrainMoments | None = None,
) -> Moments:
    """Moments of the train segments of all recordings of a channel set, but those of the subject `without`.

    They are added up without them, not subtracted from the total: not one bit of it depends on them. Where `among`
    (int64) is given, of those channels alone; `known` spares computing them anew for the next recording.
    """
    known = known or TrainMoments()
    parts = (
        known.of(view, sds_samples=sds_samples, channels=among)
        for view in views
        if view.channel_set == channel_set and view.subject != without
    )
    return Moments.total(parts, channels=channels if among is None else len(among), scales=len(sds_samples))


def tuned_on(view: RecordingView, *, settings: PretrainSettings) -> Tensor | None:
    """Draw the channels that settings are chosen on, the same for a channel set; None where all of them are."""
    channels, most = len(view.channel_ids), settings.core.most_channels
    if channels <= most:
        return None
    everyone = np.ones(channels, dtype=np.bool_)
    # Not the draw that parts channels into masks: one part of that would be hidden whole.
    drawn = channel_groups(
        everyone, groups=math.ceil(channels / most), recording=f"{view.channel_set} tuned", seed=settings.seed
    )[0]
    return torch.from_numpy(np.sort(drawn)) if view.usable[drawn].sum() > settings.mask_groups else None


def _score(
    trial: Trial,
    *,
    views: Sequence[RecordingView],
    scales: tuple[float, ...],
    settings: PretrainSettings,
    known: TrainMoments,
) -> dict[CoreChoice, float]:
    """Loss of every candidate on one recording, over the loss of predicting the mean."""
    view, grid = trial.view, settings.core
    spikes = view.modality is Modality.SPIKES
    floors = grid.rate_floors if spikes else grid.rate_floors[:1]
    loss = LOSSES[view.modality]
    among = tuned_on(view, settings=settings)
    chosen = torch.arange(len(view.channel_ids)) if among is None else among
    scale = scale_of(view, rate_floor=1.0).of(chosen)
    masks = [
        (torch.searchsorted(chosen, visible), torch.searchsorted(chosen, hidden))
        for visible, hidden in masks_of(view, settings=settings, among=among)
    ]
    z = trial.z[..., chosen].double()
    wanted = target(view.modality, z, scale=scale)[trial.counts]
    nothing = torch.zeros_like(wanted)
    null = loss(predict(view.modality, linear=nothing, residual=nothing, scale=scale), wanted)
    null_sum = float(sum(null[:, hidden].sum() for _, hidden in masks))
    table: dict[CoreChoice, float] = {}
    own = moments_of(view, trial.calibration, sds_samples=scales, channels=among)
    prior = prior_of(
        views,
        channel_set=view.channel_set,
        without=view.subject,
        sds_samples=scales,
        channels=len(view.channel_ids),
        among=among,
        known=known,
    )
    smoothed = smooth_scales(z, sds_samples=scales)[trial.counts]
    for ridge, weight in product(grid.ridge, grid.prior_samples):
        core = CoreSettings(smoothing_samples=scales, ridge=ridge, prior_samples=weight)
        choices = [CoreChoice(core=core, rate_floor=floor) for floor in floors]
        if prior.samples == 0 and weight != grid.prior_samples[0]:
            # Without a prior its weight changes nothing.
            for choice in choices:
                same = CoreSettings(smoothing_samples=scales, ridge=ridge, prior_samples=grid.prior_samples[0])
                table[choice] = table[CoreChoice(core=same, rate_floor=choice.rate_floor)]
            continue
        fitted = LinearCore.fit(own, prior, settings=core)
        sums = dict.fromkeys(choices, 0.0)
        for visible, hidden in masks:
            linear = fitted.estimate(smoothed[..., visible], visible=visible, hidden=hidden)
            for choice in choices:
                floored = scale_of(view, rate_floor=choice.rate_floor).of(chosen[hidden])
                estimate = predict(view.modality, linear=linear, residual=torch.zeros_like(linear), scale=floored)
                sums[choice] += float(loss(estimate, wanted[:, hidden]).sum())
        table.update({choice: total / null_sum for choice, total in sums.items()})
    return table
