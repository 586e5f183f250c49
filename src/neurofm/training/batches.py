"""Batches: windows of one recording with some channels hidden, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.model import LOSSES, NeuroFM, Scale, predict, smooth, target
from neurofm.recording import Modality
from neurofm.training.contexts import Context
from neurofm.windows import RecordingView


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one recording that share one set of hidden channels."""

    modality: Modality
    sampling_rate_hz: float
    values: Tensor
    """[window, time, visible] float32, z units."""
    smoothed: Tensor
    """[window, time, visible] float32, as the core smooths them."""
    linear: Tensor
    """[window, time, hidden] float64: estimate of the linear core, z units."""
    visible_identity: Tensor
    hidden_identity: Tensor
    scale: Scale
    """Of the hidden channels."""


def make_batch(
    view: RecordingView, context: Context, *, seen: Tensor, visible: Tensor, hidden: Tensor
) -> Batch:
    """Put together what the model predicts from.

    Parameters
    ----------
    view, context
        The recording and what is known of it.
    seen
        [window, time, visible] float32 z units of the visible channels, all that is seen of the windows.
    visible, hidden
        int64 channel indices.
    """
    smoothed = smooth(seen.double(), sd_samples=context.core.settings.smoothing_samples)
    return Batch(
        modality=view.modality,
        sampling_rate_hz=view.sampling_rate_hz,
        values=seen,
        smoothed=smoothed.float(),
        linear=smoothed @ context.core.weights(visible, hidden),
        visible_identity=context.identity[visible],
        hidden_identity=context.identity[hidden],
        scale=context.scale.of(hidden),
    )


def residual_of(network: NeuroFM, batch: Batch) -> Tensor:
    """[window, time, hidden] float32 correction by the network."""
    latents = network.encode(
        batch.modality,
        values=batch.values,
        smoothed=batch.smoothed,
        identity=batch.visible_identity,
        sampling_rate_hz=batch.sampling_rate_hz,
    )
    return network.residual(
        batch.modality, latents=latents, linear=batch.linear.float(), identity=batch.hidden_identity
    )


def loss_of(batch: Batch, *, residual: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean loss over the samples that count.

    Parameters
    ----------
    batch
        With the linear core's estimate.
    residual
        [window, time, hidden], already times its gain.
    truth
        [window, time, hidden] z units.
    counts
        [window, time] bool.
    """
    prediction = predict(batch.modality, linear=batch.linear, residual=residual.double(), scale=batch.scale)
    wanted = target(batch.modality, truth.double(), scale=batch.scale)
    each = LOSSES[batch.modality](prediction, wanted)[counts]
    # Windows without one valid sample teach nothing.
    return each.sum() / max(each.numel(), 1)


def null_loss(view: RecordingView, z: Tensor, *, scale: Scale) -> float:
    """Mean loss of predicting each usable channel's mean.

    Parameters
    ----------
    view
        For its modality and usable channels.
    z
        [sample, channel] valid samples, z units.
    scale
        Of all channels.
    """
    usable = torch.from_numpy(np.flatnonzero(view.usable))
    known = scale.of(usable)
    wanted = target(view.modality, z[:, usable].double(), scale=known)
    nothing = torch.zeros_like(wanted)
    constant = predict(view.modality, linear=nothing, residual=nothing, scale=known)
    return float(LOSSES[view.modality](constant, wanted).mean())


def cut(view: RecordingView, starts: npt.NDArray[np.int64], *, window_samples: int) -> tuple[Tensor, Tensor]:
    """Cut windows out of a recording.

    Returns
    -------
    z [window, time, channel] float32 and valid [window, time] bool.
    """
    z = np.stack([view.z(int(start), int(start) + window_samples) for start in starts])
    valid = np.stack([view.valid[start : start + window_samples] for start in starts])
    return torch.from_numpy(z), torch.from_numpy(valid)
