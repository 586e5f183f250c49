"""Short calibrations: steps that know a recording from a short piece of it only, as a new recording is known.

What is known after 20 trials is not what is known after 200: correlations are found where there are none, and rates are
off. With `pretrain.short_calibrations` a share of steps takes everything that describes a recording (mean and SD, core,
bank, mixture, identity) from a short piece of the calibration of their episode, so that targets are never in it. How
much data there was is one of the statistics of a channel, so that the weights of a mixture and the network can learn
what to make of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neurofm.recording import Modality
from neurofm.splits import Segment
from neurofm.training.contexts import Context, usable_of
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, fit_normaliser
from neurofm.windows.often import fired_often

MODALITIES = (Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE)
"""Whose channels are a recording's own: of an atlas or a montage others' recordings say more than a short piece."""
_DRAW = 3
"""Sets these draws apart from those of windows, masks and partners of the same seed and step."""


@dataclass(frozen=True, kw_only=True)
class ShortKnown:
    """A recording as a short piece of it shows it."""

    view: RecordingView
    """Normalised by the piece, which is its calibration."""
    context: Context
    seen: Tensor
    """[channel] bool: fit to be looked at. Units that seldom fired are not, in evaluation neither."""

    def channels(self, visible: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Leave out of int64 channel indices those that the piece says nothing of."""
        usable = torch.from_numpy(self.view.usable)
        return visible[self.seen[visible]], hidden[usable[hidden]]


def short_at(number: int, modality: Modality, *, settings: PretrainSettings) -> float | None:
    """Draw how many seconds a training step knows, apart from all other draws of the step; None is all."""
    short = settings.short_calibrations
    if not short.share or modality not in MODALITIES:
        return None
    rng = np.random.default_rng([settings.seed, number, _DRAW])
    if rng.random() >= short.share:
        return None
    return short.seconds[int(rng.integers(len(short.seconds)))]


def piece_of(view: RecordingView, calibration: Sequence[Segment], *, seconds: float, seed: int) -> tuple[Segment, ...]:
    """Draw a stretch of so many valid seconds of a calibration.

    Parameters
    ----------
    view
        For what is valid, and for its name, which the draw depends on.
    calibration
        Laid end to end, the stretch lies in it; where there is less, all of it is taken.
    seconds
        Of valid samples.
    seed
        Of the draw.
    """
    parts = sorted(calibration, key=lambda part: part.start)  # Episodes have theirs in another order.
    valid = np.concatenate([np.flatnonzero(view.valid[part.start : part.stop]) + part.start for part in parts])
    wanted = max(1, round(seconds * view.sampling_rate_hz))
    if len(valid) <= wanted:
        return tuple(calibration)
    # Like a new recording's, the piece begins where a stretch of valid samples does: trials are not cut in two.
    begins = np.flatnonzero(np.diff(valid, prepend=valid[0] - 2) > 1)
    begins = begins[begins + wanted <= len(valid)]
    said = f"{view.name} {calibration[0].start} {seconds:g}"  # Where its first part starts, an episode's own.
    digest = int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "little")
    rng = np.random.default_rng([seed, digest, _DRAW])
    # In a recording without pauses a stretch begins anywhere.
    first = int(rng.choice(begins)) if len(begins) > 1 else int(rng.integers(len(valid) - wanted + 1))
    low, high = int(valid[first]), int(valid[first + wanted - 1]) + 1
    cut = ((max(part.start, low), min(part.stop, high)) for part in parts)
    return tuple(Segment(start=start, stop=stop) for start, stop in cut if start < stop)


def known_from(view: RecordingView, piece: Sequence[Segment]) -> RecordingView:
    """Return a recording as one that is normalised by a piece, and has no other calibration."""
    parts = [view.values(part.start, part.stop)[view.valid[part.start : part.stop]] for part in piece]
    return replace(
        view,
        roles=view.roles.model_copy(update={"calibration": tuple(piece)}),
        normaliser=fit_normaliser(parts, usable=view.usable),
    )


def seen_of(view: RecordingView) -> Tensor:
    """[channel] bool: usable, and of spikes those that fired often in the calibration."""
    seen = torch.zeros(len(view.channel_ids), dtype=torch.bool)
    seen[usable_of(view)] = True
    return seen & torch.from_numpy(fired_often(view)) if view.modality is Modality.SPIKES else seen


def restandardised(z: Tensor, counts: Tensor, *, whole: RecordingView, short: RecordingView) -> Tensor:
    """Turn SDs of one normaliser into those of another.

    Parameters
    ----------
    z
        [window, time, channel] float32 in SDs of `whole`.
    counts
        [window, time] bool: valid samples; others stay 0.
    whole, short
        The recording twice, normalised differently.

    Returns
    -------
    [window, time, channel] float32; 0 for channels that `short` cannot use.
    """
    old, new = whole.normaliser, short.normaliser
    gain = torch.from_numpy(np.where(new.usable, old.sd / new.sd, 0.0))
    bias = torch.from_numpy(np.where(new.usable, (old.mean - new.mean) / new.sd, 0.0))
    return torch.where(counts.unsqueeze(-1), z.double() * gain + bias, 0.0).float()
