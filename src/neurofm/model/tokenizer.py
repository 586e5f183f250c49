"""Tokenizers: one patch of one visible channel becomes one token, in each modality's own way."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def to_patches(x: Tensor, *, patch: int) -> Tensor:
    """[window, time, channel] -> [window, patches, channel, patch]."""
    windows, time, channels = x.shape
    return x.reshape(windows, time // patch, patch, channels).transpose(2, 3)


class PatchTokenizer(nn.Module):
    """Linear embedding of a patch of values, as measured and as smoothed by the linear core.

    Parameters
    ----------
    patch
        Samples in a patch.
    width
        Size of a token.
    """

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(2 * patch, width)

    def forward(self, values: Tensor, smoothed: Tensor) -> Tensor:
        """Embed visible channels.

        Parameters
        ----------
        values, smoothed
            [window, time, visible] z units.

        Returns
        -------
        [window, patches, visible, width]
        """
        pieces = [to_patches(values, patch=self.patch), to_patches(smoothed, patch=self.patch)]
        tokens: Tensor = self.embed(torch.cat(pieces, dim=-1))
        return tokens
