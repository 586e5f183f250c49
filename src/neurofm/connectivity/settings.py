"""`connectivity` in params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from neurofm.settings import Settings

Kind = Literal["correlation", "partial correlation"]
"""Kinds of nilearn's `ConnectivityMeasure` that need one recording and no other."""


class ConnectivitySettings(Settings):
    """`connectivity` in params.yaml."""

    seed: int
    """Of the permutations and of the bootstrap."""
    kinds: tuple[Kind, ...] = Field(min_length=1)
    """Which matrices are made; ``correlation``, which QC-FC is measured on, must be among them."""
    min_volumes: int = Field(ge=3)
    """Recordings with fewer valid volumes get no matrix."""
    min_recordings_qcfc: int = Field(ge=4)
    """QC-FC is measured only where at least so many recordings have framewise displacement, and of those edges only
    that so many recordings have."""
    permutations: int = Field(ge=19)
    """Times that framewise displacement is dealt out anew among the recordings: the null."""
    bootstrap_samples: int = Field(ge=100)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if "correlation" not in self.kinds:
            raise ValueError("kinds must hold `correlation`: QC-FC and the group's connectome are made of it")
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds names one twice")
        return self
