"""Losses: how wrong a prediction is, element by element, per modality."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neurofm.recording import Modality

_HUBER_KNEE_SD = 3.0


def poisson_deviance(log_rate: Tensor, counts: Tensor) -> Tensor:
    """Half the deviance: the Poisson negative log-likelihood above that of a perfect prediction; never negative."""
    counts = counts.clamp_min(0.0)
    return torch.xlogy(counts, counts) - counts * log_rate - counts + log_rate.exp()


def squared_error(prediction: Tensor, z: Tensor) -> Tensor:
    """Half the squared error: Gaussian noise of one size."""
    return 0.5 * (prediction - z) ** 2


def huber(prediction: Tensor, z: Tensor) -> Tensor:
    """Squared error that grows linearly beyond 3 SD, where one-photon recordings have motion artefacts.

    Huber 1964, doi:10.1214/aoms/1177703732.
    """
    return torch.nn.functional.huber_loss(prediction, z, reduction="none", delta=_HUBER_KNEE_SD)


LOSSES: dict[Modality, Callable[[Tensor, Tensor], Tensor]] = {
    Modality.SPIKES: poisson_deviance,
    Modality.CALCIUM: squared_error,
    Modality.MINISCOPE: huber,
    Modality.FMRI: squared_error,
    Modality.EEG: squared_error,
}
"""Loss per modality: (prediction, target) -> the same shape. Divided by its value for the mean, 1 is no better
than the mean."""
