"""Readout: what the window's latents say about any channel, asked for by its identity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PairMessages(nn.Module):
    """Gather for each channel asked for the tokens of the visible channels that bear on it.

    How much of each token is taken follows from the pair's correlation in the linear core, so channels never met
    in training are related to each other in context, without any learned embedding of their own.

    Parameters
    ----------
    width
        Size of tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor, correlations: Tensor, counts: Tensor | None = None) -> Tensor:
        """Sum tokens over visible channels.

        Parameters
        ----------
        tokens
            [window, patch, visible, width]
        correlations
            [channel, visible]
        counts
            [window, patch, visible] bool: False is a token that is 0, for what is not there.

        Returns
        -------
        [window, patch, channel, width]
        """
        kernel = self.kernel(correlations.unsqueeze(-1))
        if counts is None:
            return torch.einsum("wkvd,hvd->wkhd", tokens, kernel / math.sqrt(correlations.shape[1]))
        there = counts.sum(dim=2).clamp_min(1).sqrt()
        return torch.einsum("wkvd,hvd->wkhd", tokens, kernel) / there[..., None, None]


class ChannelReadout(nn.Module):
    """Answer queries made of a channel's identity, the linear core's estimate of it, and messages to it.

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
        self.answer = nn.Sequential(nn.LayerNorm(3 * width), nn.Linear(3 * width, width), nn.GELU())

    def forward(self, latents: Tensor, *, identity: Tensor, estimates: Tensor, messages: Tensor) -> Tensor:
        """Answer one query per channel and patch.

        Parameters
        ----------
        latents
            [window, patch, width]
        identity
            [channel, width] of the channels asked for, visible or hidden.
        estimates
            [window, patch, channel, width] embedded estimates of the linear core.
        messages
            [window, patch, channel, width] from `PairMessages`.

        Returns
        -------
        [window, patch, channel, width]
        """
        # The product lets a channel's identity choose which latents concern it.
        matched = self.latent(self.latent_norm(latents)).unsqueeze(2) * self.identity(identity)
        answer: Tensor = self.answer(torch.cat([matched, estimates + identity, messages], dim=-1))
        return answer
