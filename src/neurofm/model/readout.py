"""Readout: what the window's latents say about any channel, asked for by its identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelReadout(nn.Module):
    """Answer queries made of a channel's identity and the linear core's estimate of it.

    Parameters
    ----------
    width
        Size of latents, identities and answers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latent_norm = nn.LayerNorm(width)
        self.latent = nn.Linear(width, width)
        self.identity = nn.Linear(width, width)
        self.answer = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU())

    def forward(self, latents: Tensor, identity: Tensor, estimates: Tensor) -> Tensor:
        """Answer one query per channel and patch.

        Parameters
        ----------
        latents
            [window, patch, width]
        identity
            [channel, width] of the channels asked for, visible or hidden.
        estimates
            [window, patch, channel, width] embedded estimates of the linear core.

        Returns
        -------
        [window, patch, channel, width]
        """
        # The product lets a channel's identity choose which latents concern it.
        matched = self.latent(self.latent_norm(latents)).unsqueeze(2) * self.identity(identity)
        answer: Tensor = self.answer(torch.cat([matched, estimates + identity], dim=-1))
        return answer
