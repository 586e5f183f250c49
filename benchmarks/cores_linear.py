"""The linear core that `neurofm.training` uses today, as an estimator of `benchmarks.cores`: whole channels only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from neurofm.model.core import CoreSettings, LinearCore, Moments, moments, smooth_scales

WHO = "linear core with calibration (in use today)"


def moments_of(x: Tensor, *, settings: CoreSettings) -> Moments:
    """Sum the moments of one stretch [time, channel]."""
    return moments(
        [x],
        valid=[torch.ones(len(x), dtype=torch.bool)],
        sds_samples=settings.smoothing_samples,
        channels=x.shape[1],
    )


def total(parts: Iterable[Moments], *, channels: int, settings: CoreSettings) -> Moments:
    """Add up the moments of other recordings."""
    return Moments.total(parts, channels=channels, scales=len(settings.smoothing_samples))


def fill(values: Tensor, visible: Tensor, *, own: Moments, prior: Moments, settings: CoreSettings) -> Tensor:
    """Fill in whole channels of one window, [time, channel], from a recording's own moments and those of others."""
    shown = visible.any(dim=0)
    v, h = shown.nonzero()[:, 0], (~shown).nonzero()[:, 0]
    core = LinearCore.fit(own, prior, settings=settings)
    filled = values.clone()
    smoothed = smooth_scales(values[:, v], sds_samples=settings.smoothing_samples)
    filled[:, h] = core.estimate(smoothed, visible=v, hidden=h)
    return filled
