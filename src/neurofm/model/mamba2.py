"""Mamba-2: a state space model whose cost grows with the length of a sequence, not with its square.

Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060, in plain PyTorch: the same code on CPU and GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_CHUNK = 64
_CONVOLUTION = 4
"""Samples that the short convolution looks back, itself counted."""
_STEP_RANGE = (1e-3, 1e-1)
"""Step sizes at the start, as in the paper's code."""


def ssd(x: Tensor, step: Tensor, log_decay: Tensor, write: Tensor, read: Tensor, *, chunk: int = _CHUNK) -> Tensor:
    """Run the recurrence of a state space model, chunk by chunk.

    Per head, with a state S [state, value] that starts at 0::

        S(t) = exp(log_decay(t)) S(t-1) + step(t) write(t) x(t)'
        y(t) = read(t)' S(t)

    Within a chunk this is masked attention; between chunks only states are handed on (section 6 of the paper).

    Parameters
    ----------
    x
        [window, time, head, value]
    step
        [window, time, head]: how much of `x` is written.
    log_decay
        [window, time, head], at most 0.
    write, read
        [window, time, state], shared by all heads.
    chunk
        Most samples of a chunk; a matter of speed only.

    Returns
    -------
    [window, time, head, value]
    """
    time = x.shape[1]
    # Chunks of one length with little to append: 65 samples are two of 33.
    chunk = math.ceil(time / math.ceil(time / chunk))
    short = -time % chunk
    if short:
        # What is appended writes nothing and comes last, so nothing before depends on it.
        x = functional.pad(x, (0, 0, 0, 0, 0, short))
        step, log_decay, write, read = (functional.pad(p, (0, 0, 0, short)) for p in (step, log_decay, write, read))
    x, write, read = (_in_chunks(part, chunk) for part in (x, write.unsqueeze(2), read.unsqueeze(2)))
    step, log_decay = (_in_chunks(part.unsqueeze(-1), chunk).squeeze(-1) for part in (step, log_decay))
    total = log_decay.cumsum(dim=-1)

    # Within chunks.
    y = (read @ write.transpose(-2, -1) * (_left_between(total) * step.unsqueeze(-2))) @ x
    if x.shape[2] > 1:
        # What each chunk leaves behind, and what of it is still there when a later chunk starts.
        left = (total[..., -1:] - total).exp() * step
        states = (write * left.unsqueeze(-1)).transpose(-2, -1) @ x  # [window, head, chunk, state, value]
        between = functional.pad(_left_between(total[..., -1].cumsum(dim=-1)), (0, 0, 1, -1))
        states = (between @ states.flatten(-2)).reshape(states.shape)
        y = y + (read * total.exp().unsqueeze(-1)) @ states
    return y.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :time]


def _in_chunks(x: Tensor, chunk: int) -> Tensor:
    """[window, time, head, size] -> [window, head, chunk, place, size]."""
    return x.transpose(1, 2).reshape(len(x), x.shape[2], -1, chunk, x.shape[3])


def _left_between(total: Tensor) -> Tensor:
    """[..., place] sums of log decays -> [..., i, j]: what of place j is left at i; nothing where j comes after i."""
    after = torch.ones(total.shape[-1], total.shape[-1], dtype=torch.bool, device=total.device).triu(1)
    # Masked before the exponential: what grows towards the past would overflow, and its gradient with it.
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(after, -math.inf).exp()


class Mamba2Layer(nn.Module):
    """One pre-norm Mamba-2 block, added to its input.

    In both directions of time unless causal: the same weights read the window forwards and backwards, and the mean
    of the two is taken.

    Parameters
    ----------
    width, heads, dropout
        As in every backbone. The block works at twice the width, so its heads are twice as wide.
    state
        Size of a head's memory per value.
    causal
        Whether a patch sees earlier ones only.
    """

    def __init__(self, *, width: int, heads: int, dropout: float, state: int, causal: bool) -> None:
        super().__init__()
        inner, self.heads, self.causal = 2 * width, heads, causal
        self.parts = [inner, inner + 2 * state, self.heads]
        self.inner = [inner, state, state]
        self.norm = nn.LayerNorm(width)
        self.project_in = nn.Linear(width, sum(self.parts), bias=False)
        mixed = self.parts[1]
        self.convolution = nn.Conv1d(mixed, mixed, _CONVOLUTION, groups=mixed, padding=_CONVOLUTION - 1)
        low, high = (math.log(step) for step in _STEP_RANGE)
        step = torch.exp(low + (high - low) * torch.rand(self.heads))
        self.step = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.seconds = nn.Parameter(torch.zeros(self.heads))
        self.log_rate = nn.Parameter(torch.log(1 + 15 * torch.rand(self.heads)))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm_out = nn.RMSNorm(inner)
        self.project_out = nn.Linear(inner, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time_s: Tensor) -> Tensor:
        """[window, patch, width] and [patch] seconds -> [window, patch, width]."""
        gate, mixed, step = torch.split(self.project_in(self.norm(x)), self.parts, dim=-1)
        if self.causal:
            y = self._scan(mixed, step, time_s)
        else:
            # Projections are the same in both directions: only what remembers is computed twice.
            both = self._scan(torch.cat([mixed, mixed.flip(1)]), torch.cat([step, step.flip(1)]), time_s)
            forwards, backwards = both.chunk(2)
            y = (forwards + backwards.flip(1)) / 2
        result: Tensor = x + self.dropout(self.project_out(self.norm_out(y * functional.silu(gate))))
        return result

    def _scan(self, mixed: Tensor, step: Tensor, time_s: Tensor) -> Tensor:
        """Run forwards in time: [window, patch, parts] and [window, patch, head] -> [window, patch, inner]."""
        mixed = self.convolution(mixed.transpose(1, 2))[..., : mixed.shape[1]].transpose(1, 2).contiguous()
        value, write, read = torch.split(functional.silu(mixed), self.inner, dim=-1)
        value = value.reshape(*value.shape[:-1], self.heads, -1)
        step = functional.softplus(step + self.step + self.seconds * _log_patch_seconds(time_s))
        y = ssd(value, step, -step * self.log_rate.exp(), write, read)
        return (y + value * self.skip.unsqueeze(-1)).flatten(2)


def _log_patch_seconds(time_s: Tensor) -> Tensor:
    """Log of the patches' distance, so that a step may mean seconds; 0 where there is one patch only."""
    if len(time_s) == 1:
        return torch.zeros_like(time_s[0])
    return (time_s[1] - time_s[0]).log()
