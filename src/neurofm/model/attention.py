"""Attention: queries gather from a memory, by content and by real seconds, and the maps can be taken out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

_PERIODS_S = (0.2, 200.0)
"""Shortest and longest period of the rotary encoding: from a patch of spikes to a window of fMRI."""


class RotaryTime(nn.Module):
    """Rotary encoding of real seconds, so that a second means the same at every sampling rate.

    Su et al. 2021, arXiv:2104.09864, with periods in seconds.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        shortest, longest = (math.log(period) for period in _PERIODS_S)
        periods = torch.exp(torch.linspace(shortest, longest, head_width // 2))
        self.register_buffer("frequency", 2 * math.pi / periods, persistent=False)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """Rotate [window, head, place, head_width] by the places' times, [place] or [window, 1, place]."""
        angle = time_s.unsqueeze(-1) * self.get_buffer("frequency")
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Attend(nn.Module):
    """softmax(query key' / sqrt(width)) value; the maps themselves are made only while `attention_maps` watches."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[Tensor] | None = None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Gather values.

        Parameters
        ----------
        query, key, value
            [window, head, query or key, head_width]
        mask
            bool, broadcast to [window, head, query, key]: True where a query may look. Each query must have a key.
        causal
            Whether a query looks no further than its own place; instead of a mask, which fast kernels do not take.

        Returns
        -------
        [window, head, query, head_width]
        """
        if self.watched is not None:
            earlier = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
            self.watched.append(_weights(query, key, earlier if causal else mask).detach())
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    score = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is not None:
        score = score.masked_fill(~mask, -math.inf)
    return score.softmax(dim=-1)


@contextmanager
def attention_maps(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Take out the attention maps of every forward pass inside the `with` block.

    Yields
    ------
    By the name of the module: [window, head, query, key] per call, in the order of the calls (a backbone is called
    once per modality). Each row sums to 1.
    """
    watched = {name: module for name, module in network.named_modules() if isinstance(module, Attend)}
    maps: dict[str, list[Tensor]] = {name: [] for name in watched}
    for name, module in watched.items():
        module.watched = maps[name]
    try:
        yield maps
    finally:
        for module in watched.values():
            module.watched = None


class AttentionBlock(nn.Module):
    """Pre-norm attention to a memory, or among the queries themselves, then a feed-forward; each is added.

    Parameters
    ----------
    width
        Of queries and memory.
    heads
        Attention heads.
    expansion
        Width of the feed-forward's inner layer over `width`.
    dropout
        Of what is added.
    """

    def __init__(self, *, width: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rotary = RotaryTime(width // heads)
        self.norm_query, self.norm_memory = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.attend = Attend()
        self.project_out = nn.Linear(width, width)
        self.feed_forward = feed_forward(width=width, expansion=expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        time_s: Tensor | None = None,
        memory_time_s: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Let queries look.

        Parameters
        ----------
        x
            [window, query, width]
        memory
            [window, key, width]; the queries themselves where there is none.
        time_s, memory_time_s
            [window, query] and [window, key] seconds; without them attention is by content alone.
        mask
            bool, broadcast to [window, query, key]: True where a query may look.

        Returns
        -------
        [window, query, width]
        """
        if memory is None:
            memory, memory_time_s = x, time_s
        query = self._split(self.query(self.norm_query(x)))
        key, value = (self._split(part) for part in self.key_value(self.norm_memory(memory)).chunk(2, dim=-1))
        if time_s is not None and memory_time_s is not None:
            query, key = self.rotary(query, time_s.unsqueeze(1)), self.rotary(key, memory_time_s.unsqueeze(1))
        attended = self.attend(query, key, value, mask=None if mask is None else mask.unsqueeze(1))
        x = x + self.dropout(self.project_out(attended.transpose(1, 2).flatten(2)))
        result: Tensor = x + self.dropout(self.feed_forward(x))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """[window, place, width] -> [window, head, place, head_width]."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


def feed_forward(*, width: int, expansion: int) -> nn.Sequential:
    """Norm, widen, bend, narrow."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
    )
