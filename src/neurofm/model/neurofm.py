"""The network: reads the visible channels of a window and corrects the linear core's estimate of any channel.

    visible values --tokenizer--> tokens --identity-weighted pooling--> one token per patch
        --backbone over time--> latents --readout, asked by channel identity and core estimate--> answers
        --head (starts at zero)--> residual on the linear core

Hidden channels enter by their identity only, so their values cannot influence what is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from neurofm.model.backbone import BACKBONES
from neurofm.model.heads import PatchHead
from neurofm.model.identity import ChannelIdentity
from neurofm.model.pooling import IdentityPooling
from neurofm.model.readout import ChannelReadout
from neurofm.model.tokenizer import PatchTokenizer, to_patches
from neurofm.recording import Modality
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


class NeuroFM(nn.Module):
    """Masked model of all modalities.

    Parameters
    ----------
    settings
        Sizes.
    patch_samples
        Samples in a patch, per modality.
    """

    def __init__(self, settings: ModelSettings, *, patch_samples: Mapping[Modality, int]) -> None:
        super().__init__()
        width = settings.width
        self.identity = ChannelIdentity(width)
        self.tokenizers = nn.ModuleDict(
            {str(m): PatchTokenizer(patch=patch, width=width) for m, patch in patch_samples.items()}
        )
        self.modality = nn.ParameterDict({str(m): torch.zeros(width) for m in patch_samples})
        self.pooling = IdentityPooling(width)
        self.backbone = BACKBONES[settings.backbone](
            width=width, layers=settings.layers, heads=settings.heads, dropout=settings.dropout
        )
        self.estimates = nn.ModuleDict({str(m): nn.Linear(patch, width) for m, patch in patch_samples.items()})
        self.readout = ChannelReadout(width)
        self.heads = nn.ModuleDict(
            {str(m): PatchHead(patch=patch, width=width) for m, patch in patch_samples.items()}
        )
        self.patch_samples = dict(patch_samples)

    def encode(
        self, modality: Modality, *, values: Tensor, smoothed: Tensor, identity: Tensor, sampling_rate_hz: float
    ) -> Tensor:
        """Turn the visible channels of windows into latents.

        Parameters
        ----------
        modality
            Chooses the tokenizer.
        values, smoothed
            [window, time, visible] float32, z units.
        identity
            [visible, IDENTITY_FEATURES]
        sampling_rate_hz
            Of the values.

        Returns
        -------
        [window, patch, width] float32
        """
        tokens = self.tokenizers[modality](values, smoothed)
        pooled = self.pooling(tokens, self.identity(identity)) + self.modality[modality]
        time_s = torch.arange(pooled.shape[1]) * (self.patch_samples[modality] / sampling_rate_hz)
        latents: Tensor = self.backbone(pooled, time_s)
        return latents

    def residual(self, modality: Modality, *, latents: Tensor, linear: Tensor, identity: Tensor) -> Tensor:
        """Correct the linear core's estimate of some channels.

        Parameters
        ----------
        modality
            Chooses the head.
        latents
            [window, patch, width]
        linear
            [window, time, channel] float32: the core's estimate, z units.
        identity
            [channel, IDENTITY_FEATURES] of the channels asked for.

        Returns
        -------
        [window, time, channel] float32
        """
        patches = to_patches(linear, patch=self.patch_samples[modality])
        answers = self.readout(latents, self.identity(identity), self.estimates[modality](patches))
        corrected: Tensor = self.heads[modality](answers)
        return corrected
