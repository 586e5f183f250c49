"""POYO as a row of decoding: a transformer that reads single spikes and is trained to give the target itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.evaluation.decoding import Floats, TargetPatches
from neurofm.evaluation.references.libraries import library
from neurofm.evaluation.references.training import seeded, spread, starts, train
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.settings import EvaluateSettings

NAME: Final = "poyo"
SIZE: dict[str, Any] = {
    "dim": 64,
    "depth": 2,
    "dim_head": 32,
    "cross_heads": 2,
    "self_heads": 4,
    "num_latents_per_step": 8,
    "ffn_dropout": 0.1,
    "lin_dropout": 0.2,
    "atn_dropout": 0.1,
}
LATENT_STEPS = 16
"""Places in time of its latents, spread over a window."""
BATCH = 16
"""Windows in a step."""
LEARNING_RATE = 2e-3
_JUDGED_WINDOWS = 48
_SESSION = "recording"


@dataclass(frozen=True, kw_only=True)
class _Spikes:
    """Spikes of windows, one after the other."""

    time: npt.NDArray[np.float64]
    """[spike] in samples from the first window's first, ascending."""
    unit: npt.NDArray[np.int64]
    """[spike] among the usable ones, from 1; 0 is the library's padding."""

    @classmethod
    def of(cls, windows: Windows) -> _Spikes:
        """Spread the counts of each bin evenly over it: times are not kept in shards of counts.

        Those of samples that are not fit for use are left out, as they are of what all other models see.
        """
        counts = windows.values()[..., windows.view.usable]
        valid = [windows.view.valid[start : start + counts.shape[1]] for start in windows.start.tolist()]
        counts[~np.stack(valid)] = 0
        bins, units = np.nonzero(counts.reshape(-1, counts.shape[2]))
        number = counts.reshape(-1, counts.shape[2])[bins, units].astype(np.int64)
        place = np.arange(number.sum()) - np.repeat(number.cumsum() - number, number)
        time = np.repeat(bins, number) + (place + 0.5) / np.repeat(number, number)
        order = np.argsort(time, kind="stable")
        return cls(time=time[order], unit=np.repeat(units, number)[order] + 1)


class PoyoDecoder:
    """Decodes a target of a recording of spikes with the authors' network, at a size of our own.

    Parameters
    ----------
    steps
        Budget, in steps of 16 windows.
    settings
        Seed.
    patch_samples
        Length of a patch.

    References
    ----------
    Azabou et al. (2023), NeurIPS 36, arXiv:2310.16046. Network and tokens are the library's.
    """

    name = NAME

    def __init__(self, *, steps: int, settings: EvaluateSettings, patch_samples: int) -> None:
        self._steps, self._seed, self._patch_samples = steps, settings.seed, patch_samples

    def decode(
        self, fit: Windows, judge: Windows, test: Windows, *, target: Callable[[Windows], TargetPatches]
    ) -> Floats:
        """Train on windows to fit on, keep what is best on those that judge, and decode the rest; see `Decoder.decode`.

        Raises
        ------
        UserError
            If the library is not installed.
        """
        truth, judged = target(fit), target(judge)
        known = truth.values[truth.counted]
        mean, sd = known.mean(axis=0), np.maximum(known.std(axis=0), np.finfo(np.float32).eps)
        z = torch.from_numpy((truth.values - mean) / sd).float().flatten(0, 1)
        counted = torch.from_numpy(truth.counted).flatten(0, 1)
        spikes = _Spikes.of(fit)
        first = np.concatenate(starts([fit]))
        first = first[first % self._patch_samples == 0]
        some = spread(len(judge), _JUDGED_WINDOWS)
        with seeded(self._seed):
            network = _Network(fit, columns=z.shape[1], patch_samples=self._patch_samples)

            def loss(_progress: float) -> Tensor:
                chosen = first[torch.randint(len(first), (BATCH,)).numpy()]
                index = torch.from_numpy(chosen // self._patch_samples)[:, None] + torch.arange(network.patches)
                error = (network(spikes, chosen) - z[index]).square().mean(dim=2) * counted[index]
                mean_error: Tensor = error.sum() / counted[index].sum().clamp(min=1)
                return mean_error

            def error() -> float:
                found = network.decoded(judge.take(some)) * sd + mean
                return float(((found - judged.values[some]) ** 2)[judged.counted[some]].sum())

            train(network, loss=loss, judge=error, steps=self._steps, learning_rate=LEARNING_RATE, weight_decay=1e-2)
            with torch.no_grad():
                decoded: Floats = network.decoded(test) * sd + mean
        return decoded


class _Network(nn.Module):
    """The library's network, and the tokens that it reads.

    Parameters
    ----------
    windows
        Their length, rate and units.
    columns
        Of the target.
    patch_samples
        A patch gives one decoded value, of its middle.
    """

    def __init__(self, windows: Windows, *, columns: int, patch_samples: int) -> None:
        super().__init__()
        helpers = library(NAME, ".utils")
        self._rate = windows.view.sampling_rate_hz
        self._samples = windows.z.shape[1]
        units = np.array(
            [name for name, usable in zip(windows.view.channel_ids, windows.view.usable, strict=True) if usable]
        )
        seconds = float(self._samples / self._rate)
        step = seconds / LATENT_STEPS
        self.patches = self._samples // patch_samples
        self.network = library(NAME, ".models").POYO(
            sequence_length=seconds, latent_step=step, readout_spec=SimpleNamespace(dim=columns), **SIZE
        )
        self.network.unit_emb.initialize_vocab(units.tolist())
        self.network.session_emb.initialize_vocab([_SESSION])
        # A token where each unit begins and ends: those that do not fire are known to be there.
        kind, unit, time = helpers.create_start_end_unit_tokens(units, 0.0, seconds)
        self._edges = (kind, unit + 1, time)
        latent, latent_time = helpers.create_linspace_latent_tokens(
            0.0, seconds, step=step, num_latents_per_step=SIZE["num_latents_per_step"]
        )
        self._latent, self._latent_time = torch.from_numpy(latent), torch.from_numpy(latent_time).float()
        self._asked = (torch.arange(self.patches) + 0.5) * patch_samples / self._rate

    def forward(self, spikes: _Spikes, first: npt.NDArray[np.int64]) -> Tensor:
        """Decode windows that begin at `first` samples: [window, patch, column]."""
        edges = np.searchsorted(spikes.time, np.stack([first, first + self._samples], axis=1))
        longest = int((edges[:, 1] - edges[:, 0]).max())
        kind, unit, time = (np.tile(token, (len(first), 1)) for token in self._edges)
        at = edges[:, :1] + np.arange(longest)
        there = at < edges[:, 1:]
        at = np.where(there, at, 0)
        own_time = np.where(there, spikes.time[at] - first[:, None], 0.0) / self._rate
        own_unit = np.where(there, spikes.unit[at], 0)
        shown = np.concatenate([np.ones_like(kind, dtype=np.bool_), there], axis=1)
        windows = len(first)
        output: Tensor = self.network(
            input_unit_index=torch.from_numpy(np.concatenate([unit, own_unit], axis=1)),
            input_timestamps=torch.from_numpy(np.concatenate([time, own_time], axis=1)).float(),
            input_token_type=torch.from_numpy(np.concatenate([kind, np.zeros_like(own_unit)], axis=1)),
            input_mask=torch.from_numpy(shown),
            latent_index=self._latent.expand(windows, -1),
            latent_timestamps=self._latent_time.expand(windows, -1),
            output_session_index=torch.ones(windows, self.patches, dtype=torch.int64),
            output_timestamps=self._asked.expand(windows, -1),
        )
        return output

    def decoded(self, windows: Windows) -> Floats:
        """Decode windows: [window, patch, column] in SDs of the target."""
        spikes, first = _Spikes.of(windows), np.arange(len(windows)) * self._samples
        parts = [self(spikes, first[row : row + BATCH]).numpy() for row in range(0, len(first), BATCH)]
        return np.concatenate(parts).astype(np.float64)
