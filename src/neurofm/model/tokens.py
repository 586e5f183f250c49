"""Tokens: vectors on one clock, some of which may be padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What attention across modalities works on."""

    x: Tensor
    """[window, token, width]"""
    time_s: Tensor
    """[window, token] seconds: when what a token is about is complete."""
    counts: Tensor
    """[window, token] bool: False is not looked at."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """One after the other."""
        return cls(
            x=torch.cat([part.x for part in parts], dim=1),
            time_s=torch.cat([part.time_s for part in parts], dim=1),
            counts=torch.cat([part.counts for part in parts], dim=1),
        )
