"""Objectives: what the whole model is trained to do, each part relative to predicting nothing but the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from neurofm.model.links import Scale, predict, target
from neurofm.model.losses import absolute_and_spectrum, gaussian, huber, poisson_deviance, squared_error
from neurofm.recording import Modality

POOLED_WEIGHT = 0.1
"""Of reconstruction from the summary alone."""
AUXILIARY_WEIGHT = 0.05
"""Of each of PopT's auxiliary tasks."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How reconstruction of a modality is judged."""

    loss: Callable[..., Tensor]
    """(prediction, target) -> [..., sample], and the log of the variance third where it is learned."""
    learns_variance: bool = False

    @property
    def outputs(self) -> int:
        """Numbers that the head gives per sample."""
        return 2 if self.learns_variance else 1

    def __call__(self, prediction: Tensor, wanted: Tensor, log_variance: Tensor | None) -> Tensor:
        """[..., sample] each -> [..., sample]."""
        extra = (log_variance,) if self.learns_variance else ()
        return self.loss(prediction, wanted, *extra)


OBJECTIVES: dict[Modality, Objective] = {
    Modality.SPIKES: Objective(loss=poisson_deviance),
    Modality.CALCIUM: Objective(loss=gaussian, learns_variance=True),
    Modality.MINISCOPE: Objective(loss=huber),
    Modality.FMRI: Objective(loss=squared_error),
    Modality.EEG: Objective(loss=absolute_and_spectrum),
    Modality.MEG: Objective(loss=absolute_and_spectrum),
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the patches asked for were, of one modality."""

    z: Tensor
    """[window, target, sample] z units."""
    counts: Tensor
    """[window, target, sample] bool: samples that are judged."""
    scale: Scale
    """Of each target, [window, target, 1]."""


def judge(
    modality: Modality, truth: Truth, *, estimate: Tensor, residual: Tensor, log_variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Judge a reconstruction.

    Parameters
    ----------
    modality
        Decides the scale and the loss.
    truth
        What was.
    estimate
        [window, target, sample] z units: of the linear core.
    residual, log_variance
        Of the model.

    Returns
    -------
    Mean loss, and the mean loss of predicting the mean of each channel with variance 1; both scalars. The first over
    the second starts at about 1 whatever the modality. Without one sample to judge both are 0.
    """
    objective = OBJECTIVES[modality]
    wanted = target(modality, truth.z, scale=truth.scale)
    nothing = torch.zeros_like(truth.z)
    prediction = predict(modality, linear=estimate, residual=residual, scale=truth.scale)
    constant = predict(modality, linear=nothing, residual=nothing, scale=truth.scale)
    return (
        _mean(objective(prediction, wanted, log_variance), truth.counts),
        _mean(objective(constant, wanted, nothing), truth.counts),
    )


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    return torch.where(counts, each, 0.0).sum() / counts.sum().clamp_min(1)


def total_loss(
    reconstruction: Mapping[Modality, tuple[Tensor, Tensor]],
    *,
    weights: Mapping[Modality, float],
    pooled: Mapping[Modality, tuple[Tensor, Tensor]] | None = None,
    auxiliary: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """Add up.

    Parameters
    ----------
    reconstruction, pooled
        (loss, null) per modality as `judge` gives them: from answers, and from the summary alone. Nulls may be
        running means over steps.
    weights
        Per modality; 1 where none is given.
    auxiliary
        (logits, bool labels) per auxiliary task.

    Returns
    -------
    scalar
    """
    parts = [
        weight * weights.get(modality, 1.0) * loss / null.detach().clamp_min(1e-6)
        for weight, judged in ((1.0, reconstruction), (POOLED_WEIGHT, pooled or {}))
        for modality, (loss, null) in judged.items()
    ]
    parts += [
        AUXILIARY_WEIGHT * functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        for logits, labels in (auxiliary or {}).values()
    ]
    return torch.stack(parts).sum()
