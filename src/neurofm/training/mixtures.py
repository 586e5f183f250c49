"""Mixtures: how the linear core and a bank's members are weighed by who a channel is, learned before the network.

Learned on cross-fitted episodes: cores, bank and identity come from some of a recording's train segments, targets from
others. What is learned is frozen then, and `neurofm.training.kinds` decides where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.model.bank import FLUORESCENCE_BANK, SPIKES_BANK, BankMixture, MemberSettings
from neurofm.model.core import smooth_scales
from neurofm.model.links import predict, target
from neurofm.model.losses import LOSSES
from neurofm.model.statistics import STATISTICS
from neurofm.recording import Modality
from neurofm.training.batches import cut
from neurofm.training.contexts import Context, MixedBank, ModalityBank, make_context, usable_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.tuning import CoreChoices, prior_of
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.sampling import source_of

BANKS: Mapping[Modality, tuple[MemberSettings, ...]] = MappingProxyType(
    {
        Modality.SPIKES: SPIKES_BANK,
        Modality.CALCIUM: FLUORESCENCE_BANK,
        Modality.MINISCOPE: FLUORESCENCE_BANK,
    }
)
"""Modalities whose recordings have channels of their own, so that no other subject's can be a prior; the figures are
in ``benchmarks/cores.json``."""
HALVES = 2
"""Each half of the episodes is judged by the mixture of the other."""
_STEPS = 200
_WINDOWS = 16
_TARGETS = 256
"""Most channels that one step is asked for."""
_RATE = 3e-3
_DECAY = 0.05
_MOST_RECORDINGS = 64
"""So many of a modality are learned from: the steps would not see the episodes of more."""


@dataclass(frozen=True, kw_only=True)
class MixtureEpisode:
    """Targets of one episode, and what may predict them."""

    view: RecordingView
    number: int
    starts: npt.NDArray[np.int64]
    """First samples of windows of targets."""
    window_samples: int
    context: Context
    bank: MixedBank
    """Of the context."""


@dataclass(frozen=True, kw_only=True)
class LearnedBank:
    """The bank of a modality, and mixtures to judge it by."""

    shared: ModalityBank
    crossed: tuple[BankMixture, ...]
    """Per half of the episodes, learned from the other half."""

    def judging(self, episode: int | None) -> ModalityBank:
        """Return the bank with a mixture that did not learn from the targets of an episode; None is validation."""
        return self.shared if episode is None else replace(self.shared, mixture=self.crossed[episode % HALVES])


def learn_banks(
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
    known: Mapping[Modality, ModalityBank],
) -> dict[Modality, LearnedBank]:
    """Learn how linear core and bank are weighed, per modality that has a bank.

    Parameters
    ----------
    views
        All recordings of the fold; only train segments are read.
    choices
        Settings of the linear cores.
    settings, windows
        Of training.
    known
        What was learned before: it is kept.

    Returns
    -------
    Per modality with recordings to learn from, or to judge by.
    """
    found = {}
    for modality, members in BANKS.items():
        some = [view for view in views if view.modality is modality]
        if some and modality in known:
            shared = known[modality]
            found[modality] = LearnedBank(shared=shared, crossed=(shared.mixture,) * HALVES)
            continue
        shared = ModalityBank(members=members, mixture=unlearned_mixture(members))
        episodes = list(_episodes(some, shared=shared, choices=choices, settings=settings, windows=windows))
        if not episodes:
            continue
        halves = [[one for one in episodes if one.number % HALVES != half] for half in range(HALVES)]
        mixture, *crossed = (_learn(part, members=members, settings=settings) for part in (episodes, *halves))
        found[modality] = LearnedBank(shared=replace(shared, mixture=mixture), crossed=tuple(crossed))
    return found


def unlearned_mixture(members: Sequence[MemberSettings]) -> BankMixture:
    """Weigh the linear core by one half, and all members the same, until something is learned."""
    count = len(members)
    start = [0.5] + [0.5 / count] * count
    return BankMixture(members=1 + count, features=len(STATISTICS) + count, start=start).double()


def _episodes(
    views: Sequence[RecordingView],
    *,
    shared: ModalityBank,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> Iterator[MixtureEpisode]:
    """Describe every episode of up to 64 recordings, spread evenly."""
    learned = [view for view in views if view.roles.train]
    kept = np.unique(np.linspace(0, len(learned) - 1, min(_MOST_RECORDINGS, len(learned))).round().astype(int))
    for view in (learned[index] for index in kept):
        source = source_of(view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes)
        if source is None:
            continue
        choice = replace(choices.of(view), kind="mixture")
        prior = prior_of(
            views,
            channel_set=view.channel_set,
            without=view.name,
            sds_samples=choice.core.smoothing_samples,
            channels=len(view.channel_ids),
        )
        for number, episode in enumerate(source.episodes):
            stretches = [
                np.arange(piece.start, piece.stop - source.window_samples + 1, dtype=np.int64)
                for piece in episode.targets
            ]
            starts = np.concatenate(stretches)
            context = make_context(view, calibration=episode.calibration, prior=prior, choice=choice, shared=shared)
            if len(starts) and context.bank:
                yield MixtureEpisode(
                    view=view,
                    number=number,
                    starts=starts,
                    window_samples=source.window_samples,
                    context=context,
                    bank=context.bank,
                )


def _learn(
    episodes: Sequence[MixtureEpisode], *, members: Sequence[MemberSettings], settings: PretrainSettings
) -> BankMixture:
    """Take 200 steps of AdamW, each on windows of one episode; without episodes nothing is learned."""
    mixture = unlearned_mixture(members)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS if episodes else 0):
        episode = episodes[int(torch.randint(len(episodes), (), generator=generator))]
        loss = _loss(mixture, episode, settings=settings, generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return mixture.requires_grad_(requires_grad=False)


def _loss(
    mixture: BankMixture, episode: MixtureEpisode, *, settings: PretrainSettings, generator: torch.Generator
) -> Tensor:
    """Mean loss of one draw of windows and of hidden channels."""
    view, context, usable = episode.view, episode.context, usable_of(episode.view)
    chosen = episode.starts[torch.randint(len(episode.starts), (_WINDOWS,), generator=generator).numpy()]
    least, most = settings.hidden_fraction_min, settings.hidden_fraction_max
    share = least + (most - least) * float(torch.rand((), generator=generator))
    count = min(max(1, round(share * len(usable))), len(usable) - 1)
    order = usable[torch.randperm(len(usable), generator=generator)]
    hidden, visible = order[:count][:_TARGETS], order[count:].sort().values
    z, valid = cut(view, chosen, window_samples=episode.window_samples)
    values = z[..., visible].double()
    mixed = context.estimate(
        values,
        smoothed=smooth_scales(values, sds_samples=context.core.settings.smoothing_samples),
        visible=visible,
        hidden=hidden,
        weights=mixture.weights(episode.bank.features[hidden]),
    )
    scale = context.scale.of(hidden)
    prediction = predict(view.modality, linear=mixed, residual=torch.zeros_like(mixed), scale=scale)
    wanted = target(view.modality, z[..., hidden].double(), scale=scale)
    each = LOSSES[view.modality](prediction, wanted)[valid]
    # Windows without one valid sample teach nothing.
    return each.sum() / max(each.numel(), 1)
