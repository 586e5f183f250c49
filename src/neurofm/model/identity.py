"""Channel identity: who a channel is, from its position and its statistics, never from its number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.model.statistics import STATISTICS

IDENTITY_FEATURES = 3 + 1 + len(STATISTICS)
"""Position, whether it is known, statistics."""


def identity_features(position: npt.NDArray[np.float32], statistics: npt.NDArray[np.float32]) -> Tensor:
    """Put together what the identity is made of.

    Parameters
    ----------
    position
        [channel, 3] in any unit; NaN where unknown. Centred and scaled by the recording's own extent (5th to
        95th percentile), since units and spaces differ between recordings.
    statistics
        [channel, len(STATISTICS)]

    Returns
    -------
    [channel, IDENTITY_FEATURES] float32; unknown positions are 0 and flagged.
    """
    known = np.asarray(np.isfinite(position).all(axis=1))
    scaled = np.zeros_like(position, dtype=np.float32)
    if known.any():
        low, middle, high = np.percentile(position[known], [5, 50, 95], axis=0)
        extent = max(float((high - low).max()) / 2, 1e-6)
        scaled[known] = np.clip((position[known] - middle) / extent, -3, 3)
    return torch.from_numpy(np.concatenate([scaled, known[:, None], statistics], axis=1).astype(np.float32))


class ChannelIdentity(nn.Module):
    """Embed channels from their identity features.

    Parameters
    ----------
    width
        Size of the embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(IDENTITY_FEATURES, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """[channel, IDENTITY_FEATURES] -> [channel, width]."""
        embedded: Tensor = self.layers(features)
        return embedded
