"""Backbones: patches of a window exchange information along time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_PERIODS_S = (0.2, 200.0)
"""Shortest and longest period of the rotary encoding: from a patch of spikes to a window of fMRI."""


class RotaryTime(nn.Module):
    """Rotary encoding of real seconds, so that a second means the same at every sampling rate.

    Su et al. 2021, arXiv:2104.09864, with periods in seconds.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        shortest, longest = (math.log(period) for period in _PERIODS_S)
        periods = torch.exp(torch.linspace(shortest, longest, head_width // 2))
        self.register_buffer("frequency", 2 * math.pi / periods, persistent=False)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """Rotate [window, head, patch, head_width] by the patches' times [patch]."""
        angle = time_s.unsqueeze(-1) * self.get_buffer("frequency")
        cos, sin = angle.cos(), angle.sin()
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, each added to its input."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = RotaryTime(width // heads)
        self.norm_attention = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """[window, patch, width] -> the same."""
        parts = self.project_in(self.norm_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(self.rotary(query, time_s), self.rotary(key, time_s), value)
        x = x + self.dropout(self.project_out(attended.transpose(1, 2).flatten(2)))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result


class TransformerBackbone(nn.Module):
    """A stack of transformer layers over the patches of a window, in both directions of time."""

    def __init__(self, *, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(width=width, heads=heads, dropout=dropout) for _ in range(layers))

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """Let patches exchange information.

        Parameters
        ----------
        x
            [window, patch, width]
        time_s
            [patch] seconds.

        Returns
        -------
        [window, patch, width]
        """
        for layer in self.layers:
            x = layer(x, time_s)
        return x


BACKBONES: dict[str, Any] = {"transformer": TransformerBackbone}
"""Backbone per name in the settings."""
