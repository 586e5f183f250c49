"""State of a training run on disk: what a killed run goes on from, to the same bit."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.training.memory import is_out_of_memory

Weights = dict[str, Tensor]


@dataclass(kw_only=True)
class RunState:
    """All that changes from step to step. Random numbers depend on seed and step only and need no state."""

    step: int
    weights: Weights
    average: Weights
    """Running average of the weights: what is validated and kept."""
    optimizer: dict[str, Any]
    best: Weights
    """The average at its best validation."""
    best_step: int
    best_score: float
    stale: int
    """Validations since the best one."""
    seconds: float = 0.0
    """Spent up to the latest validation, in all the runs that led to it."""
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """Of them, per phase of the budget."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[str, list[float]] = field(default_factory=dict)
    """Training losses per modality since the latest validation."""
    rate: float = 1.0
    """What the learning rate of the settings is multiplied with: less than 1 after going back."""
    bad_in_row: int = 0
    """Steps that were skipped since the last that was not."""
    skipped: int = 0
    """Steps that were skipped in all."""
    rollbacks: int = 0
    trouble: str = ""
    """What was wrong with the latest of them."""
    micro_windows: dict[str, int] = field(default_factory=dict)
    """Windows at a time per modality, where there was no memory for a whole batch."""


class UnreadableState(Exception):
    """A state on disk is damaged."""


def save_state(state: RunState, path: Path, *, key: str) -> None:
    """Write atomically; `key` names the settings and data that the run belongs to."""
    buffer = io.BytesIO()
    torch.save({"key": key, **vars(state)}, buffer)
    write_atomic(path, buffer.getvalue())


def load_state(path: Path, *, key: str) -> RunState | None:
    """Read what `save_state` wrote; None where there is nothing that belongs to `key`.

    Raises
    ------
    UnreadableState
        If the file is damaged.
    UserError
        If it cannot be read now, as from a disk that does not answer, and may well be whole.
    """
    if not path.exists():
        return None
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        return None if saved.pop("key") != key else RunState(**saved)
    except (OSError, MemoryError) as error:
        raise _unread(path, error) from None
    except (RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        if is_out_of_memory(error):
            raise _unread(path, error) from None
        raise UnreadableState(" ".join(str(error).split())[:120]) from None


def _unread(path: Path, error: Exception) -> UserError:
    what = getattr(error, "strerror", None) or " ".join(str(error).split())[:120] or "no memory"
    return UserError(
        f"{path}: the state of the training cannot be read: {what}.",
        mend="run it again when it can be, or remove the file to begin anew",
    )


def copy_of(weights: Weights) -> Weights:
    """Copy that later steps do not change."""
    return {name: value.detach().clone() for name, value in weights.items()}
