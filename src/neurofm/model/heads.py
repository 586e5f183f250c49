"""Heads: from what the model made of a window to numbers that mean something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from neurofm.recording import Modality


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


class ResidualHead(nn.Module):
    """Linear map of each answer, at exactly zero to begin with."""

    def __init__(self, *, width: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, outputs)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, read: Tensor) -> Tensor:
        """[..., width] -> [..., outputs]."""
        values: Tensor = self.project(read)
        return values


class LinearHead(nn.Module):
    """Norm and linear map: a probe, so that what is scored is the representation."""

    def __init__(self, *, width: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, read: Tensor) -> Tensor:
        """[..., width] -> [..., outputs]."""
        values: Tensor = self.project(read)
        return values


class SummaryHead(nn.Module):
    """Patches asked for, from the window's summary alone: it makes the summary hold the window.

    The second loss of REVE (El Ouahidi et al. 2025, arXiv:2510.21585).
    """

    def __init__(self, *, width: int, outputs: int) -> None:
        super().__init__()
        self.join = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU())
        self.project = ResidualHead(width=width, outputs=outputs)

    def forward(self, read: Tensor) -> Tensor:
        """[window, target, 2 * width], summary beside question -> [window, target, outputs]."""
        values: Tensor = self.project(self.join(read))
        return values


Reads = Literal["answers", "patches", "summary", "summary and questions"]


@dataclass(frozen=True, kw_only=True)
class HeadKind:
    """What a head reads, and what it is made of."""

    reads: Reads
    """`answers` [window, target, width] of one modality; `patches` [window, patch, width] of one; `summary` [window,
    width]; both `summary and questions` [window, target, 2 * width]."""
    make: Callable[..., nn.Module]
    """Called with `width` and `outputs`."""
    of_patch: bool = False
    """Whether outputs are the samples of a patch: residuals on the linear core."""


HEADS: dict[str, HeadKind] = {
    "reconstruction": HeadKind(reads="answers", make=ResidualHead, of_patch=True),
    "forecast": HeadKind(reads="answers", make=ResidualHead, of_patch=True),
    "pooled": HeadKind(reads="summary and questions", make=SummaryHead, of_patch=True),
    "behaviour": HeadKind(reads="patches", make=LinearHead),
    "classification": HeadKind(reads="summary", make=LinearHead),
    "subject": HeadKind(reads="summary", make=LinearHead),
    "replaced": HeadKind(reads="answers", make=LinearHead),
    "paired": HeadKind(reads="summary", make=LinearHead),
}
"""Head per kind of task. Reconstruction and forecast are residuals on the linear core; `behaviour` gives values per
patch, `subject` values per window (age, factors of psychopathology); `replaced` and `paired` are the logits of PopT's
auxiliary tasks (`neurofm.model.auxiliary`)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A head that a model has beside reconstruction."""

    kind: str
    """One of `HEADS`."""
    outputs: int
    """Numbers per thing read."""
    modality: Modality | None = None
    """Whose answers or patches are read; None where the summary is."""
