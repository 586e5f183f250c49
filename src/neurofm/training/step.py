"""Step: the gradient of one draw, in slices that processes share out, and in parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from neurofm.model.neurofm import Query, Visible
from neurofm.model.whole_channels import Network
from neurofm.training.batches import Batch, loss_of, make_batch
from neurofm.training.contexts import Context
from neurofm.training.hidden_patches import key_of, kind_at, make_patch_batch, training_masks
from neurofm.training.memory import fitting
from neurofm.training.processes import Processes
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import CHANNELS, PretrainSettings
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
    key: str
    """Modality and kind of mask (`key_of`)."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is predicted from, and what is to be predicted."""

    batch: Batch
    truth: Tensor
    """[window, time, hidden] z units."""
    counts: Tensor
    """[window, time] bool, or [window, time, hidden]: what is judged."""
    key: str
    """Modality and kind of mask."""

    def part(self, first: int, last: int, *, device: torch.device) -> Lesson:
        """Return some of the windows, where the network is."""
        return replace(
            self,
            batch=self.batch.rows(first, last).to(device),
            truth=self.truth[first:last].to(device),
            counts=self.counts[first:last].to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The windows of one step."""

    recording: TrainingRecording
    draw: Draw
    z: Tensor
    """[window, time, channel] float32"""
    counts: Tensor
    """[window, time] bool"""

    def asked(self, *, most: int) -> Tensor:
        """Return the hidden channels that are asked for, int64: all, or at most so many, spread evenly among them."""
        hidden = self.draw.hidden
        if len(hidden) > most:
            hidden = hidden[np.linspace(0, len(hidden) - 1, most).round().astype(np.int64)]
        return torch.from_numpy(hidden)

    def lesson(self, *, step: int, patch: int, settings: PretrainSettings) -> Lesson:
        """Hide what is to be predicted, in patches of so many samples."""
        kind = kind_at(step, self.recording.view.modality, settings=settings)
        key = key_of(self.recording.view.modality, kind)
        if kind != CHANNELS:
            return self._patches(kind, step=step, patch=patch, settings=settings, key=key)
        visible, hidden = torch.from_numpy(self.draw.visible), self.asked(most=settings.most_targets)
        batch = make_batch(
            self.recording.view, self._context, values=self.z[..., visible], visible=visible, hidden=hidden
        )
        return Lesson(batch=batch, truth=self.z[..., hidden], counts=self.counts, key=key)

    def _patches(self, kind: str, *, step: int, patch: int, settings: PretrainSettings, key: str) -> Lesson:
        """Hide patches of some windows, and ask for those of the channels that were drawn to be hidden."""
        recording, context = self.recording, self._context
        every = -(-len(self.z) // settings.masks.windows)
        z, valid = self.z[::every], self.counts[::every]
        usable = recording.source.usable
        shown = training_masks(
            kind,
            starts=self.draw.starts[::every],
            patches=z.shape[1] // patch,
            features=context.identity[torch.from_numpy(usable)],
            step=step,
            settings=settings,
        )
        asked = self.asked(most=settings.most_targets)
        batch, hidden = make_patch_batch(
            recording.view,
            context,
            recording.stationary(self.draw.block.episode),
            z=z,
            valid=valid,
            shown=shown,
            asked=torch.from_numpy(usable.searchsorted(asked.numpy())),
        )
        return Lesson(batch=batch, truth=z[..., asked], counts=hidden & valid.unsqueeze(-1), key=key)

    @property
    def _context(self) -> Context:
        return self.recording.contexts[self.draw.block.episode]


def take_gradient(
    network: Network,
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
    # All of it in every process: a slice of it is the same for any number of them.
    lesson = drawn.lesson(step=number, patch=network.patch_samples[drawn.recording.view.modality], settings=settings)
    windows, samples = len(lesson.batch), int(lesson.counts.sum())
    share = settings.slices // processes.count
    mine = range(processes.rank * share, (processes.rank + 1) * share)
    slices, loss = Gradients(network, processes), list[float]()
    for one in mine:
        first, last = (windows * edge // settings.slices for edge in (one, one + 1))
        seeds = [settings.seed, number, one] if one else [settings.seed, number]

        def attempt(most: int, first: int = first, last: int = last, seeds: Sequence[int] = seeds) -> float:
            torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
            network.zero_grad()
            parts = (lesson.part(at, min(at + most, last), device=processes.device) for at in range(first, last, most))
            return sum(_part(forward, part, null=drawn.recording.null, samples=samples) for part in parts)

        what = f"{who}: step {number // settings.accumulate} ({drawn.recording.source.name})"
        found, micro_windows = fitting(attempt, windows=micro_windows, what=what)
        loss.append(found)
        if settings.slices > 1:
            slices.keep()
    if settings.slices > 1:
        slices.give()
    total = processes.add(torch.tensor(loss, dtype=torch.float64, device=processes.device)[:, None])
    return Taken(loss=float(total), micro_windows=micro_windows, key=lesson.key)


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


def _part(forward: Forward, part: Lesson, *, null: float, samples: int) -> float:
    """Add the gradient of some windows to that of the others; returns their share of the loss."""
    share = int(part.counts.sum()) / max(samples, 1)
    residual = forward(part.batch.seen, part.batch.query)
    loss = loss_of(part.batch, residual=residual, truth=part.truth, counts=part.counts) / null * share
    torch.autograd.backward(loss)
    return loss.item()
