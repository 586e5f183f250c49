"""Learning rate over steps, and the running average of weights."""

from __future__ import annotations

import math

from neurofm.training.settings import PretrainSettings
from neurofm.training.state import Weights


def learning_rate(step: int, *, settings: PretrainSettings) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def move_average(average: Weights, weights: Weights, *, step: int, decay: float) -> None:
    """Move the running average towards the weights; quickly at first, when it is mostly the start."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in weights.items():
        average[name].lerp_(value, share)
