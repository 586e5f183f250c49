"""Heads: from an answer to the values of a patch, in each modality's own scale."""

from __future__ import annotations

from torch import Tensor, nn


class PatchHead(nn.Module):
    """Linear map to a patch of residuals. It starts at exactly zero: the untrained model is its linear core.

    Parameters
    ----------
    patch
        Samples in a patch.
    width
        Size of an answer.
    """

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, patch)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, answers: Tensor) -> Tensor:
        """[window, patch, channel, width] -> [window, time, channel]."""
        patches: Tensor = self.project(answers)
        return patches.transpose(2, 3).flatten(1, 2)
