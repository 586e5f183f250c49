"""Pooling: any number of visible channels, in any order, become one token per patch."""

from __future__ import annotations

import math

from torch import Tensor, nn


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

    def forward(self, tokens: Tensor, identity: Tensor) -> Tensor:
        """Pool over channels.

        Parameters
        ----------
        tokens
            [window, patches, visible, width]
        identity
            [visible, width]

        Returns
        -------
        [window, patches, width]
        """
        pooled = (tokens * identity).sum(dim=2) / math.sqrt(tokens.shape[2])
        normed: Tensor = self.norm(pooled)
        return normed
