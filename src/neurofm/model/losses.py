"""Losses: how wrong a prediction is, element by element, per modality."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neurofm.model.tokenizer import log_spectrum
from neurofm.recording import Modality

_HUBER_KNEE_SD = 3.0
_LOG_VARIANCE_LIMITS = (-6.0, 3.0)
_ARTEFACT_SD = 15.0
_SPECTRUM_WEIGHT = 0.1


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


def gaussian(prediction: Tensor, z: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log-likelihood of Gaussian noise whose size is predicted too, without its constant.

    The log of the variance is kept within limits: a value that is predicted perfectly would drive it to minus
    infinity (Nix & Weigend 1994, doi:10.1109/ICNN.1994.374138).
    """
    low, high = _LOG_VARIANCE_LIMITS
    log_variance = log_variance.clamp(low, high)
    return 0.5 * (log_variance + (prediction - z) ** 2 * torch.exp(-log_variance))


def absolute_and_spectrum(prediction: Tensor, z: Tensor) -> Tensor:
    """Absolute error of each sample plus the squared error of the patch's log amplitude spectrum, [..., sample].

    The first alone is smallest for a smooth line; the second asks for the right power of what cannot be predicted
    sample by sample. Artefacts beyond 15 SD are cut off.
    """
    z = z.clamp(-_ARTEFACT_SD, _ARTEFACT_SD)
    spectrum = (log_spectrum(prediction) - log_spectrum(z)).square().mean(dim=-1, keepdim=True)
    return (prediction - z).abs() + _SPECTRUM_WEIGHT * spectrum


LOSSES: dict[Modality, Callable[[Tensor, Tensor], Tensor]] = {
    Modality.SPIKES: poisson_deviance,
    Modality.CALCIUM: squared_error,
    Modality.MINISCOPE: huber,
    Modality.FMRI: squared_error,
    Modality.EEG: squared_error,
    Modality.MEG: squared_error,
}
"""Loss per modality: (prediction, target) -> the same shape. Divided by its value for the mean, 1 is no better
than the mean."""
