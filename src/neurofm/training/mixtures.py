"""Mixtures: how the members of a modality's bank are weighed by who a channel is, learned before the network.

Learned on cross-fitted episodes: bank and identity come from some of a recording's train segments, targets from others.
What is learned is frozen then, and the gate in `neurofm.training.tuning` decides where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.model.bank import FLUORESCENCE_BANK, SPIKES_BANK, Bank, BankMixture, MemberSettings
from neurofm.model.links import predict, target
from neurofm.model.losses import LOSSES
from neurofm.model.statistics import STATISTICS
from neurofm.recording import Modality
from neurofm.training.batches import cut
from neurofm.training.contexts import ModalityBank, bank_of, identity_of, mixing_features, scale_of, usable_of
from neurofm.training.settings import PretrainSettings
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
_STEPS = 200
_WINDOWS = 16
_TARGETS = 256
"""Most channels that one step is asked for."""
_RATE = 3e-3
_DECAY = 0.05
_MOST_RECORDINGS = 64
"""Of a modality: more than a few episodes' worth of steps does not see."""
HALVES = 2
"""Each half of the episodes is judged by the mixture of the other."""


@dataclass(frozen=True, kw_only=True)
class MixtureEpisode:
    """Targets of one episode, and the bank that may predict them."""

    view: RecordingView
    number: int
    starts: npt.NDArray[np.int64]
    """First samples of windows of targets."""
    window_samples: int
    bank: Bank
    """Of the usable channels."""
    features: Tensor
    """[usable, 12 + member] float64"""


@dataclass(frozen=True, kw_only=True)
class LearnedBank:
    """The bank of a modality, and two mixtures to judge it by."""

    shared: ModalityBank
    crossed: tuple[BankMixture, ...]
    """Per half of the episodes, learned from the other half."""

    def judging(self, episode: int | None) -> ModalityBank:
        """Return the bank with a mixture that did not learn from the targets of an episode; None is validation."""
        if episode is None:
            return self.shared
        return ModalityBank(members=self.shared.members, mixture=self.crossed[episode % HALVES])


def learn_banks(
    views: Sequence[RecordingView],
    *,
    settings: PretrainSettings,
    windows: WindowsSettings,
    known: Mapping[Modality, ModalityBank],
) -> dict[Modality, LearnedBank]:
    """Learn how the bank's members are weighed, per modality that has a bank.

    Parameters
    ----------
    views
        All recordings of the fold; only train segments are read.
    settings, windows
        Of training.
    known
        What was learned before, which is kept.

    Returns
    -------
    Per modality with recordings to learn from.
    """
    found = {}
    for modality in BANKS:
        some = [view for view in views if view.modality is modality]
        if modality in known:
            before = known[modality]
            if some:
                found[modality] = LearnedBank(shared=before, crossed=(before.mixture,) * HALVES)
            continue
        episodes = list(_episodes(some, members=BANKS[modality], settings=settings, windows=windows))
        if not episodes:
            continue
        halves = [[one for one in episodes if one.number % HALVES != half] for half in range(HALVES)]
        mixture, *crossed = (_learn(part, modality=modality, settings=settings) for part in (episodes, *halves))
        found[modality] = LearnedBank(
            shared=ModalityBank(members=BANKS[modality], mixture=mixture), crossed=tuple(crossed)
        )
    return found


def untrained(members: Sequence[MemberSettings]) -> BankMixture:
    """Weigh all members the same, until something is learned."""
    return BankMixture(members=len(members), features=len(STATISTICS) + len(members)).double()


def _episodes(
    views: Sequence[RecordingView],
    *,
    members: tuple[MemberSettings, ...],
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> Iterator[MixtureEpisode]:
    """Solve the bank of every episode, of up to 64 recordings, spread evenly."""
    learned = [view for view in views if view.roles.train]
    kept = np.unique(np.linspace(0, len(learned) - 1, min(_MOST_RECORDINGS, len(learned))).round().astype(int))
    for view in (learned[index] for index in kept):
        source = source_of(view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes)
        if source is None:
            continue
        for number, episode in enumerate(source.episodes):
            stretches = [
                np.arange(piece.start, piece.stop - source.window_samples + 1, dtype=np.int64)
                for piece in episode.targets
            ]
            starts = np.concatenate([stretch for stretch in stretches if len(stretch)] or [np.zeros(0, dtype=np.int64)])
            if not len(starts):
                continue
            bank = bank_of(view, episode.calibration, members=members)
            identity = identity_of(view, episode.calibration)[usable_of(view)]
            yield MixtureEpisode(
                view=view,
                number=number,
                starts=starts,
                window_samples=source.window_samples,
                bank=bank,
                features=mixing_features(identity, bank),
            )


def _learn(episodes: Sequence[MixtureEpisode], *, modality: Modality, settings: PretrainSettings) -> BankMixture:
    """Take 200 steps of AdamW, each on windows of one episode; without episodes all members weigh the same."""
    mixture = untrained(BANKS[modality])
    if not episodes:
        return mixture
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
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
    view, features = episode.view, episode.features
    chosen = episode.starts[torch.randint(len(episode.starts), (_WINDOWS,), generator=generator).numpy()]
    least, most = settings.hidden_fraction_min, settings.hidden_fraction_max
    share = least + (most - least) * float(torch.rand((), generator=generator))
    order = torch.randperm(len(features), generator=generator)
    count = min(max(1, round(share * len(features))), len(features) - 1)
    hidden, visible = order[:count][:_TARGETS], order[count:].sort().values
    z, valid = cut(view, chosen, window_samples=episode.window_samples)
    usable = usable_of(view)
    z = z[..., usable].double()
    mixed = episode.bank.blend(
        z[..., visible], visible=visible, hidden=hidden, weights=mixture.weights(features[hidden])
    )
    scale = scale_of(view, rate_floor=1.0, kind="mixture").of(usable[hidden])
    prediction = predict(view.modality, linear=mixed, residual=torch.zeros_like(mixed), scale=scale)
    each = LOSSES[view.modality](prediction, target(view.modality, z[..., hidden], scale=scale))[valid]
    # Windows without one valid sample teach nothing.
    return each.sum() / max(each.numel(), 1)
