"""What NDT and LFADS share: a network that reads the visible channels of a population and gives the rates of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofm.evaluation.references.training import seeded, spread, starts, train
from neurofm.evaluation.samples import Windows, learning_windows, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView

Indices = npt.NDArray[np.int64]
BATCH = 32
"""Windows in a step."""
HIDDEN_CHANNELS = (0.1, 0.5)
"""Share of channels that a step hides whole, drawn between these."""
HIDDEN_SAMPLES = 0.2
"""Share of the remaining samples that it hides besides, one by one."""
PENALISED = (0.3, 0.8)
"""Shares of training after which the penalty begins, and counts in full. At full weight before the network has learned
to tell anything, the cheapest posterior is the prior, and LFADS keeps to the mean rates for good."""
_JUDGED_WINDOWS = 48
_LEAST_RATE = 1e-4


class Build(Protocol):
    """Makes a network.

    It maps what is visible, [window, time, channel] and 0 where hidden, to all channels and a penalty per sample and
    channel. Its last layer is `readout`, whose bias starts at the log of the mean rates.
    """

    def __call__(self, channels: int, *, samples: int) -> nn.Module:
        """Make one for so many channels, and windows of so many samples."""


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Windows of the recordings of one channel set, one after the other."""

    z: Tensor
    """[window, time, channel]"""
    truth: Tensor
    """[window, time, channel] counts of spikes, or `z`."""
    counted: Tensor
    """[window, time, channel] bool: valid samples of usable channels."""
    starts: Tensor
    """[start] int64: where a window may begin, in samples from the first window's first."""

    @classmethod
    def of(cls, parts: Sequence[Windows]) -> _Data:
        z = torch.from_numpy(np.concatenate([part.z for part in parts]))
        spikes = parts[0].view.modality is Modality.SPIKES
        truth = torch.from_numpy(np.concatenate([part.values() for part in parts])) if spikes else z
        counted = np.concatenate([part.counted[..., None] & part.view.usable for part in parts])
        first = torch.from_numpy(np.concatenate(starts(parts)))
        return cls(z=z, truth=truth, counted=torch.from_numpy(counted), starts=first)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch of `z`, `truth` and `counted`, from any sample on and not only where windows were cut."""
        start = self.starts[torch.randint(len(self.starts), (BATCH,))]
        index = start[:, None] + torch.arange(self.z.shape[1])
        z, truth, counted = (part.flatten(0, 1)[index] for part in (self.z, self.truth, self.counted))
        return z, truth, counted


class PopulationReference:
    """An estimator around a network; spikes are Poisson of its rates, other signals Gaussian around its means.

    It learns by coordinated dropout (Keshtkaran & Pandarinath 2019, arXiv:1908.07896): what a step hides, whole
    channels and single samples, is 0 at the input, the rest is scaled up to the same sum, and the loss is that of the
    hidden alone, so that no sample teaches its own copy. Whole channels are among them so that what it is scored for,
    channels that it does not see, is what it has learned. Validation judges by the masks that are scored.

    Parameters
    ----------
    name
        As it stands in the scoreboard.
    build
        Makes its network.
    steps
        Budget, in steps of the optimiser.
    learning_rate
        Peak.
    settings
        Seed and masks.
    window_samples
        Length of a window.
    readout_gain
        Of the first weights of the read-out of spikes, over where torch starts them: small starts near the mean rates.
    """

    def __init__(
        self,
        name: str,
        *,
        build: Build,
        steps: int,
        learning_rate: float,
        settings: EvaluateSettings,
        window_samples: int,
        readout_gain: float = 0.1,
    ) -> None:
        self.name = name
        self._readout_gain = readout_gain
        self._build, self._steps, self._learning_rate = build, steps, learning_rate
        self._settings, self._window_samples = settings, window_samples
        self._network: nn.Module
        self._most: Tensor

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Train on the recordings of one channel set; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self._window_samples)
        data = _Data.of(fit)
        spikes = views[0].modality is Modality.SPIKES
        judges = [part.take(spread(len(part), _JUDGED_WINDOWS // len(tuning) + 1)) for part in tuning]
        with seeded(self._settings.seed):
            network = self._build(data.z.shape[2], samples=self._window_samples)
            counts = data.counted.sum(dim=(0, 1)).clamp(min=1)
            if spikes:
                mean = (data.truth * data.counted).sum(dim=(0, 1)) / counts
                _start_at(network, mean.clamp(min=_LEAST_RATE).log(), gain=self._readout_gain)
            # Beyond the most that was ever seen the exponential is not trusted, as in `PoissonGlm`.
            self._most = (data.truth * data.counted).amax(dim=(0, 1)).clamp(min=1)
            self._network = network
            train(
                network,
                loss=lambda progress: _loss(network, data, progress=progress, spikes=spikes),
                judge=lambda: sum(self._error(part, spikes=spikes) for part in judges),
                steps=self._steps,
                learning_rate=self._learning_rate,
            )

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> npt.NDArray[np.float64]:
        """Predict hidden channels; see `Estimator.predict`."""
        z = torch.zeros(*visible.shape[:2], len(view.channel_ids))
        z[..., visible_index] = torch.from_numpy(visible)
        with seeded(self._settings.seed), torch.no_grad():
            parts = [self._forward(z[first : first + BATCH], view, visible_index) for first in range(0, len(z), BATCH)]
            predicted = torch.cat(parts) if parts else z
        found = predicted.numpy().astype(np.float64)[..., hidden_index]
        if view.modality is not Modality.SPIKES:
            return found
        normaliser = view.normaliser
        counts = np.minimum(np.exp(found), self._most.numpy()[hidden_index])
        scaled: npt.NDArray[np.float64] = (counts - normaliser.mean[hidden_index]) / normaliser.sd[hidden_index]
        return scaled

    def _forward(self, z: Tensor, view: RecordingView, visible: Indices) -> Tensor:
        # Unusable channels are 0 in training too, where they count as shown as often as others.
        shown = torch.from_numpy(~view.usable)
        shown[torch.from_numpy(visible)] = True
        output: Tensor = self._network(_scaled(z, shown.expand(z.shape)))[0]
        return output

    def _error(self, part: Windows, *, spikes: bool) -> float:
        """Sum of the loss over the hidden channels of the masks that are scored."""
        data, total = _Data.of([part]), 0.0
        for visible, hidden in masks(part.view, self._settings):
            error = _noise(self._forward(data.z, part.view, visible), data.truth, spikes=spikes)
            total += float((error * data.counted)[..., torch.from_numpy(hidden)].sum())
        return total


def _loss(network: nn.Module, data: _Data, *, progress: float, spikes: bool) -> Tensor:
    """Error of what one batch hides, and the penalty as far as it counts yet."""
    z, truth, counted = data.draw()
    low, high = HIDDEN_CHANNELS
    share = low + (high - low) * torch.rand(len(z), 1, 1)
    shown = (torch.rand(len(z), 1, z.shape[2]) >= share) & (torch.rand(z.shape) >= HIDDEN_SAMPLES)
    predicted, penalty = network(_scaled(z, shown))
    asked = counted & ~shown
    error = _noise(predicted, truth, spikes=spikes)
    mean: Tensor = (error * asked).sum() / asked.sum().clamp(min=1) + _weight(progress) * penalty
    return mean


def _weight(progress: float) -> float:
    """Say how much of the penalty counts; see `PENALISED`."""
    begins, full = PENALISED
    return min(1.0, max(0.0, (progress - begins) / (full - begins)))


def _noise(predicted: Tensor, truth: Tensor, *, spikes: bool) -> Tensor:
    """Poisson's negative log-likelihood of a log rate, or half a squared error, without constants."""
    if spikes:
        return functional.poisson_nll_loss(predicted, truth, reduction="none")
    return 0.5 * (predicted - truth).square()


def _scaled(z: Tensor, shown: Tensor) -> Tensor:
    """Leave out what is not shown, and scale the rest to as many channels as there are."""
    share = shown.float().mean(dim=2, keepdim=True).clamp(min=1 / shown.shape[2])
    return torch.where(shown, z, 0.0) / share


def _start_at(network: nn.Module, log_rate: Tensor, *, gain: float) -> None:
    readout = network.get_submodule("readout")
    assert isinstance(readout, nn.Linear)
    with torch.no_grad():
        readout.weight.mul_(gain)
        readout.bias.copy_(log_rate)
