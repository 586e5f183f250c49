"""PopT readout: a summary of the window and any channels asked for, met or not, look at what was seen.

After the population transformer (Chau et al. 2024, arXiv:2406.03044), whose [CLS] and channel tokens attend to each
other; here channel tokens start as questions, so the same module decodes channels that were hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofm.model.attention import AttentionBlock
from neurofm.model.tokens import Tokens

_SAME_TIME_S = 1e-4


class PopT(nn.Module):
    """Questions look at the sequence, at the latents where there are any, and at each other.

    Parameters
    ----------
    width, heads, expansion, dropout
        Of the attention.
    layers
        Blocks among the questions.
    latents
        Whether there are latents.
    causal
        Whether a question sees only what was complete by its own time.
    """

    def __init__(
        self, *, width: int, heads: int, expansion: int, dropout: float, layers: int, latents: bool, causal: bool
    ) -> None:
        super().__init__()

        def block() -> AttentionBlock:
            return AttentionBlock(width=width, heads=heads, expansion=expansion, dropout=dropout)

        self.causal = causal
        self.summary = nn.Parameter(torch.randn(width) / math.sqrt(width))
        # For a question that may look at nothing else: before the first complete patch.
        self.nothing = nn.Parameter(torch.zeros(width))
        self.from_sequence = block()
        self.from_latents = block() if latents else None
        self.among = nn.ModuleList(block() for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, questions: Tokens | None, *, sequence: Tokens, latents: Tokens | None) -> tuple[Tensor, Tensor]:
        """Answer.

        Parameters
        ----------
        questions
            What is asked for; None for the summary alone.
        sequence
            Tokens of all modalities.
        latents
            Of the fusion, where the model has one.

        Returns
        -------
        Summary [window, width] and answers [window, question, width].
        """
        asked = self._with_summary(questions, sequence)
        x = self.from_sequence(
            asked.x,
            torch.cat([self.nothing.expand(len(asked.x), 1, -1), sequence.x], dim=1),
            time_s=asked.time_s,
            memory_time_s=torch.cat([asked.time_s[:, :1], sequence.time_s], dim=1),
            mask=functional.pad(self._may_look(asked, sequence), (1, 0), value=True),
        )
        if self.from_latents is not None and latents is not None:
            x = self.from_latents(x, latents.x, time_s=asked.time_s, memory_time_s=latents.time_s)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        among = self._may_look(asked, asked) | itself
        for block in self.among:
            x = block(x, time_s=asked.time_s, mask=among)
        x = self.norm(x)
        return x[:, 0], x[:, 1:]

    def _with_summary(self, questions: Tokens | None, sequence: Tokens) -> Tokens:
        """Put the summary first. It stands at the end of the window: there it may see everything, causal or not."""
        last = sequence.time_s.amax(dim=1, keepdim=True)
        summary = Tokens(
            x=self.summary.expand(len(last), 1, -1), time_s=last, counts=torch.ones_like(last, dtype=torch.bool)
        )
        return summary if questions is None else Tokens.join([summary, questions])

    def _may_look(self, asked: Tokens, key: Tokens) -> Tensor:
        """[window, question or 1, key] bool."""
        looks = key.counts.unsqueeze(1)
        if self.causal:
            looks = looks & (key.time_s.unsqueeze(1) <= asked.time_s.unsqueeze(2) + _SAME_TIME_S)
        return looks
