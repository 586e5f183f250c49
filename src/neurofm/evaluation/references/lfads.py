"""LFADS: a recurrent network that generates a population's rates from where it starts and what drives it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.evaluation.references.populations import PopulationReference
from neurofm.evaluation.settings import EvaluateSettings

ENCODER = 48
GENERATOR = 64
FACTORS = 16
INPUTS = 2
"""Inferred inputs per bin; of 0, the start alone says what follows."""
PRIOR_SD = 0.3
"""Of the start and of each input before anything was seen."""
LEARNING_RATE = 5e-3
_DROPOUT = 0.1


class Lfads(nn.Module):
    """Sequential variational autoencoder: encoder, start and inputs, generator, factors, rates.

    Parameters
    ----------
    channels
        How many.
    samples
        Bins of a window; any number will do.
    inputs
        See `INPUTS`.

    References
    ----------
    Pandarinath et al. (2018), Nature Methods 15:805-815, doi:10.1038/s41592-018-0109-9. Small code of our own; see
    ``docs/evaluation-references.md`` for what differs.
    """

    def __init__(self, channels: int, *, samples: int, inputs: int = INPUTS) -> None:
        super().__init__()
        del samples
        self.inputs = inputs
        self.drop = nn.Dropout(_DROPOUT)
        self.encoder = nn.GRU(channels, ENCODER, batch_first=True, bidirectional=True)
        self.start = nn.Linear(2 * ENCODER, 2 * GENERATOR)
        self.drive = nn.Linear(2 * ENCODER, 2 * inputs)
        self.generator = nn.GRU(max(inputs, 1), GENERATOR, batch_first=True)
        self.factors = nn.Linear(GENERATOR, FACTORS, bias=False)
        self.readout = nn.Linear(FACTORS, channels)

    def forward(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Predict all channels; see `populations.Build`. The penalty is the KL divergence from the prior.

        In training starts and inputs are drawn from their posterior; afterwards they are its means.
        """
        windows, samples, channels = visible.shape
        seen, ends = self.encoder(visible)
        state, divergence = self._draw(self.start(self.drop(ends.transpose(0, 1).flatten(1))))
        drive = visible.new_zeros(windows, samples, 1)
        if self.inputs:
            drive, more = self._draw(self.drive(self.drop(seen)))
            divergence = divergence + more
        states, _ = self.generator(drive, state.unsqueeze(0))
        rates: Tensor = self.readout(self.factors(self.drop(states)))
        return rates, divergence / (windows * samples * channels)

    def _draw(self, posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Draw from a posterior in units of the prior, given as mean and log SD; with its divergence, summed."""
        mean, log_sd = posterior.chunk(2, dim=-1)
        log_sd = log_sd.clamp(-5, 2)
        divergence = (0.5 * (mean.square() + (2 * log_sd).exp() - 1) - log_sd).sum()
        drawn = mean + log_sd.exp() * torch.randn_like(mean) if self.training else mean
        return PRIOR_SD * drawn, divergence


def lfads(*, steps: int, settings: EvaluateSettings, window_samples: int) -> PopulationReference:
    """Make the reference ``lfads``, untrained.

    Parameters
    ----------
    steps
        Budget, in steps of 32 windows.
    settings, window_samples
        See `PopulationReference`.
    """
    return PopulationReference(
        "lfads",
        build=Lfads,
        steps=steps,
        learning_rate=LEARNING_RATE,
        settings=settings,
        window_samples=window_samples,
    )
