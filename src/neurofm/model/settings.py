"""Sizes of the network; apart from the network so that settings are read without loading torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from neurofm.settings import Settings


class ModelSettings(Settings):
    """Sizes of the network (`pretrain.model` in params.yaml)."""

    backbone: Literal["transformer"]
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _even_heads(self) -> ModelSettings:
        if self.width % (2 * self.heads):
            msg = f"width {self.width} is not a multiple of 2 * heads {2 * self.heads}"
            raise ValueError(msg)
        return self
