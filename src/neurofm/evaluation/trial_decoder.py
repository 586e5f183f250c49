"""Trial decoder: what happened in a trial of an animal never seen, from few or none of its trials whose class is known.

Each unit is evidence for or against each class in each patch, in proportion to how far its count is from its mean. What
the evidence weighs has a Gaussian prior whose mean and variance a small network reads from the unit's statistics and
region, as it learned them on other animals; labelled trials make a posterior of it, in closed form (Gaussian process
regression on the classes: Rasmussen & Williams 2006, doi:10.7551/mitpress/3206.001.0001, section 2.7). Without a label
the prior speaks alone; with many it is ridge regression in which every unit has a penalty of its own. Units may be as
many as they like, in any order.

The network learns in episodes, as at test: a run of trials is asked, and of the others nothing to all is labelled.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.evaluation.trial_statistics import Floats, TrialStatistics, describe_trials

UNKNOWN = -1
"""Class of a trial of which it is not known, or not shown."""
_MEMBERS = 3
"""Networks whose probabilities are averaged; each stops by another part of the recordings, and learns on the rest."""
_WIDTH = 48
_REGION_WIDTH = 6
_UNKNOWN_REGION = 0.3
"""Share of units whose region an episode hides: a new animal has regions that nobody met."""
_LEAST_UNITS = 0.4
"""Share of a recording's units that an episode has at least."""
_STEPS = 240
_VALIDATED_EVERY = 40
_RATE = 1e-3
_DECAY = 0.05
_EMA = 0.98
_ASKED = (0.2, 0.35)
"""Share of a recording's trials that an episode asks: a run of them, in which the animal may be in another mood."""
_UNLABELLED = 0.2
"""Share of episodes in which no trial is labelled."""
_LEAST_LABELLED = 0.02
"""Share of the trials not asked that is labelled in the others, at least: log-uniformly from it to all of them."""
_JUDGED = (0.0, 0.05, 0.2, 1.0)
"""Shares of labelled trials by which a network stops."""
_LARGEST = 4.0
"""SDs of a statistic over what was learned from, beyond which it is cut off."""


@dataclass(frozen=True, kw_only=True)
class LabelledTrials:
    """Trials of one recording."""

    counts: Floats
    """[trial, unit, patch] spikes."""
    label: npt.NDArray[np.int64]
    """[trial] index of the class, or `UNKNOWN`."""
    region: Sequence[str]
    """[unit] empty where it is not known."""

    def at(self, kept: npt.NDArray[np.bool_]) -> LabelledTrials:
        """Return some of the trials."""
        return LabelledTrials(counts=self.counts[kept], label=self.label[kept], region=self.region)

    def units(self, kept: npt.NDArray[np.bool_]) -> LabelledTrials:
        """Return some of the units."""
        region = [name for name, keep in zip(self.region, kept, strict=True) if keep]
        return LabelledTrials(counts=self.counts[:, kept], label=self.label, region=region)


class _Weights(NamedTuple):
    """Gaussian of the weights of one recording's units."""

    mean: Tensor
    """[unit and patch, class]"""
    variance: Tensor
    """[unit and patch]"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What every unit of one recording weighs."""

    statistics: TrialStatistics
    weights: npt.NDArray[np.float32]
    """[member, unit, patch, class]"""

    def probability(self, counts: Floats) -> npt.NDArray[np.float64]:
        """[trial, class], all classes being equally likely beforehand."""
        z = self.statistics.standardised(counts)
        logit = np.einsum("tup,mupc->mtc", z, self.weights, optimize=True).astype(np.float64)
        power = np.exp(logit - logit.max(axis=2, keepdims=True))
        return np.asarray((power / power.sum(axis=2, keepdims=True)).mean(axis=0))


class _Prior(nn.Module):
    """Prior of what units weigh, and the posterior that labelled trials make of it."""

    shift: Tensor
    scale: Tensor

    def __init__(self, identities: Floats, *, regions: int, classes: int, fixed: int) -> None:
        """Take the scale of the statistics from `identities` [row, statistic], whose last `fixed` stay as they are."""
        super().__init__()
        mean, sd = identities.mean(axis=0), identities.std(axis=0) + 1e-6
        mean[-fixed:], sd[-fixed:] = 0.0, 1.0
        self.register_buffer("shift", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(1 / sd))
        # Row 0 is of regions that nobody met, and stays zero.
        self.region = nn.Embedding(regions + 1, _REGION_WIDTH, padding_idx=0)
        self.hidden = nn.Sequential(nn.Linear(identities.shape[1] + _REGION_WIDTH, _WIDTH), nn.GELU(), nn.Dropout(0.1))
        self.mean, self.variance = nn.Linear(_WIDTH, classes), nn.Linear(_WIDTH, 1)
        with torch.no_grad():
            self.region.weight *= 0.3
        for layer in (self.mean, self.variance):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        # Variances begin as 1: no unit is known to be better than another.
        nn.init.constant_(self.variance.bias, float(np.log(np.e - 1)))
        self.log_noise = nn.Parameter(torch.zeros(()))
        self.log_sharpness = nn.Parameter(torch.tensor(1.5))
        self.classes = classes

    def forward(self, identity: Tensor, region: Tensor) -> _Weights:
        """Read the prior from [unit, patch, statistic] and [unit] indices of regions."""
        units, patches, _ = identity.shape
        known = ((identity - self.shift) * self.scale).clamp(-_LARGEST, _LARGEST)
        where: Tensor = self.region(region)[:, None].expand(-1, patches, -1)
        hidden = self.hidden(torch.cat([known, where], dim=-1).flatten(0, 1))
        # So that a sum over many units is as large as one over few.
        per_unit = 1 / (units * patches)
        variance = nn.functional.softplus(self.variance(hidden)[:, 0]) * per_unit * self.classes
        return _Weights(self.mean(hidden) * per_unit**0.5, variance)

    def posterior(self, prior: _Weights, z: Tensor, label: Tensor) -> Tensor:
        """Return the mean of the weights once [trial, unit and patch] with [trial] labels were seen.

        A trial's noise is larger the more trials its class has, so that all classes weigh the same.
        """
        if not len(z):
            return prior.mean
        wanted = nn.functional.one_hot(label, self.classes).to(z.dtype)
        noise = self.log_noise.exp() * wanted.sum(dim=0)[label] * self.classes / len(z)
        scaled = z * prior.variance
        missed = wanted - 1 / self.classes - z @ prior.mean
        gain: Tensor = scaled.T @ torch.linalg.solve(scaled @ z.T + torch.diag(noise), missed)
        return prior.mean + gain


@dataclass(frozen=True, kw_only=True)
class _Episode:
    """Trials that are asked, and what may be looked at for that."""

    statistics: TrialStatistics
    region: Tensor
    z: Tensor
    """[trial, unit and patch] that are labelled."""
    label: Tensor
    asked: Tensor
    """[trial, unit and patch]"""
    truth: Tensor


@dataclass(frozen=True, kw_only=True)
class TrialDecoder:
    """Networks that learned on other animals what units are evidence for."""

    regions: Sequence[str]
    """That were met."""
    members: Sequence[_Prior]

    @classmethod
    def learn(cls, recordings: Sequence[LabelledTrials], *, classes: int, seed: int) -> TrialDecoder:
        """Learn from whole recordings.

        Parameters
        ----------
        recordings
            Of animals of which nothing is scored, of as many patches each. Of several, each network stops by the loss
            on every third of them and learns on the others.
        classes
            How many there are.
        seed
            Of weights and episodes.
        """
        regions = sorted({name for one in recordings for name in one.region if name})
        count = min(_MEMBERS, len(recordings))
        members = []
        for member in range(count):
            held = list(recordings[member::count])
            rest = [one for index, one in enumerate(recordings) if index % count != member] or held
            # Networks differ by their seed too.
            with torch.random.fork_rng():
                torch.manual_seed(seed + member)
                rng = np.random.default_rng([seed, member])
                members.append(_learned(rest, held, regions=regions, classes=classes, rng=rng))
        return cls(regions=regions, members=members)

    def evidence(self, seen: LabelledTrials, statistics: TrialStatistics) -> Evidence:
        """Weigh the units of a recording.

        Parameters
        ----------
        seen
            Trials that may be looked at; where a label is not `UNKNOWN` it is learned from.
        statistics
            Of all of them.
        """
        shown = seen.label != UNKNOWN
        z, label = _flat(statistics, seen.counts[shown]), torch.from_numpy(seen.label[shown])
        identity, region = torch.from_numpy(statistics.identity), _indices(seen.region, self.regions)
        shape = (*statistics.mean.shape, -1)
        with torch.no_grad():
            weights = [
                member.posterior(member(identity, region), z, label) * member.log_sharpness.exp()
                for member in self.members
            ]
        return Evidence(statistics=statistics, weights=np.stack([one.numpy().reshape(shape) for one in weights]))


def _learned(
    recordings: Sequence[LabelledTrials],
    held: Sequence[LabelledTrials],
    *,
    regions: Sequence[str],
    classes: int,
    rng: np.random.Generator,
) -> _Prior:
    """Learn one network: its averaged weights where `held` is predicted best."""
    described = [describe_trials(one.counts).identity for one in recordings]
    identities = np.concatenate([identity.reshape(-1, identity.shape[-1]) for identity in described])
    network = _Prior(identities, regions=len(regions), classes=classes, fixed=recordings[0].counts.shape[2])
    averaged = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS, pct_start=0.1)
    share = np.sqrt([len(one.label) for one in recordings])
    judged = [_episode(one, regions=regions, labelled=part, rng=rng) for one in held for part in (*_JUDGED, *_JUDGED)]
    least, best = np.inf, network.state_dict()
    for step in range(1, _STEPS + 1):
        one = recordings[rng.choice(len(recordings), p=share / share.sum())]
        kept = rng.random(len(one.region)) < rng.uniform(_LEAST_UNITS, 1)
        if not kept.any():
            continue
        part = 0.0 if rng.random() < _UNLABELLED else float(np.exp(rng.uniform(np.log(_LEAST_LABELLED), 0)))
        episode = _episode(one.units(kept), regions=regions, labelled=part, rng=rng, hidden=_UNKNOWN_REGION)
        optimiser.zero_grad()
        _loss(network.train(), episode).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _average(averaged, network)
        if step % _VALIDATED_EVERY == 0:
            with torch.no_grad():
                loss = float(np.mean([float(_loss(averaged.eval(), episode)) for episode in judged]))
            if loss < least:
                least = loss
                best = {name: value.clone() for name, value in averaged.state_dict().items()}
    network.load_state_dict(best)
    return network.eval()


def _average(averaged: _Prior, network: _Prior) -> None:
    """Move the running mean of the weights on."""
    with torch.no_grad():
        for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - _EMA)


def _episode(
    one: LabelledTrials, *, regions: Sequence[str], labelled: float, rng: np.random.Generator, hidden: float = 0.0
) -> _Episode:
    """Ask a run of trials, and label a share of the others at random; regions of some units may be hidden."""
    trials = len(one.label)
    asked = min(max(1, round(rng.uniform(*_ASKED) * trials)), trials - 1)  # one at least is looked at
    first = int(rng.integers(trials - asked + 1))
    is_asked = (np.arange(trials) >= first) & (np.arange(trials) < first + asked)
    statistics = describe_trials(one.counts[~is_asked])
    known = one.label != UNKNOWN
    candidates = rng.permutation(np.flatnonzero(known & ~is_asked))
    shown, wanted = candidates[: round(labelled * len(candidates))], np.flatnonzero(known & is_asked)
    region = _indices(one.region, regions)
    region[torch.from_numpy(rng.random(len(region)) < hidden)] = 0
    return _Episode(
        statistics=statistics,
        region=region,
        z=_flat(statistics, one.counts[shown]),
        label=torch.from_numpy(one.label[shown]),
        asked=_flat(statistics, one.counts[wanted]),
        truth=torch.from_numpy(one.label[wanted]),
    )


def _loss(network: _Prior, episode: _Episode) -> Tensor:
    """Cross-entropy of what was asked, all classes weighing the same."""
    prior = network(torch.from_numpy(episode.statistics.identity), episode.region)
    logit = episode.asked @ network.posterior(prior, episode.z, episode.label) * network.log_sharpness.exp()
    if not len(logit):  # of none of them the class is known
        return logit.sum()
    count = torch.bincount(episode.truth, minlength=network.classes).clamp_min(1)
    return nn.functional.cross_entropy(logit, episode.truth, weight=1 / count)


def _flat(statistics: TrialStatistics, counts: Floats) -> Tensor:
    """[trial, unit and patch] in SDs."""
    return torch.from_numpy(statistics.standardised(counts)).flatten(1)


def _indices(region: Sequence[str], regions: Sequence[str]) -> Tensor:
    """Return numbers of regions, [unit]; 0 is one that was not met."""
    number = {name: index for index, name in enumerate(regions, start=1)}
    return torch.tensor([number.get(name, 0) for name in region])
