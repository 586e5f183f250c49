"""GRU: a recurrent layer, the cheapest for short windows on a CPU (Cho et al. 2014, arXiv:1406.1078)."""

from __future__ import annotations

from torch import Tensor, nn


class GRULayer(nn.Module):
    """One pre-norm gated recurrent unit, added to its input; half the width per direction unless causal.

    Parameters
    ----------
    width, dropout
        As in every backbone.
    causal
        Whether a patch sees earlier ones only.
    """

    def __init__(self, *, width: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.recurrent = nn.GRU(width, width if causal else width // 2, batch_first=True, bidirectional=not causal)
        self.project_out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:  # noqa: ARG002 - it counts patches, not seconds
        """[window, patch, width] -> the same."""
        read, _ = self.recurrent(self.norm(x))
        result: Tensor = x + self.dropout(self.project_out(read))
        return result
