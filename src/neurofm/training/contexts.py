"""Context: all that the model may know of a recording before it predicts, from samples that may be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurofm.model.core import CoreSettings, LinearCore, Moments, moments
from neurofm.model.identity import identity_features
from neurofm.model.links import Scale
from neurofm.model.statistics import channel_statistics
from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.windows import RecordingView


@dataclass(frozen=True, kw_only=True)
class CoreChoice:
    """What was chosen on validation data for one set of channels."""

    core: CoreSettings
    rate_floor: float


@dataclass(frozen=True, kw_only=True)
class Context:
    """Identity, linear core and scale of one recording."""

    identity: Tensor
    """[channel, IDENTITY_FEATURES] float32"""
    core: LinearCore
    scale: Scale


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


def scale_of(view: RecordingView, *, rate_floor: float) -> Scale:
    """Scale of all channels of a recording."""
    return Scale(
        mean=torch.from_numpy(view.normaliser.mean), sd=torch.from_numpy(view.normaliser.sd), rate_floor=rate_floor
    )


def make_context(view: RecordingView, *, calibration: Sequence[Segment], prior: Moments, choice: CoreChoice) -> Context:
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
    """
    own = moments_of(view, calibration, sds_samples=choice.core.smoothing_samples)
    return Context(
        identity=identity_of(view, calibration),
        core=LinearCore.fit(own, prior, settings=choice.core),
        scale=scale_of(view, rate_floor=choice.rate_floor),
    )
