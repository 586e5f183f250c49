"""Links: from the core's estimate and the network's residual to a prediction, per modality.

Spikes are predicted as a log rate, everything else in z units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurofm.model.bank import log_rate
from neurofm.recording import Modality


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What turns z units of some channels back into what was measured."""

    mean: Tensor
    """[channel] float64"""
    sd: Tensor
    """[channel] float64"""
    rate_floor: float
    """Smallest rate that the linear core may predict, as a share of the mean rate (spikes only)."""
    sharpness: float | None = None
    """Of the bend that keeps a bank's rates positive (`neurofm.model.bank.log_rate`) in place of the smallest rate
    (spikes only); None bends nothing."""

    def of(self, channels: Tensor) -> Scale:
        """Return the scale of some channels."""
        return replace(self, mean=self.mean[channels], sd=self.sd[channels])


def predict(modality: Modality, *, linear: Tensor, residual: Tensor, scale: Scale) -> Tensor:
    """Add the residual where it belongs.

    Parameters
    ----------
    modality
        Decides the scale: log counts per bin for spikes, z units otherwise.
    linear
        [window, time, channel] estimate of the core, z units.
    residual
        [window, time, channel] of the network, already times its gain.
    scale
        Of the same channels.
    """
    if modality is not Modality.SPIKES:
        return linear + residual
    if scale.sharpness is not None:
        return log_rate(linear, mean=scale.mean, sd=scale.sd, sharpness=scale.sharpness) + residual
    rate = torch.maximum(linear * scale.sd + scale.mean, scale.rate_floor * scale.mean)
    return torch.log(rate) + residual


def target(modality: Modality, z: Tensor, *, scale: Scale) -> Tensor:
    """[window, time, channel] z units -> what `predict` is compared with: counts for spikes."""
    return z * scale.sd + scale.mean if modality is Modality.SPIKES else z


def to_z(modality: Modality, prediction: Tensor, *, scale: Scale) -> Tensor:
    """Turn what `predict` gave into z units."""
    return (prediction.exp() - scale.mean) / scale.sd if modality is Modality.SPIKES else prediction
