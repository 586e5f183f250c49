"""Neural Data Transformer: a transformer over the bins of a population, which fills in what is masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.evaluation.references.populations import PopulationReference
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.brainlm import ViT

WIDTH = 64
LAYERS = 2
HEADS = 2
DROPOUT = 0.05
"""Of tokens and of what layers give; none within attention, where drawing it costs more than all the rest."""
LEARNING_RATE = 5e-3


class Ndt(nn.Module):
    """A token per bin: all channels through one linear layer, a learned vector per place in the window, attention.

    Parameters
    ----------
    channels
        How many.
    samples
        Bins of a window.

    References
    ----------
    Ye & Pandarinath (2021), Neurons, Behavior, Data analysis, and Theory 5(3), doi:10.51628/001c.27358. Small code of
    our own; see ``docs/evaluation-references.md`` for what differs.
    """

    def __init__(self, channels: int, *, samples: int) -> None:
        super().__init__()
        self.read_in = nn.Linear(channels, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(samples, WIDTH))
        self.drop = nn.Dropout(DROPOUT)
        self.layers = ViT(width=WIDTH, layers=LAYERS, heads=HEADS)
        self.readout = nn.Linear(WIDTH, channels)

    def forward(self, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Predict all channels; see `populations.Build`."""
        tokens = self.drop(self.read_in(visible) + self.place)
        return self.readout(self.drop(self.layers(tokens))), visible.new_zeros(())


def ndt(*, steps: int, settings: EvaluateSettings, window_samples: int) -> PopulationReference:
    """Make the reference ``ndt``, untrained.

    Parameters
    ----------
    steps
        Budget, in steps of 32 windows.
    settings, window_samples
        See `PopulationReference`.
    """
    return PopulationReference(
        "ndt",
        build=Ndt,
        steps=steps,
        learning_rate=LEARNING_RATE,
        settings=settings,
        window_samples=window_samples,
    )
