"""Recordings to learn from: each described once per episode, never from the episode's targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from neurofm.model.stationary_core import StationaryCore
from neurofm.splits import Segment
from neurofm.training.batches import null_loss
from neurofm.training.cache import Cache
from neurofm.training.contexts import Context, make_context
from neurofm.training.settings import PretrainSettings
from neurofm.training.short import ShortKnown, known_from, piece_of, seen_of
from neurofm.training.stationary import StationaryCores
from neurofm.training.train_moments import TrainMoments
from neurofm.training.tuning import CoreChoices, prior_of
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.sampling import Source, source_of
from neurofm.windows.schedule import Drawing, Schedule

_MOST_BYTES = 2 * 2**30
"""Of contexts: those of a thousand units take 80 MB, and up to a minute to be made again."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecording:
    """One recording that is learned from."""

    view: RecordingView
    source: Source
    describe: Callable[[], tuple[Context, ...]]
    """Gives `contexts`, which are kept while there is room for them."""
    null: float
    """Loss of predicting the mean."""
    cores: StationaryCores
    gates: Mapping[str, float]
    """Of the stationary core, by kind of mask."""
    short: Callable[[int, float], ShortKnown]
    """Gives what so many seconds show of the recording, from outside an episode's targets; kept as contexts are."""

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Per episode, from samples outside its targets."""
        return self.describe()

    def stationary(self, episode: int) -> StationaryCore:
        """Return the core that fills in hidden patches of an episode's targets, from samples outside them."""
        return self.cores.of(self.view, self.source.episodes[episode].calibration)


def training_recordings(
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
    cores: StationaryCores | None = None,
    learn_from: frozenset[str] | None = None,
    kept: Cache[str, tuple[Context, ...]] | None = None,
) -> list[TrainingRecording]:
    """Describe every training recording once per episode, never from the episode's targets.

    The recording's normaliser is the exception: its mean and SD come from all its calibration samples.
    Priors come from all `views`; only recordings of the datasets `learn_from` are described, where it is given.
    Contexts lie in `kept`, by the recording's name; those that it has no room for are made again when they are asked
    for, to the same bits.
    """
    known = TrainMoments()
    kept = Cache(most_bytes=_MOST_BYTES) if kept is None else kept
    short: Cache[tuple[str, int, float], ShortKnown] = Cache(most_bytes=_MOST_BYTES)
    cores = cores or StationaryCores(views, settings=settings, windows=windows)
    made = []
    for view in chosen_of(views, learn_from):
        source = source_of(view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes)
        if source is None:
            continue
        describe = partial(
            kept.get, view.name, partial(_contexts, view, source, views=views, choices=choices, known=known)
        )
        describe()  # In turn, so that recordings of the same channels share the moments that are known.
        z = np.concatenate([view.z(s.start, s.stop)[view.valid[s.start : s.stop]] for s in view.roles.train])
        null = null_loss(view, torch.from_numpy(z))
        gates: dict[str, float] = {kind: choices.gate(view, kind) for kind in settings.masks.patches_of(view.modality)}
        made.append(
            TrainingRecording(
                view=view,
                source=source,
                describe=describe,
                null=null,
                cores=cores,
                gates=gates,
                short=partial(_short, view, source, views=views, choices=choices, seed=settings.seed, kept=short),
            )
        )
    return made


def _short(
    view: RecordingView,
    source: Source,
    episode: int,
    seconds: float,
    *,
    views: Sequence[RecordingView],
    choices: CoreChoices,
    seed: int,
    kept: Cache[tuple[str, int, float], ShortKnown],
) -> ShortKnown:
    def make() -> ShortKnown:
        piece = piece_of(view, source.episodes[episode].calibration, seconds=seconds, seed=seed)
        known = known_from(view, piece)
        (context,) = _described(known, [piece], views=views, choices=choices, known=TrainMoments())
        return ShortKnown(view=known, context=context, seen=seen_of(known))

    return kept.get((view.name, episode, seconds), make)


def _contexts(
    view: RecordingView, source: Source, *, views: Sequence[RecordingView], choices: CoreChoices, known: TrainMoments
) -> tuple[Context, ...]:
    calibrations = [episode.calibration for episode in source.episodes]
    return _described(view, calibrations, views=views, choices=choices, known=known)


def _described(
    view: RecordingView,
    calibrations: Sequence[Sequence[Segment]],
    *,
    views: Sequence[RecordingView],
    choices: CoreChoices,
    known: TrainMoments,
) -> tuple[Context, ...]:
    """Describe a recording from each of some calibrations."""
    choice = choices.of(view)
    prior = prior_of(
        views,
        channel_set=view.channel_set,
        without=view.subject,
        sds_samples=choice.core.smoothing_samples,
        channels=len(view.channel_ids),
        known=known,
    )
    return tuple(
        make_context(view, calibration=calibration, prior=prior, choice=choice, shared=choices.bank(view))
        for calibration in calibrations
    )


def chosen_of(views: Sequence[RecordingView], learn_from: frozenset[str] | None) -> list[RecordingView]:
    """Return the recordings of the datasets that are learned from; all without."""
    return [view for view in views if learn_from is None or view.dataset in learn_from]


def left_out(
    views: Sequence[RecordingView], recordings: Sequence[TrainingRecording], *, settings: PretrainSettings
) -> Iterator[str]:
    """Say which recordings and datasets were to be learned from and cannot be."""
    learned = {recording.source.name for recording in recordings}
    if short := [view.name for view in views if view.roles.train and view.name not in learned]:
        yield (
            f"{len(short)} recordings have too few channels, or too little signal for two patches, to learn from: "
            f"{', '.join(short[:3])}{', ...' if len(short) > 3 else ''}"
        )
    there = {recording.source.dataset for recording in recordings}
    for dataset in sorted(set(settings.dataset_shares) - there):
        yield f"{dataset} has no recording to learn from in this fold; its share goes to the others"


def schedule_of(recordings: Sequence[TrainingRecording], *, settings: PretrainSettings) -> Schedule:
    """Draw from recordings as params.yaml says."""
    return Schedule(
        [recording.source for recording in recordings],
        row_bytes=[recording.view.signal.row_bytes(bfloat16=settings.bfloat16) for recording in recordings],
        drawing=Drawing(
            seed=settings.seed,
            shares=settings.shares.of(),
            windows=settings.batch_windows,
            hidden_fraction=(settings.hidden_fraction_min, settings.hidden_fraction_max),
            dataset_shares=settings.dataset_shares,
        ),
        pool=settings.pool,
    )
