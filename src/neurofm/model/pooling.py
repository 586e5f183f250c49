"""Pooling: any number of visible channels, in any order, become a fixed number of tokens per patch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neurofm.model.attention import AttentionBlock


class IdentityPooling(nn.Module):
    """Sum of channel tokens, each weighted by its identity, over sqrt(number of visible channels).

    Parameters
    ----------
    width
        Size of tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, identity: Tensor, counts: Tensor | None = None) -> Tensor:
        """Pool over channels.

        Parameters
        ----------
        tokens
            [window, patch, visible, width]
        identity
            [visible, width], or as tokens where each window and patch has its own.
        counts
            [window, patch, visible] bool: False is padding.

        Returns
        -------
        [window, patch, width]
        """
        weighted = tokens * identity
        if counts is None:
            pooled = weighted.sum(dim=2) / math.sqrt(tokens.shape[2])
        else:
            there = counts.unsqueeze(-1)
            pooled = weighted.masked_fill(~there, 0.0).sum(dim=2) / there.sum(dim=2).clamp_min(1).sqrt()
        normed: Tensor = self.norm(pooled)
        return normed


class SlotPooling(nn.Module):
    """Learned slots look for what they want among the channels of a patch (set transformer, arXiv:1810.00825).

    Parameters
    ----------
    width, heads, expansion, dropout
        Of the attention.
    slots
        Tokens per patch.
    """

    def __init__(self, *, width: int, heads: int, expansion: int, dropout: float, slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(slots, width) / math.sqrt(width))
        self.look = AttentionBlock(width=width, heads=heads, expansion=expansion, dropout=dropout)

    def forward(self, tokens: Tensor, identity: Tensor, counts: Tensor) -> Tensor:
        """Let each slot look.

        Parameters
        ----------
        tokens, identity
            [window, patch, visible, width]
        counts
            [window, patch, visible] bool: False is padding.

        Returns
        -------
        [window, patch, slot, width]; without meaning where nothing is visible.
        """
        windows, patches = tokens.shape[:2]
        # A softmax over nothing is not a number.
        open_to = (counts | ~counts.any(dim=-1, keepdim=True)).flatten(0, 1).unsqueeze(1)
        memory = (tokens + identity).flatten(0, 1)
        pooled: Tensor = self.look(self.slots.expand(len(memory), -1, -1), memory, mask=open_to)
        return pooled.reshape(windows, patches, *pooled.shape[1:])
