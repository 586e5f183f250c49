"""How reference networks are trained: so many steps, from a seed, on one thread; the best by validation stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.evaluation.samples import Windows

JUDGEMENTS = 12
"""How often validation is looked at in a whole training."""
PATIENCE = 4
"""After so many looks in a row without a better one, training ends, but not in its first half."""
_WARM_UP = 0.05
_MOST_GRADIENT = 5.0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` and compute on one thread, so that the same data give the same bytes; put both back after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def train(
    network: nn.Module,
    *,
    loss: Callable[[float], Tensor],
    judge: Callable[[], float],
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> None:
    """Train with AdamW, a short warm-up and a cosine to zero; weights are then those that validation judged best.

    Parameters
    ----------
    network
        Changed in place, and left in evaluation mode.
    loss
        Of one batch, given the share of training that is over, 0 to 1.
    judge
        Error on validation data, smaller is better; called in evaluation mode, without gradients.
    steps
        At most; fewer where validation no longer gains.
    learning_rate, weight_decay
        Peak of the rate, and AdamW's decay.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (_WARM_UP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    every = math.ceil(steps / JUDGEMENTS)
    # Where no look is better than the untrained network, that one stays.
    untrained = _judged(network, judge)
    least, best, waited = untrained, deepcopy(network.state_dict()), 0
    for step in range(1, steps + 1):
        network.train()
        optimiser.zero_grad()
        loss((step - 1) / steps).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        nn.utils.clip_grad_norm_(network.parameters(), _MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        if step % every and step < steps:
            continue
        error, waited = _judged(network, judge), waited + 1
        if error < least:
            least, best, waited = error, deepcopy(network.state_dict()), 0
        # One that has not gained yet is slow to begin, as LFADS is, and not at its end.
        if waited >= PATIENCE and 2 * step >= steps and least < untrained:
            break
    network.load_state_dict(best)
    network.eval()


def spread(total: int, most: int) -> npt.NDArray[np.int64]:
    """Choose at most so many of `total`, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(np.int64))


def starts(parts: Sequence[Windows]) -> list[npt.NDArray[np.int64]]:
    """Return where windows may begin, in samples from the first window's first.

    Anywhere in stretches of windows that were cut side by side, all windows lying one after the other.
    """
    found, before = [], 0
    for part in parts:
        length = part.z.shape[1]
        rows = np.arange(before, before + len(part)) * length
        followed = np.flatnonzero(np.diff(part.start) == length)
        found += [rows, (rows[followed][:, None] + np.arange(1, length)).ravel()]
        before += len(part)
    return found


def _judged(network: nn.Module, judge: Callable[[], float]) -> float:
    network.eval()
    with torch.no_grad():
        return judge()
