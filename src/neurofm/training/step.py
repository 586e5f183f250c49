"""Step: the gradient of one draw, in slices that processes share out, and in parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from neurofm.model.neurofm import Query, Visible
from neurofm.training.batches import Batch, loss_of, make_batch
from neurofm.training.memory import fitting
from neurofm.training.processes import Processes
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import PretrainSettings
from neurofm.windows.sampling import Draw

_LONGEST_GRADIENT = 1.0

Forward = Callable[[Visible, Query], Tensor]
"""How the network is called while it learns."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one draw says of the weights; the gradient itself lies in the network."""

    loss: float
    """Over that of predicting the mean."""
    micro_windows: int
    """Windows at a time that memory held."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The windows of one step."""

    recording: TrainingRecording
    draw: Draw
    z: Tensor
    """[window, time, channel] float32"""
    counts: Tensor
    """[window, time] bool"""

    def batch(self) -> Batch:
        """Hide what is to be predicted."""
        draw, recording = self.draw, self.recording
        visible, hidden = torch.from_numpy(draw.visible), torch.from_numpy(draw.hidden)
        context = recording.contexts[draw.block.episode]
        return make_batch(recording.view, context, values=self.z[..., visible], visible=visible, hidden=hidden)

    def slice(self, number: int, *, of: int) -> Drawn:
        """Return some of the windows: the slices of a draw are as even as can be."""
        first, last = (len(self.z) * edge // of for edge in (number, number + 1))
        return replace(self, z=self.z[first:last], counts=self.counts[first:last])


def take_gradient(
    network: nn.Module,
    drawn: Drawn,
    *,
    number: int,
    settings: PretrainSettings,
    micro_windows: int,
    who: str,
    forward: Forward,
    processes: Processes,
) -> Taken:
    """Compute the gradient of the mean loss of one draw's valid samples; the same bits in all processes.

    Parameters
    ----------
    network
        Gets the gradient, none for what had no part in it.
    drawn
        What to learn from.
    number, settings
        Number of the draw and the seed decide what dropout drops, so that a resumed run repeats it.
    micro_windows
        Windows at a time; fewer where there is no memory for them. The gradient of the parts adds up to that of the
        whole draw, but for rounding and for where dropout falls.
    who
        For messages.
    forward
        Calls the network.
    processes
        Share the slices.

    Raises
    ------
    UserError
        If there is no memory for a single window.
    PeerGone
        If another process ended.
    """
    share = settings.slices // processes.count
    mine = range(processes.rank * share, (processes.rank + 1) * share)
    samples = int(drawn.counts.sum())
    slices, loss = Gradients(network, processes), list[float]()
    for one in mine:
        part = drawn.slice(one, of=settings.slices)
        batch, truth = part.batch(), part.z[..., torch.from_numpy(part.draw.hidden)]
        seeds = [settings.seed, number, one] if one else [settings.seed, number]

        def attempt(
            windows: int, part: Drawn = part, batch: Batch = batch, truth: Tensor = truth, seeds: Sequence[int] = seeds
        ) -> float:
            torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
            network.zero_grad()
            return sum(
                _part(
                    forward,
                    batch,
                    truth,
                    drawn=part,
                    samples=samples,
                    first=first,
                    last=first + windows,
                    device=processes.device,
                )
                for first in range(0, len(batch), windows)
            )

        what = f"{who}: step {number // settings.accumulate} ({drawn.recording.source.name})"
        found, micro_windows = fitting(attempt, windows=micro_windows, what=what)
        loss.append(found)
        if settings.slices > 1:
            slices.keep()
    if settings.slices > 1:
        slices.give()
    total = processes.add(torch.tensor(loss, dtype=torch.float64, device=processes.device)[:, None])
    return Taken(loss=float(total), micro_windows=micro_windows)


def cut_gradient(network: nn.Module) -> float:
    """Cut the gradient to length 1, and return its length before."""
    return float(torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT))


class Gradients:
    """Gradients of a network that are taken one after the other, and added up in that order.

    Parameters
    ----------
    network
        Whose.
    processes
        Each takes as many; those of the first come first.
    """

    def __init__(self, network: nn.Module, processes: Processes) -> None:
        self._parameters = [one for one in network.parameters() if one.requires_grad]
        self._processes = processes
        self._kept: list[Tensor] = []

    def keep(self) -> None:
        """Take the gradient out of the network."""
        used = torch.tensor([one.grad is not None for one in self._parameters])
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in self._parameters]
        flat = torch.cat([*(part.flatten() for part in parts), used.to(parts[0])])
        if self._kept and self._processes.count == 1:
            self._kept[0] += flat
        else:
            self._kept.append(flat)

    def give(self, *, share: float = 1.0) -> None:
        """Put `share` times the sum of all that was taken, in all processes, into the network."""
        total = self._processes.add(torch.stack(self._kept))
        count = len(self._parameters)
        parts = torch.split(total[:-count], [one.numel() for one in self._parameters])
        for one, part, used in zip(self._parameters, parts, total[-count:].tolist(), strict=True):
            # Without a gradient the optimiser leaves a weight as it is; one of zeros would let it decay.
            one.grad = share * part.view_as(one) if used else None


def _part(
    forward: Forward,
    batch: Batch,
    truth: Tensor,
    *,
    drawn: Drawn,
    samples: int,
    first: int,
    last: int,
    device: torch.device,
) -> float:
    """Add the gradient of some windows to that of the others; returns their share of the loss."""
    part, counts = batch.rows(first, last).to(device), drawn.counts[first:last]
    share = int(counts.sum()) / max(samples, 1)
    residual = forward(part.seen, part.query)
    loss = loss_of(part, residual=residual, truth=truth[first:last].to(device), counts=counts.to(device))
    loss = loss / drawn.recording.null * share
    torch.autograd.backward(loss)
    return loss.item()
