"""`training` in site.yaml: who watches over training, and what happens when it hangs. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurofm.settings import Settings


class TrainingSite(Settings):
    """`training` in site.yaml."""

    step_limit_s: Annotated[float, Field(gt=0)] | None = 600.0
    """Longest that one step may take before it counts as hung; null watches over nothing."""
    after_hang: Literal["cpu", "resume", "stop"] = "cpu"
    """Go on from the last kept state without GPUs, go on as before, or end."""
    most_hangs: int = Field(default=3, ge=0)
    """More than so many per fold (killed processes count too) end the training."""
