"""Context: all that the model may know of a recording before it predicts, from samples that may be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neurofm.model.bank import Bank, BankMixture, MemberSettings, SmoothedSums, smoothed_sums
from neurofm.model.core import CoreSettings, LinearCore, Moments, moments
from neurofm.model.identity import identity_features
from neurofm.model.links import Scale
from neurofm.model.statistics import STATISTICS, channel_statistics
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.windows import RecordingView

CoreKind = Literal["linear", "bank", "mixture", "none"]
"""What predicts: the linear core; a bank whose members weigh the same; both, weighed by who a channel is; or nothing,
so that the network starts from the mean."""
_OF_BANKS = ("bank", "mixture")
SHARPNESS = 4.0
"""Of the bend that keeps a bank's rates positive, as the trials on spikes chose it."""


@dataclass(frozen=True, kw_only=True)
class CoreChoice:
    """What was chosen on validation data for one set of channels."""

    core: CoreSettings
    rate_floor: float
    kind: CoreKind = "linear"


@dataclass(frozen=True, kw_only=True)
class ModalityBank:
    """The bank of a modality: what its members are, and how they and the linear core are weighed for a `mixture`."""

    members: tuple[MemberSettings, ...]
    mixture: BankMixture


@dataclass(frozen=True, kw_only=True)
class MixedBank:
    """The bank of one recording, and how its members are weighed."""

    bank: Bank
    """Of all channels; those that are not usable share nothing with others."""
    features: Tensor
    """[channel, feature] float64: what weights are learned from; 0 for channels that are not usable."""
    weights: Tensor
    """[channel, 1 + member] float64: of the linear core, then of the members."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Identity, cores and scale of one recording."""

    identity: Tensor
    """[channel, IDENTITY_FEATURES] float32"""
    core: LinearCore
    """The network is told its correlations and what it smooths, whatever predicts."""
    scale: Scale
    bank: MixedBank | None = None
    """Predicts in place of the linear core, or with it."""
    predicts: bool = True
    """Whether any core does."""

    def estimate(self, values: Tensor, *, smoothed: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Estimate hidden channels from visible ones.

        Parameters
        ----------
        values
            [window, time, visible] float64 z units.
        smoothed
            [window, time, scale, visible] float64: `values` at the scales of the linear core.
        visible, hidden
            int64 channel indices.

        Returns
        -------
        [window, time, hidden] float64 z units.
        """
        if not self.predicts:
            return torch.zeros(*values.shape[:2], len(hidden), dtype=values.dtype)
        if self.bank is None:
            return self.core.estimate(smoothed, visible=visible, hidden=hidden)
        weights = self.bank.weights[hidden]
        mixed = self.bank.bank.blend(values, visible=visible, hidden=hidden, weights=weights[:, 1:])
        if not weights[:, 0].any():
            return mixed
        return mixed + weights[:, 0] * self.core.estimate(smoothed, visible=visible, hidden=hidden)


def identity_of(view: RecordingView, segments: Sequence[Segment]) -> Tensor:
    """[channel, IDENTITY_FEATURES] from the valid samples of `segments` only; what is not valid is skipped over."""
    parts = [view.values(s.start, s.stop)[view.valid[s.start : s.stop]] for s in segments]
    statistics = channel_statistics(
        parts, counts=view.modality is Modality.SPIKES, sampling_rate_hz=view.sampling_rate_hz
    )
    return identity_features(view.position, statistics)


def moments_of(
    view: RecordingView, segments: Sequence[Segment], *, sds_samples: Sequence[float], channels: Tensor | None = None
) -> Moments:
    """Moments of the samples of `segments` only; smoothing does not reach across their borders.

    Where `channels` (int64) are given, those of them alone.
    """
    chosen = slice(None) if channels is None else channels
    return moments(
        [torch.from_numpy(view.z(s.start, s.stop))[:, chosen].double() for s in segments],
        valid=[torch.from_numpy(view.valid[s.start : s.stop]) for s in segments],
        sds_samples=sds_samples,
        channels=len(view.channel_ids) if channels is None else len(channels),
    )


def usable_of(view: RecordingView) -> Tensor:
    """Return the usable channels, int64."""
    return torch.from_numpy(np.flatnonzero(view.usable))


def bank_of(view: RecordingView, segments: Sequence[Segment], *, members: Sequence[MemberSettings]) -> Bank:
    """Solve a bank from the samples of `segments` only; smoothing does not reach across their borders.

    Invalid samples are not counted. In the smoothing of their neighbours they are 0, the channel's mean, and weigh like
    any other: so they are in windows too, where nobody knows which samples are valid, and what is solved here must be
    of the same signal.

    Returns
    -------
    A bank of the usable channels.
    """
    usable = usable_of(view)
    total = SmoothedSums.zero(channels=len(usable), sds_samples=[member.smoothing_samples for member in members])
    for s in segments:
        z = torch.from_numpy(view.z(s.start, s.stop)).double()[None, :, usable]
        valid = torch.from_numpy(view.valid[s.start : s.stop])[None]
        total = total + smoothed_sums(z, members=members, valid=valid)
    if not total.samples:
        # Nothing is known: as if all channels were independent, which predicts the mean.
        total = SmoothedSums(samples=1.0, products={sd: torch.eye(len(usable)).double() for sd in total.products})
    return Bank.fit(total, members=members)


def mixing_features(identity: Tensor, bank: Bank) -> Tensor:
    """[channel, 12 + member] float64: statistics, and what the members explain; no size depends on a recording.

    Parameters
    ----------
    identity
        [channel, IDENTITY_FEATURES] of the channels of `bank`.
    bank
        Made from the same samples.
    """
    return torch.cat([identity[:, -len(STATISTICS) :].double(), bank.communality().sqrt()], dim=1)


def scale_of(view: RecordingView, *, rate_floor: float, kind: CoreKind = "linear") -> Scale:
    """Scale of all channels of a recording."""
    return Scale(
        mean=torch.from_numpy(view.normaliser.mean),
        sd=torch.from_numpy(view.normaliser.sd),
        rate_floor=rate_floor,
        sharpness=SHARPNESS if kind in _OF_BANKS else None,
    )


def _mixed(
    view: RecordingView, *, calibration: Sequence[Segment], identity: Tensor, kind: CoreKind, shared: ModalityBank
) -> MixedBank:
    """Solve a recording's bank and weigh its members; `identity` is of the same samples."""
    usable, channels = usable_of(view), len(view.channel_ids)
    bank = bank_of(view, calibration, members=shared.members)
    found = mixing_features(identity[usable], bank)
    features = torch.zeros(channels, found.shape[1], dtype=torch.float64)
    features[usable] = found
    members = len(shared.members)
    if kind == "mixture":
        with torch.no_grad():
            weights = shared.mixture.weights(features)
    else:
        weights = torch.tensor([0.0] + [1 / members] * members).double().expand(channels, -1)
    return MixedBank(bank=bank.among(usable, channels=channels), features=features, weights=weights)


def make_context(
    view: RecordingView,
    *,
    calibration: Sequence[Segment],
    prior: Moments,
    choice: CoreChoice,
    shared: ModalityBank | None = None,
) -> Context:
    """Describe a recording.

    Parameters
    ----------
    view
        The recording.
    calibration
        The only samples of it that are looked at.
    prior
        Moments of other recordings of the same channels, with the smoothing of `choice`.
    choice
        Core settings.
    shared
        The bank of the recording's modality, where `choice` is one.
    """
    identity = identity_of(view, calibration)
    bank = None
    if choice.kind in _OF_BANKS:
        if shared is None:
            msg = f"{view.name}: {choice.kind} was chosen, and there is no bank of {view.modality}"
            raise ValueError(msg)
        bank = _mixed(view, calibration=calibration, identity=identity, kind=choice.kind, shared=shared)
    own = moments_of(view, calibration, sds_samples=choice.core.smoothing_samples)
    return Context(
        identity=identity,
        core=LinearCore.fit(own, prior, settings=choice.core),
        scale=scale_of(view, rate_floor=choice.rate_floor, kind=choice.kind),
        bank=bank,
        predicts=choice.kind != "none",
    )
