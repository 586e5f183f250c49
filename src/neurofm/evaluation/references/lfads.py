"""LFADS: a recurrent network that generates a population's rates from where it starts and what drives it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofm.evaluation.references.populations import PopulationReference
from neurofm.evaluation.settings import EvaluateSettings

ENCODER = 48
CONTROLLER = 32
GENERATOR = 64
FACTORS = 16
INPUTS = 2
"""Inferred inputs per bin; of 0, there is no controller, and the start alone says what follows."""
LEARNING_RATE = 1e-2
DROPOUT = 0.05
START_VARIANCE = 0.1
"""Of the start, before anything was seen."""
INPUT_SAMPLES = 10.0
"""Time constant of the inputs before anything was seen, at first: they drift, and do not jump from bin to bin."""
INPUT_VARIANCE = 0.1
"""Of what the inputs change by from bin to bin, at first."""
KL_WEIGHT = 0.2
"""Of the divergence from the priors, where 1 is the likelihood's bound. Of few units it is large beside what they tell,
and published searches try less than 1."""
_FIRST_LOG_SD = -2.0
"""Of posteriors: noise as wide as the prior hides from the generator what the encoder tells it."""


class Lfads(nn.Module):
    """Sequential variational autoencoder: encoder, start, controller and its inputs, generator, factors, rates.

    At each bin the controller sees the encoder's output there and the factors of the bin before, and infers what drives
    the generator. Without it a window follows from its start alone: enough for movements that run off by themselves,
    too little where something outside decides at any moment, as it does of where a head turns.

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
    Pandarinath et al. (2018), Nature Methods 15:805-815, doi:10.1038/s41592-018-0109-9; sizes of priors, learning rate
    and dropout after its code and lfads-torch (Sedler & Pandarinath 2023, arXiv:2309.01230). Small code of our own; see
    ``docs/evaluation-references.md`` for what differs.
    """

    def __init__(self, channels: int, *, samples: int, inputs: int = INPUTS) -> None:
        super().__init__()
        del samples
        self.drop = nn.Dropout(DROPOUT)
        self.encoder = nn.GRU(channels, ENCODER, batch_first=True, bidirectional=True)
        self.start = _Posterior(2 * ENCODER, GENERATOR)
        self.controller = _Controller(inputs) if inputs else None
        self.generator = nn.GRUCell(max(inputs, 1), GENERATOR)
        self.factors = nn.Linear(GENERATOR, FACTORS, bias=False)
        self.readout = nn.Linear(FACTORS, channels)

    def forward(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Predict all channels; see `populations.Build`. The penalty is the KL divergence from the priors.

        In training starts and inputs are drawn from their posterior; afterwards they are its means.
        """
        seen, ends = self.encoder(visible)
        mean, log_sd = self.start(self.drop(ends.transpose(0, 1).flatten(1)))
        state = _draw(mean, log_sd, noise=self._noise(mean))
        variance = mean.new_tensor(START_VARIANCE)
        penalty = divergence(mean, log_sd, expected=torch.zeros_like(mean), log_variance=variance.log()).sum()
        # Rows of one length: a factor cannot shrink out of the controller's sight.
        weights = functional.normalize(self.factors.weight, dim=1)
        if self.controller is None:
            states, still = [], visible.new_zeros(len(visible), 1)
            for _ in range(visible.shape[1]):
                state = self.generator(still, state)
                states.append(state)
        else:
            states, more = self._driven(self.controller, self.drop(seen), state, weights)
            penalty = penalty + more
        rates: Tensor = self.readout(functional.linear(self.drop(torch.stack(states, dim=1)), weights))
        return rates, KL_WEIGHT * penalty / visible.numel()

    def _driven(
        self, controller: _Controller, seen: Tensor, state: Tensor, weights: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Run the generator with the inputs that the controller infers; return its states and the inputs' penalty."""
        noise = self._noise(seen.new_empty(len(seen), seen.shape[1], controller.inputs))
        control = seen.new_zeros(len(seen), CONTROLLER)
        factors = functional.linear(state, weights)
        states, posteriors, drawn = [], [], []
        for told, jitter in zip(seen.unbind(1), noise.unbind(1), strict=True):
            control = controller.cell(torch.cat([told, factors], dim=1), control)
            mean, log_sd = controller.posterior(control)
            drive = _draw(mean, log_sd, noise=jitter)
            state = self.generator(drive, state)
            factors = functional.linear(state, weights)
            states.append(state)
            posteriors.append((mean, log_sd))
            drawn.append(drive)
        means, log_sds = (torch.stack(each, dim=1) for each in zip(*posteriors, strict=True))
        return states, controller.divergence(means, log_sds, drawn=torch.stack(drawn, dim=1))

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like) if self.training else torch.zeros_like(like)


class _Posterior(nn.Linear):
    """A Gaussian's mean and log SD from what a network knows."""

    def __init__(self, known: int, width: int) -> None:
        super().__init__(known, 2 * width)
        with torch.no_grad():
            self.bias[:width] = 0.0
            self.bias[width:] = _FIRST_LOG_SD

    def forward(self, known: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # two, of one layer
        mean, log_sd = super().forward(known).chunk(2, dim=-1)
        return mean, log_sd.clamp(-5, 2)


class _Controller(nn.Module):
    """What infers the inputs, and their prior: each an autoregressive process of first order, which is learned."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.cell = nn.GRUCell(2 * ENCODER + FACTORS, CONTROLLER)
        self.posterior = _Posterior(CONTROLLER, inputs)
        self.log_samples = nn.Parameter(torch.full((inputs,), math.log(INPUT_SAMPLES)))
        self.log_variance = nn.Parameter(torch.full((inputs,), math.log(INPUT_VARIANCE)))

    def divergence(self, mean: Tensor, log_sd: Tensor, *, drawn: Tensor) -> Tensor:
        """Sum over [window, time, input] the divergence of each bin's posterior, given what was drawn before."""
        kept = (-(-self.log_samples).exp()).exp()
        expected = functional.pad(kept * drawn[:, :-1], (0, 0, 1, 0))
        # The first bin knows of none before, and has the variance that the process has in the long run.
        first = self.log_variance - (1 - kept.square()).log()
        later = self.log_variance.expand(mean.shape[1] - 1, -1)
        return divergence(mean, log_sd, expected=expected, log_variance=torch.cat([first[None], later])).sum()


def divergence(mean: Tensor, log_sd: Tensor, *, expected: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence in nats of a Gaussian from one with mean `expected`, value by value."""
    squares = (mean - expected).square() + (2 * log_sd).exp()
    return 0.5 * (squares / log_variance.exp() - 1 + log_variance) - log_sd


def _draw(mean: Tensor, log_sd: Tensor, *, noise: Tensor) -> Tensor:
    return mean + log_sd.exp() * noise


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
        # Smaller ones leave the generator little to learn from: 0.92 for 1.00 bits per spike in the same 150 steps.
        readout_gain=1.0,
    )
