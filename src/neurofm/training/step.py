"""Step: the gradient of one draw, whole or in parts where memory is short."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neurofm.model.whole_channels import Network
from neurofm.training.batches import Batch, loss_of, make_batch
from neurofm.training.contexts import Context
from neurofm.training.hidden_patches import key_of, kind_at, make_patch_batch, training_masks
from neurofm.training.memory import fitting
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import CHANNELS, PretrainSettings
from neurofm.windows.sampling import Draw

_LONGEST_GRADIENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """What one draw says of the weights; the gradient itself lies in the network."""

    loss: float
    """Over that of predicting the mean."""
    norm: float
    """Of the gradient, before it was cut to 1."""
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

    def lesson(self, *, step: int, patch: int, settings: PretrainSettings) -> Lesson:
        """Hide what is to be predicted, in patches of so many samples."""
        kind = kind_at(step, self.recording.view.modality, settings=settings)
        key = key_of(self.recording.view.modality, kind)
        if kind != CHANNELS:
            return self._patches(kind, step=step, patch=patch, settings=settings, key=key)
        visible, hidden = torch.from_numpy(self.draw.visible), torch.from_numpy(self.draw.hidden)
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
        asked = usable.searchsorted(self.draw.hidden)
        batch, hidden = make_patch_batch(
            recording.view,
            context,
            recording.stationary(self.draw.block.episode),
            z=z,
            valid=valid,
            shown=shown,
            asked=torch.from_numpy(asked),
        )
        truth = z[..., torch.from_numpy(self.draw.hidden)]
        return Lesson(batch=batch, truth=truth, counts=hidden & valid.unsqueeze(-1), key=key)

    @property
    def _context(self) -> Context:
        return self.recording.contexts[self.draw.block.episode]


def take_gradient(
    network: Network, drawn: Drawn, *, step: int, settings: PretrainSettings, micro_windows: int, who: str
) -> Gradient:
    """Compute the gradient of one draw.

    Parameters
    ----------
    network
        Gets the gradient, cut to length 1.
    drawn
        What to learn from.
    step, settings
        They decide what dropout drops, so that a resumed run repeats it.
    micro_windows
        Windows at a time; fewer where there is no memory for them. The gradient of the parts adds up to that of the
        whole draw, but for rounding and for where dropout falls.
    who
        For messages.

    Raises
    ------
    UserError
        If there is no memory for a single window.
    """
    patch = network.patch_samples[drawn.recording.view.modality]
    lesson = drawn.lesson(step=step, patch=patch, settings=settings)

    def attempt(windows: int) -> float:
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
        network.zero_grad()
        return sum(
            _part(network, lesson, null=drawn.recording.null, first=first, last=first + windows)
            for first in range(0, len(lesson.batch), windows)
        )

    loss, fits = fitting(attempt, windows=micro_windows, what=f"{who}: step {step} ({drawn.recording.source.name})")
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT)
    return Gradient(loss=loss, norm=float(norm), micro_windows=fits, key=lesson.key)


def _part(network: Network, lesson: Lesson, *, null: float, first: int, last: int) -> float:
    """Add the gradient of some windows to that of the others; returns their share of the loss."""
    part = lesson.part(first, last, device=next(network.parameters()).device)
    share = int(part.counts.sum()) / max(int(lesson.counts.sum()), 1)
    residual = network(part.batch.seen, part.batch.query)
    loss = loss_of(part.batch, residual=residual, truth=part.truth, counts=part.counts)
    loss = loss / null * share
    torch.autograd.backward(loss)
    return loss.item()
