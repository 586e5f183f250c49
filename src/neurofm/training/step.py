"""Step: the gradient of one draw, in slices that processes share out, and in parts where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.model.neurofm import Visible
from neurofm.recording import Modality
from neurofm.training.batches import Batch, loss_of, make_batch, rows_of
from neurofm.training.contexts import Context
from neurofm.training.forward import Forward
from neurofm.training.hidden_patches import key_of, kind_at, make_patch_batch, regions_of, training_masks
from neurofm.training.memory import fitting, is_out_of_memory
from neurofm.training.processes import Processes
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import CHANNELS, PretrainSettings
from neurofm.training.short import restandardised, short_at
from neurofm.windows.sampling import Draw

_LONGEST_GRADIENT = 1.0


class Learning(Protocol):
    """What takes gradients: a `neurofm.training.learner`."""

    network: nn.Module
    processes: Processes
    forward: Forward
    patch_samples: dict[Modality, int]


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
    beside: Visible | None = None
    """What another modality recorded of these windows."""

    def asked(self, *, most: int) -> Tensor:
        """Return the hidden channels that are asked for, int64: all, or at most so many, spread evenly among them."""
        hidden = self.draw.hidden
        if len(hidden) > most:
            hidden = hidden[np.linspace(0, len(hidden) - 1, most).round().astype(np.int64)]
        return torch.from_numpy(hidden)

    def lesson(self, *, step: int, patch: int, settings: PretrainSettings) -> Lesson:
        """Hide what is to be predicted, in patches of so many samples; what lies beside it is seen."""
        lesson = self._alone(step=step, patch=patch, settings=settings)
        if self.beside is None:
            return lesson
        # Of patches only some windows are taken.
        beside = rows_of(self.beside, slice(None, None, -(-len(self.z) // len(lesson.batch))))
        return replace(lesson, batch=replace(lesson.batch, seen=replace(lesson.batch.seen, beside=beside)))

    def _alone(self, *, step: int, patch: int, settings: PretrainSettings) -> Lesson:
        kind = kind_at(step, self.recording.view.modality, settings=settings)
        key = key_of(self.recording.view.modality, kind)
        if kind != CHANNELS:
            return self._patches(kind, step=step, patch=patch, settings=settings, key=key)
        visible, hidden = torch.from_numpy(self.draw.visible), self.asked(most=settings.most_targets)
        seconds = short_at(step, self.recording.view.modality, settings=settings)
        if seconds is not None:
            known = self.recording.short(self.draw.block.episode, seconds)
            some, asked = known.channels(visible, hidden)
            if len(some) and len(asked):
                z = restandardised(self.z, self.counts, whole=self.recording.view, short=known.view)
                batch = make_batch(known.view, known.context, values=z[..., some], visible=some, hidden=asked)
                return Lesson(batch=batch, truth=z[..., asked], counts=self.counts, key=key)
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
            region=regions_of(recording.view),
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
            gate=recording.gates[kind],
        )
        return Lesson(batch=batch, truth=z[..., asked], counts=hidden & valid.unsqueeze(-1), key=key)

    @property
    def _context(self) -> Context:
        return self.recording.contexts[self.draw.block.episode]


def take_gradient(
    learner: Learning,
    drawn: Drawn,
    *,
    number: int,
    settings: PretrainSettings,
    micro_windows: int,
    who: str,
) -> Taken:
    """Compute the gradient of the mean loss of one draw's valid samples; the same bits in all processes.

    Parameters
    ----------
    learner
        Its network gets the gradient, none for what had no part in it; its processes share the slices.
    drawn
        What to learn from.
    number, settings
        Number of the draw and the seed decide what dropout drops, so that a resumed run repeats it.
    micro_windows
        Windows at a time; fewer where there is no memory for them. The gradient of the parts adds up to that of the
        whole draw, but for rounding and for where dropout falls.
    who
        For messages.

    Raises
    ------
    UserError
        If there is no memory for a single window; or, where weights are cut among processes, for a slice.
    PeerGone
        If another process ended.
    """
    processes, network = learner.processes, learner.network
    # All of it in every process: a slice of it is the same for any number of them.
    lesson = drawn.lesson(step=number, patch=learner.patch_samples[drawn.recording.view.modality], settings=settings)
    windows, samples = len(lesson.batch), int(lesson.counts.sum())
    share = settings.slices // processes.count
    mine = range(processes.rank * share, (processes.rank + 1) * share)
    # Where weights are cut among processes, their gradients are added up on the way back, as a mean over processes.
    is_cut = processes.mesh is not None
    adding, scale = (Processes(processes.device), processes.count) if is_cut else (processes, 1)
    if is_cut and windows < settings.slices:
        raise UserError(
            f"{who}: a step of {windows} windows cannot be cut into {settings.slices} slices.",
            mend="set `pretrain.slices` to no more than `batch_windows` and `masks.windows`",
        )
    slices, loss = Gradients(network, adding), list[float]()
    for one in mine:
        first, last = (windows * edge // settings.slices for edge in (one, one + 1))
        seeds = [settings.seed, number, one] if one else [settings.seed, number]

        def attempt(most: int, first: int = first, last: int = last, seeds: Sequence[int] = seeds) -> float:
            torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
            network.zero_grad()
            parts = (lesson.part(at, min(at + most, last), device=processes.device) for at in range(first, last, most))
            null = drawn.recording.null
            return sum(_part(learner.forward, part, null=null, samples=samples, scale=scale) for part in parts)

        what = f"{who}: step {number // settings.accumulate} ({drawn.recording.source.name})"
        if is_cut:
            found = _in_one(attempt, windows=last - first, what=what)
        else:
            found, micro_windows = fitting(attempt, windows=micro_windows, what=what)
        loss.append(found)
        if share * adding.count > 1:
            slices.keep()
    if share * adding.count > 1:
        slices.give()
    total = processes.add(torch.tensor(loss, dtype=torch.float64, device=processes.device)[:, None])
    return Taken(loss=float(total), micro_windows=micro_windows, key=lesson.key)


def _in_one(attempt: Callable[[int], float], *, windows: int, what: str) -> float:
    """Attempt a slice as a whole: one process cannot take it in parts while others wait for its weights."""
    try:
        return attempt(windows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    raise UserError(
        f"{what}: there is no memory for a slice of {windows} windows.",
        mend="set `pretrain.slices` in params.yaml to more, or `pretrain.model.checkpointing` to true",
    )


def cut_gradient(network: nn.Module) -> float:
    """Cut the gradient to length 1, and return its length before."""
    norm: Any = torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # Of weights that are cut.


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
        self._kept: list[list[Tensor | None]] = []

    def keep(self) -> None:
        """Take the gradient out of the network."""
        grads = [one.grad for one in self._parameters]
        for one in self._parameters:
            one.grad = None
        if self._processes.count > 1 or not self._kept:
            self._kept.append(grads)
            return
        for number, (total, grad) in enumerate(zip(self._kept[0], grads, strict=True)):
            if total is None:
                self._kept[0][number] = grad
            elif grad is not None:
                total.add_(grad)

    def give(self, *, share: float = 1.0) -> None:
        """Put `share` times the sum of all that was taken, in all processes, into the network."""
        total = self._kept[0] if self._processes.count == 1 else self._added()
        for one, part in zip(self._parameters, total, strict=True):
            # Without a gradient the optimiser leaves a weight as it is; one of zeros would let it decay.
            one.grad = part if part is None or share == 1.0 else share * part

    def _added(self) -> list[Tensor | None]:
        """Add up what all processes have taken."""
        flat = []
        for grads in self._kept:
            used = torch.tensor([grad is not None for grad in grads])
            parts = [
                torch.zeros_like(one) if grad is None else grad
                for one, grad in zip(self._parameters, grads, strict=True)
            ]
            flat.append(torch.cat([*(part.flatten() for part in parts), used.to(parts[0])]))
        total = self._processes.add(flat[0][None] if len(flat) == 1 else torch.stack(flat))
        count = len(self._parameters)
        parts = list(torch.split(total[:-count], [one.numel() for one in self._parameters]))
        return [
            part.view_as(one) if used else None
            for one, part, used in zip(self._parameters, parts, total[-count:].tolist(), strict=True)
        ]


def _part(forward: Forward, part: Lesson, *, null: float, samples: int, scale: int) -> float:
    """Add the gradient of some windows to that of the others; returns their share of the loss."""
    share = int(part.counts.sum()) / max(samples, 1)
    residual = forward(part.batch.seen, part.batch.query)
    loss = loss_of(part.batch, residual=residual, truth=part.truth, counts=part.counts) / null * share
    torch.autograd.backward(loss * scale if scale > 1 else loss)
    return loss.item()
