"""Sizes and parts of the network; apart from the network so that settings are read without loading torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from neurofm.settings import Settings

_FOUNDATION_ONLY = (
    "causal",
    "tokens",
    "fourier_bands",
    "regions",
    "units",
    "pooling",
    "latents",
    "fusion_layers",
    "popt_layers",
)
"""What the small network (`readout: pairs`) does not have."""


class ModelSettings(Settings):
    """Sizes and parts of the network (`pretrain.model` in params.yaml). `neurofm.model.sizes` has tried ones."""

    backbone: Literal["transformer", "mamba2", "gru"]
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    """Of the backbone."""
    heads: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    expansion: int = Field(default=2, gt=0)
    """Inner width of feed-forwards over `width`."""
    state: int = Field(default=64, gt=0)
    """Of mamba2: size of a head's memory per value."""
    causal: bool = False
    """Whether nothing is predicted from what comes later."""
    checkpointing: bool = False
    """Whether the backbone's activations are computed again rather than kept."""
    readout: Literal["pairs", "popt"] = "pairs"
    """`pairs` is the small network of `neurofm.model.neurofm`, `popt` the whole of `neurofm.model.foundation`."""
    tokens: Literal["plain", "modality"] = "plain"
    """Whether each modality has a tokenizer of its own."""
    position: bool = Field(default=True, exclude_if=bool)
    """Whether the network is told where a channel is. It and `statistics` are written down only where they are off."""
    statistics: bool = Field(default=True, exclude_if=bool)
    """Whether it is told what a channel's signal is like (`neurofm.model.statistics`)."""
    fourier_bands: int = Field(default=0, ge=0, le=12)
    """Octaves of a channel's position; 0 gives the position alone."""
    regions: int = Field(default=0, ge=0)
    """Rows of the table of brain regions; 0 leaves regions out."""
    units: int = Field(default=0, ge=0)
    """Rows of the table of single channels; 0 leaves the learned term out."""
    unit_dropout: float = Field(default=0.5, ge=0, le=1)
    """Share of training windows without the learned term, so that channels never met work too."""
    pooling: Literal["identity", "slots"] = "identity"
    """How visible channels become tokens of a patch: one weighted sum, or attention by learned slots."""
    slots: int = Field(default=1, gt=0)
    mix: int = Field(default=0, ge=0)
    """Slots exchange information after every so many layers of the backbone; 0 is never."""
    latents: int = Field(default=0, ge=0)
    """Latents that gather all modalities; 0 leaves fusion out."""
    fusion_layers: int = Field(default=0, ge=0)
    """Layers among the latents."""
    popt_layers: int = Field(default=0, ge=0)
    """Layers among the queries of the readout."""
    modality_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of training windows that lose a modality, where there are several."""

    @model_validator(mode="after")
    def _agree(self) -> ModelSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 * heads {2 * self.heads}")
        for contradiction, setting, other in (
            (self.pooling == "identity" and self.slots > 1, "slots", "pooling"),
            (self.slots == 1 and self.mix > 0, "mix", "slots"),
            (self.mix > self.layers, "mix", "layers"),
            (self.latents == 0 and self.fusion_layers > 0, "fusion_layers", "latents"),
            # Latents see the whole window.
            (self.causal and self.latents > 0, "causal", "latents"),
        ):
            if contradiction:
                raise ValueError(_against(setting, getattr(self, setting), other, getattr(self, other)))
        for name in ("regions", "units"):
            # Row 0 is for what is unknown.
            if getattr(self, name) == 1:
                raise ValueError(f"{name} 1 is a table without a row for a name, set 0 or at least 2")
        if self.readout == "pairs":
            for name in _FOUNDATION_ONLY:
                value = getattr(self, name)
                if value != type(self).model_fields[name].default:
                    raise ValueError(_against(name, value, "readout", self.readout))
        return self


class MaskSettings(Settings):
    """What is hidden from the whole model in training, and how much of the rest is read."""

    shares: dict[Literal["random", "channel", "time", "region", "forward"], float] = Field(
        default={"random": 0.4, "channel": 0.2, "time": 0.2, "region": 0.1, "forward": 0.1}
    )
    """How often each kind of mask is drawn, in any unit."""
    hidden_fraction_min: float = Field(default=0.15, gt=0, lt=1)
    hidden_fraction_max: float = Field(default=0.5, gt=0, lt=1)
    visible: int = Field(default=64, gt=0)
    """Channels read per patch."""
    targets: int = Field(default=256, gt=0)
    """Hidden patches asked for per window."""

    @model_validator(mode="after")
    def _agree(self) -> MaskSettings:
        if self.hidden_fraction_min > self.hidden_fraction_max:
            low, high = self.hidden_fraction_min, self.hidden_fraction_max
            raise ValueError(f"hidden_fraction_min {low} exceeds hidden_fraction_max {high}")
        if min(self.shares.values(), default=0) < 0 or sum(self.shares.values()) == 0:
            raise ValueError(f"shares {self.shares} must be at least 0, and one of them more")
        return self


def _against(setting: str, value: Any, other: str, other_value: Any) -> str:
    return f"{setting} {value} contradicts {other} {other_value}"
