"""Step: the gradient of one draw, whole or in parts where memory is short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurofm.model.whole_channels import Network
from neurofm.training.batches import Batch, loss_of, make_batch
from neurofm.training.memory import fitting
from neurofm.training.recordings import TrainingRecording
from neurofm.training.settings import PretrainSettings
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

    def batch(self, hidden: Tensor) -> Batch:
        """Hide what is to be predicted, and ask for some of it."""
        draw, recording = self.draw, self.recording
        visible = torch.from_numpy(draw.visible)
        context = recording.contexts[draw.block.episode]
        return make_batch(recording.view, context, values=self.z[..., visible], visible=visible, hidden=hidden)


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
    asked = drawn.asked(most=settings.most_targets)
    batch = drawn.batch(asked)
    truth = drawn.z[..., asked]

    def attempt(windows: int) -> float:
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
        network.zero_grad()
        return sum(
            _part(network, batch, truth, drawn=drawn, first=first, last=first + windows)
            for first in range(0, len(batch), windows)
        )

    loss, fits = fitting(attempt, windows=micro_windows, what=f"{who}: step {step} ({drawn.recording.source.name})")
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), _LONGEST_GRADIENT)
    return Gradient(loss=loss, norm=float(norm), micro_windows=fits)


def _part(network: Network, batch: Batch, truth: Tensor, *, drawn: Drawn, first: int, last: int) -> float:
    """Add the gradient of some windows to that of the others; returns their share of the loss."""
    device = next(network.parameters()).device
    part, counts = batch.rows(first, last).to(device), drawn.counts[first:last]
    share = int(counts.sum()) / max(int(drawn.counts.sum()), 1)
    residual = network(part.seen, part.query)
    loss = loss_of(part, residual=residual, truth=truth[first:last].to(device), counts=counts.to(device))
    loss = loss / drawn.recording.null * share
    torch.autograd.backward(loss)
    return loss.item()
