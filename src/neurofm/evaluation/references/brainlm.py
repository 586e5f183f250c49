"""BrainLM's masked autoencoder as a row: whole parcels, and patches or blocks, filled in by one small network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.evaluation.baselines.stationary import Choice, Grid
from neurofm.evaluation.references.training import seeded, spread, starts, train
from neurofm.evaluation.samples import Windows, learning_windows, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.brainlm import BrainLM, BrainLMSize, TokenMask, ViTLayer, masked_error
from neurofm.windows import RecordingView

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Shown = npt.NDArray[np.bool_]

NAME: Final = "brainlm"
SIZE = BrainLMSize(width=64, layers=2, heads=4, decoder_width=64, decoder_layers=2, decoder_heads=4)
AXES = 8
"""Leading axes of the parcels' covariance by which they are told apart at first."""
BATCH = 4
"""Windows in a step."""
HIDDEN_TOKENS = 0.5
"""Share of tokens that every other step hides; the steps between hide so large a part of the parcels, whole."""
HIDDEN_PARCELS = 1 / 3
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
_GAIN = 3.0
"""Of the signal, and of queries and keys, over where the published network starts."""
_JUDGED_WINDOWS = 12


class BrainLMReference:
    """Estimator and filler around `neurofm.model.brainlm.BrainLM`, trained on the windows of one atlas.

    Parameters
    ----------
    steps
        Budget, in steps of 4 windows.
    settings
        Seed and masks.
    window_samples, patch_samples
        Length of a window, and of a token.

    References
    ----------
    Caro et al. (2024), ICLR, doi:10.1101/2023.09.12.557460; ``docs/evaluation-references.md`` says what differs.
    """

    name = NAME
    converged = True

    def __init__(self, *, steps: int, settings: EvaluateSettings, window_samples: int, patch_samples: int) -> None:
        self._steps, self._settings = steps, settings
        self._window_samples, self._patch_samples = window_samples, patch_samples
        self._network: _Parcels

    def fit(self, views: Sequence[RecordingView]) -> None:
        """Train on the recordings of one channel set; see `Estimator.fit`."""
        fit, tuning = learning_windows(views, window_samples=self._window_samples)
        signal = torch.from_numpy(np.concatenate([part.z for part in fit])).flatten(0, 1)
        first = torch.from_numpy(np.concatenate(starts(fit)))
        judges = [part.take(spread(len(part), _JUDGED_WINDOWS // len(tuning) + 1)) for part in tuning]
        with seeded(self._settings.seed):
            patches = self._window_samples // self._patch_samples
            self._network = _Parcels(signal, patches=patches, patch_samples=self._patch_samples)
            train(
                self._network,
                loss=lambda _progress: self._loss(signal, first),
                judge=lambda: sum(self._error(part) for part in judges),
                steps=self._steps,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
            )

    def predict(
        self, view: RecordingView, visible: npt.NDArray[np.float32], visible_index: Indices, hidden_index: Indices
    ) -> Floats:
        """Predict hidden channels; see `Estimator.predict`."""
        z = np.zeros((*visible.shape[:2], len(view.channel_ids)), dtype=np.float32)
        z[..., visible_index] = visible
        shown = np.zeros((len(z), z.shape[1] // self._patch_samples, z.shape[2]), dtype=np.bool_)
        shown[..., visible_index] = True
        return self._filled(z, shown)[..., hidden_index]

    def fill(self, view: RecordingView, z: npt.NDArray[np.float32], shown: Shown, valid: Shown) -> Floats:
        """Fill in patches or blocks with what was trained; see `Filler.fill`. Invalid samples are 0 in `z`."""
        del view, valid
        hidden = ~np.repeat(shown, self._patch_samples, axis=1)
        return np.where(hidden, self._filled(z, shown), z.astype(np.float64))

    def choices(self, settings: EvaluateSettings) -> list[Grid]:
        """Nothing is chosen here."""
        del settings
        return []

    def choose(self, choice: Choice) -> None:
        """Nothing is chosen here."""

    def _loss(self, signal: Tensor, first: Tensor) -> Tensor:
        start = first[torch.randint(len(first), (BATCH,))]
        batch = signal[start[:, None] + torch.arange(self._window_samples)].transpose(1, 2).contiguous()
        parcels, patches = signal.shape[1], self._window_samples // self._patch_samples
        if torch.rand(()) < 0.5:
            mask = TokenMask.draw(
                windows=BATCH, tokens=parcels * patches, share=HIDDEN_TOKENS, generator=torch.default_generator
            )
        else:
            noise = torch.rand(parcels)
            mask = TokenMask.of_parcels(noise < noise.quantile(HIDDEN_PARCELS), windows=BATCH, patches=patches)
        return masked_error(self._network(batch, self._network.nowhere, mask), batch, mask)

    def _error(self, part: Windows) -> float:
        """Sum of squares over the hidden channels of the masks that are scored."""
        total = 0.0
        for visible, hidden in masks(part.view, self._settings):
            missed = self.predict(part.view, part.z[..., visible], visible, hidden) - part.z[..., hidden]
            total += float((missed[part.counted] ** 2).sum())
        return total

    def _filled(self, z: npt.NDArray[np.float32], shown: Shown) -> Floats:
        """[window, time, channel] from what is shown; windows that hide as many tokens go together."""
        hidden = torch.from_numpy(~shown).transpose(1, 2).flatten(1)
        values = torch.from_numpy(z).transpose(1, 2).contiguous()
        filled = torch.empty_like(values)
        counts = hidden.sum(dim=1)
        with seeded(self._settings.seed), torch.no_grad():
            for count in sorted(set(counts.tolist())):
                for rows in (counts == count).nonzero().squeeze(1).split(BATCH):
                    order = hidden[rows].int().argsort(dim=1, stable=True)
                    mask = TokenMask(order=order, visible=hidden.shape[1] - count)
                    filled[rows] = self._network(values[rows], self._network.nowhere, mask)
        return filled.transpose(1, 2).numpy().astype(np.float64)


class _Parcels(BrainLM):
    """The network for one atlas, starting where it learns in hundreds of steps and not in tens of thousands.

    Parcels and patches are told apart by learned vectors. Those of parcels start from their covariance in training, so
    that parcels that go together look alike, and keys start as queries, so that a token first attends to what it looks
    like (after Trockman & Kolter 2023, arXiv:2305.09828). It starts near the mean.

    Parameters
    ----------
    signal
        [time, parcel] to learn from.
    patches
        In a window.
    patch_samples
        Length of a patch.
    """

    def __init__(self, signal: Tensor, *, patches: int, patch_samples: int) -> None:
        super().__init__(SIZE, patch=patch_samples)
        parcels, width = signal.shape[1], SIZE.width
        self.nowhere = torch.zeros(parcels, 3)
        power, axes = torch.linalg.eigh((signal.T @ signal).double())
        loadings = (axes * power.clamp(min=0).sqrt())[:, -AXES:].float()
        spread_out = nn.functional.normalize(loadings, dim=1) @ torch.randn(loadings.shape[1], width)
        self.parcels = nn.Parameter(spread_out[:, None])
        self.patches = nn.Parameter(torch.randn(patches, width))
        with torch.no_grad():
            self.signal.weight.mul_(_GAIN)
            last = self.head[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
            for layer in self.modules():
                if isinstance(layer, ViTLayer):
                    query, key, _value = layer.project_in.weight.chunk(3)
                    query.mul_(_GAIN)
                    key.copy_(query)

    def _placed(self, tokens: Tensor, position: Tensor) -> Tensor:
        """[window, parcel, patch, width] with the vectors of parcel and patch added."""
        del position
        return tokens + self.parcels + self.patches
