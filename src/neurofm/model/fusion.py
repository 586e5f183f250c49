"""Fusion: latents gather what one to five modalities say of the same window.

Jaegle et al. 2021, "Perceiver", arXiv:2103.03206; latents have times of their own as in POYO (arXiv:2310.16046).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neurofm.model.attention import AttentionBlock
from neurofm.model.tokens import Tokens


class PerceiverFusion(nn.Module):
    """Latents, spread evenly over the window, look at the tokens of all modalities, then at each other.

    Parameters
    ----------
    width, heads, expansion, dropout
        Of the attention.
    latents
        How many.
    layers
        Blocks among the latents.
    """

    def __init__(self, *, width: int, heads: int, expansion: int, dropout: float, latents: int, layers: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) / math.sqrt(width))
        self.gather, *among = (
            AttentionBlock(width=width, heads=heads, expansion=expansion, dropout=dropout) for _ in range(1 + layers)
        )
        self.among = nn.ModuleList(among)

    def forward(self, sequence: Tokens) -> Tokens:
        """Gather the tokens of all modalities into latents."""
        first, last = sequence.time_s.amin(dim=1, keepdim=True), sequence.time_s.amax(dim=1, keepdim=True)
        spread = (torch.arange(len(self.latents), device=first.device) + 0.5) / len(self.latents)
        time_s = first + (last - first) * spread
        x = self.gather(
            self.latents.expand(len(first), -1, -1),
            sequence.x,
            time_s=time_s,
            memory_time_s=sequence.time_s,
            mask=sequence.counts.unsqueeze(1),
        )
        for block in self.among:
            x = block(x, time_s=time_s)
        return Tokens(x=x, time_s=time_s, counts=torch.ones_like(time_s, dtype=torch.bool))


def keep_modalities(windows: int, modalities: int, *, dropout: float, device: torch.device) -> Tensor:
    """Choose which modalities training does without, window by window; at least one is kept.

    Parameters
    ----------
    windows, modalities
        Of the batch.
    dropout
        Share that is dropped, before one is kept.
    device
        Of the result.

    Returns
    -------
    [window, modality] bool: True is kept.
    """
    drawn = torch.rand(windows, modalities, device=device)
    return (drawn >= dropout) | (drawn == drawn.amax(dim=1, keepdim=True))
