"""Backbones: patches of a window exchange information along time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neurofm.model.attention import Attend, AttentionBlock, RotaryTime, feed_forward
from neurofm.model.gru import GRULayer
from neurofm.model.mamba2 import Mamba2Layer
from neurofm.model.settings import ModelSettings


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, each added to its input."""

    def __init__(self, *, width: int, heads: int, dropout: float, expansion: int = 2, causal: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.rotary = RotaryTime(width // heads)
        self.norm_attention = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, 3 * width)
        self.attend = Attend()
        self.project_out = nn.Linear(width, width)
        self.feed_forward = feed_forward(width=width, expansion=expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """[window, patch, width] -> the same."""
        parts = self.project_in(self.norm_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = self.attend(self.rotary(query, time_s), self.rotary(key, time_s), value, causal=self.causal)
        x = x + self.dropout(self.project_out(attended.transpose(1, 2).flatten(2)))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result


def _transformer(settings: ModelSettings) -> nn.Module:
    return TransformerLayer(
        width=settings.width,
        heads=settings.heads,
        dropout=settings.dropout,
        expansion=settings.expansion,
        causal=settings.causal,
    )


def _mamba2(settings: ModelSettings) -> nn.Module:
    return Mamba2Layer(
        width=settings.width,
        heads=settings.heads,
        dropout=settings.dropout,
        state=settings.state,
        causal=settings.causal,
    )


def _gru(settings: ModelSettings) -> nn.Module:
    return GRULayer(width=settings.width, dropout=settings.dropout, causal=settings.causal)


BACKBONES: dict[str, Callable[[ModelSettings], nn.Module]] = {
    "transformer": _transformer,
    "mamba2": _mamba2,
    "gru": _gru,
}
"""One layer of a backbone, per name in the settings: ([window, patch, width], [patch] seconds) -> the same shape."""


class TemporalBackbone(nn.Module):
    """A stack of layers over the patches of a window, in both directions of time unless causal.

    Parameters
    ----------
    settings
        Which layers, and of what size.
    layers
        How many.
    """

    def __init__(self, settings: ModelSettings, *, layers: int) -> None:
        super().__init__()
        self.checkpointing = settings.checkpointing
        self.layers = nn.ModuleList(BACKBONES[settings.backbone](settings) for _ in range(layers))

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
            if self.checkpointing and torch.is_grad_enabled():
                # Activations are computed again on the way back rather than kept: less memory, a third more work.
                x = checkpoint(layer, x, time_s, use_reentrant=False)
            else:
                x = layer(x, time_s)
        return x


class SlotBackbone(nn.Module):
    """A backbone for each slot, with the same weights, whose slots exchange information every few layers.

    Parameters
    ----------
    settings
        With `mix`, the number of layers between exchanges; 0 is none.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        every = settings.mix or settings.layers
        lengths = [min(every, settings.layers - done) for done in range(0, settings.layers, every)]
        self.over_time = nn.ModuleList(TemporalBackbone(settings, layers=length) for length in lengths)
        self.over_slots = nn.ModuleList(
            AttentionBlock(
                width=settings.width, heads=settings.heads, expansion=settings.expansion, dropout=settings.dropout
            )
            for _ in range(settings.layers // settings.mix if settings.mix else 0)
        )

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """[window, slot, patch, width] and [patch] seconds -> the same shape."""
        windows, slots, patches = x.shape[:3]
        for stage, over_time in enumerate(self.over_time):
            x = over_time(x.flatten(0, 1), time_s).reshape(windows, slots, patches, -1)
            if stage < len(self.over_slots):
                mixed = self.over_slots[stage](x.transpose(1, 2).flatten(0, 1))
                x = mixed.reshape(windows, patches, slots, -1).transpose(1, 2)
        return x
