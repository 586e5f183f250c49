"""Mixtures: how the linear core and a bank's members are weighed by who a channel is, learned before the network.

Learned on cross-fitted episodes: cores, bank and identity come from some of a recording's train segments, targets from
others. What is learned is frozen then, and `neurofm.training.kinds` decides where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.model.bank import FLUORESCENCE_BANK, SPIKES_BANK, Bank, BankMixture, MemberSettings
from neurofm.model.core import smooth_scales
from neurofm.model.links import Scale, predict, target
from neurofm.model.losses import LOSSES
from neurofm.model.statistics import STATISTICS
from neurofm.recording import Modality
from neurofm.training.batches import cut
from neurofm.training.contexts import Context, ModalityBank, make_context, usable_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.short import known_from, piece_of, seen_of
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
_WINDOWS = 8
_DRAWS = 256
"""Of a modality, at least: what they are estimated by does not change while weights are learned."""
_TARGETS = 64
"""Most channels that one draw asks for."""
_MOST_BYTES = 2**30
"""Of all draws of a modality: of longer windows each draw has fewer, at least one."""
_RATE = 3e-3
_DECAY = 0.05
_FEWEST_CHANNELS = 2
_MOST_RECORDINGS = 24
"""So many of a modality are learned from, to bound time and memory."""


@dataclass(frozen=True, kw_only=True)
class MixtureDraw:
    """Some windows of an episode's targets with some channels hidden, estimated once by everything that is weighed."""

    modality: Modality
    episode: int
    estimates: Tensor
    """[window, time, hidden, 1 + member] float64: of the linear core, then of the members."""
    features: Tensor
    """[hidden, feature] float64"""
    wanted: Tensor
    """[window, time, hidden] float64"""
    counts: Tensor
    """[window, time] bool"""
    scale: Scale
    """Of the hidden channels."""

    def loss(self, mixture: BankMixture) -> Tensor:
        """Mean over the samples that count; windows without one teach nothing."""
        mixed = mixture(self.estimates, self.features)
        prediction = predict(self.modality, linear=mixed, residual=torch.zeros_like(mixed), scale=self.scale)
        each = LOSSES[self.modality](prediction, self.wanted)[self.counts]
        return each.sum() / max(each.numel(), 1)


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
        draws = list(_draws(some, shared=shared, choices=choices, settings=settings, windows=windows))
        if not draws:
            continue
        halves = [[draw for draw in draws if draw.episode % HALVES != half] for half in range(HALVES)]
        mixture, *crossed = (_learn(part, members=members, settings=settings) for part in (draws, *halves))
        found[modality] = LearnedBank(shared=replace(shared, mixture=mixture), crossed=tuple(crossed))
        del draws, halves  # They take up to a gigabyte, and the next modality's are drawn before they are replaced.
    return found


def unlearned_mixture(members: Sequence[MemberSettings]) -> BankMixture:
    """Weigh the linear core by one half, and all members the same, until something is learned."""
    count = len(members)
    start = [0.5] + [0.5 / count] * count
    return BankMixture(members=1 + count, features=len(STATISTICS) + count, start=start).double()


def _draws(
    views: Sequence[RecordingView],
    *,
    shared: ModalityBank,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> Iterator[MixtureDraw]:
    """Draw from every episode of up to 24 recordings, spread evenly."""
    learned = [view for view in views if view.roles.train]
    each = len(shared.members) + 2  # Estimates of the linear core and of the members, and what is wanted.
    kept = np.unique(np.linspace(0, len(learned) - 1, min(_MOST_RECORDINGS, len(learned))).round().astype(int))
    generator = torch.Generator().manual_seed(settings.seed)
    apart = torch.Generator().manual_seed(settings.seed)
    for view in (learned[index] for index in kept):
        source = source_of(view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes)
        if source is None:
            continue
        choice = replace(choices.of(view), kind="mixture")
        prior = prior_of(
            views,
            channel_set=view.channel_set,
            without=view.subject,
            sds_samples=choice.core.smoothing_samples,
            channels=len(view.channel_ids),
        )
        for number, episode in enumerate(source.episodes):
            starts = np.concatenate(
                [
                    np.arange(piece.start, piece.stop - source.window_samples + 1, dtype=np.int64)
                    for piece in episode.targets
                ]
            )
            if not len(starts):
                continue
            draws = -(-_DRAWS // (len(kept) * len(source.episodes)))
            of_short = settings.short_calibrations
            amounts = of_short.seconds if of_short.share else ()
            fewer = math.ceil(draws * of_short.share / max(1, len(amounts)))
            window_bytes = 8 * each * source.window_samples * _TARGETS
            every = len(kept) * len(source.episodes) * (draws + fewer * len(amounts))
            room = _MOST_BYTES // (every * window_bytes)
            some = partial(
                _some,
                starts=starts,
                window_samples=source.window_samples,
                windows=max(1, min(_WINDOWS, room)),
                episode=number,
                settings=settings,
            )
            context = make_context(view, calibration=episode.calibration, prior=prior, choice=choice, shared=shared)
            yield from some(context, view, draws=draws, generator=generator)
            for seconds in amounts:
                # With a generator of their own: the draws above stay what they are without.
                piece = piece_of(view, episode.calibration, seconds=seconds, seed=settings.seed)
                short = known_from(view, piece)
                if short.usable.sum() < _FEWEST_CHANNELS:
                    continue
                known = make_context(short, calibration=piece, prior=prior, choice=choice, shared=shared)
                yield from some(known, short, draws=fewer, generator=apart, seen=seen_of(short))


def _some(
    context: Context,
    view: RecordingView,
    *,
    starts: npt.NDArray[np.int64],
    window_samples: int,
    windows: int,
    episode: int,
    draws: int,
    settings: PretrainSettings,
    generator: torch.Generator,
    seen: Tensor | None = None,
) -> Iterator[MixtureDraw]:
    """Draw windows and masks of one context; of `seen`, [channel] bool, only those channels are looked at."""
    for _ in range(draws):
        chosen = starts[torch.randint(len(starts), (windows,), generator=generator).numpy()]
        z, counts = cut(view, chosen, window_samples=window_samples)
        visible, hidden = _hide(view, settings=settings, generator=generator)
        visible = visible if seen is None else visible[seen[visible]]
        if len(visible):
            yield _drawn(context, z, counts, modality=view.modality, episode=episode, visible=visible, hidden=hidden)


def _hide(view: RecordingView, *, settings: PretrainSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw visible and hidden channels, as training does."""
    usable = usable_of(view)
    least, most = settings.hidden_fraction_min, settings.hidden_fraction_max
    share = least + (most - least) * float(torch.rand((), generator=generator))
    count = min(max(1, round(share * len(usable))), len(usable) - 1)
    order = usable[torch.randperm(len(usable), generator=generator)]
    return order[count:].sort().values, order[:count][:_TARGETS]


def _drawn(
    context: Context,
    z: Tensor,
    counts: Tensor,
    *,
    modality: Modality,
    episode: int,
    visible: Tensor,
    hidden: Tensor,
) -> MixtureDraw:
    """Estimate the hidden channels of some windows."""
    if context.bank is None:
        msg = "a draw of a mixture needs a bank"
        raise ValueError(msg)
    values = z[..., visible].double()
    smoothed = smooth_scales(values, sds_samples=context.core.settings.smoothing_samples)
    each = [context.core.estimate(smoothed, visible=visible, hidden=hidden)]
    alone = torch.ones(len(hidden), 1, dtype=torch.float64)
    each.extend(
        Bank(members=(member,)).blend(values, visible=visible, hidden=hidden, weights=alone)
        for member in context.bank.bank.members
    )
    scale = context.scale.of(hidden)
    return MixtureDraw(
        modality=modality,
        episode=episode,
        estimates=torch.stack(each, dim=-1),
        features=context.bank.features[hidden],
        wanted=target(modality, z[..., hidden].double(), scale=scale),
        counts=counts,
        scale=scale,
    )


def _learn(
    draws: Sequence[MixtureDraw], *, members: Sequence[MemberSettings], settings: PretrainSettings
) -> BankMixture:
    """Take 200 steps of AdamW, each on one draw; without draws nothing is learned.

    The weights of the second half are averaged, since they jitter from draw to draw (Polyak & Juditsky 1992,
    doi:10.1137/0330046).
    """
    mixture = unlearned_mixture(members)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(mixture.parameters(), lr=_RATE, weight_decay=_DECAY)
    average = {name: torch.zeros_like(value) for name, value in mixture.state_dict().items()}
    for step in range(_STEPS if draws else 0):
        draw = draws[int(torch.randint(len(draws), (), generator=generator))]
        loss = draw.loss(mixture)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step >= _STEPS // 2:
            for name, value in mixture.state_dict().items():
                average[name] += value / (_STEPS - _STEPS // 2)
    mixture.load_state_dict(average)
    return mixture.requires_grad_(requires_grad=False)
