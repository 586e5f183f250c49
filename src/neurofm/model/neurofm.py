"""The small network: reads the visible channels of a window and corrects the linear core's estimate of any channel.

    visible values --tokenizer--> tokens --identity-weighted pooling--> one token per patch
        --backbone over time--> latents
    tokens --weighted by correlation with the channel asked for--> messages
    latents, messages --readout, asked by channel identity and core estimate--> answers
        --head (starts at zero)--> residual on the linear core

Hidden channels enter by their identity only, and tokens of hidden patches are taken out before anything is summed, so
that hidden values cannot influence what is predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from neurofm.errors import UserError
from neurofm.model.backbone import TemporalBackbone
from neurofm.model.heads import PatchHead
from neurofm.model.hub import checkpoint_folder
from neurofm.model.identity import ChannelIdentity
from neurofm.model.links import Scale
from neurofm.model.pooling import IdentityPooling
from neurofm.model.pretrained import load_network
from neurofm.model.readout import ChannelReadout, PairMessages
from neurofm.model.settings import ModelSettings
from neurofm.model.tokenizer import PatchTokenizer, to_patches
from neurofm.recording import Modality


@dataclass(frozen=True, kw_only=True)
class Visible:
    """What is seen of windows of one recording."""

    modality: Modality
    sampling_rate_hz: float
    values: Tensor
    """[window, time, visible] float32, z units; time in whole patches."""
    smoothed: Tensor
    """[window, time, visible] float32: the mean over the scales of the linear core."""
    identity: Tensor
    """[visible, IDENTITY_FEATURES] float32"""
    scale: Scale | None = None
    """Of the visible channels, for tokenizers that want spike counts; this network does without."""
    shown: Tensor | None = None
    """[window, patch, visible] bool: which of their patches are seen; None for all. Those that are not are taken out
    before anything is made of them."""
    beside: Visible | None = None
    """What another modality recorded of the same windows, for the whole model; this network does without."""
    first_s: float = 0.0
    """When its first patch starts, seconds after that of the recording that it lies beside."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """The channels asked for, and what is known of them without their values."""

    linear: Tensor
    """[window, time, channel] float32: estimate of the linear core, z units."""
    identity: Tensor
    """[channel, IDENTITY_FEATURES] float32"""
    correlations: Tensor
    """[channel, visible] float32, from samples that may be looked at."""


class NeuroFM(nn.Module):
    """Masked model of all modalities.

    Parameters
    ----------
    settings
        Sizes.
    patch_samples
        Samples in a patch, per modality.

    Raises
    ------
    UserError
        For settings of the whole model.
    """

    def __init__(self, settings: ModelSettings, *, patch_samples: Mapping[Modality, int]) -> None:
        super().__init__()
        if settings.readout != "pairs":
            raise UserError(
                f"model: readout {settings.readout} is of the whole model, this network has pairs.",
                mend="set `readout: pairs`",
            )
        width = settings.width
        self.identity = ChannelIdentity(width, position=settings.position, statistics=settings.statistics)
        self.tokenizers = nn.ModuleDict(
            {str(m): PatchTokenizer(patch=patch, width=width) for m, patch in patch_samples.items()}
        )
        self.modality = nn.ParameterDict({str(m): torch.zeros(width) for m in patch_samples})
        self.pooling = IdentityPooling(width)
        self.backbone = TemporalBackbone(settings, layers=settings.layers)
        self.estimates = nn.ModuleDict({str(m): nn.Linear(patch, width) for m, patch in patch_samples.items()})
        self.messages = PairMessages(width)
        self.readout = ChannelReadout(width)
        self.heads = nn.ModuleDict({str(m): PatchHead(patch=patch, width=width) for m, patch in patch_samples.items()})
        self.patch_samples = dict(patch_samples)

    @classmethod
    def from_pretrained(cls, model: Path | str, *, revision: str | None = None) -> Self:
        """Load the network of a checkpoint, ready to be applied; `neurofm.training.predict` loads all of it.

        Parameters
        ----------
        model
            Folder of a checkpoint; or a text, ``organisation/name`` on the Hugging Face Hub (`neurofm.model.hub`).
        revision
            Branch, tag or commit there.

        Raises
        ------
        UserError
            If a file is missing, truncated or of another size than ``config.json`` says; or if
            the Hub does not give it.
        """
        return load_network(cls, checkpoint_folder(model, revision=revision))

    def encode(self, seen: Visible) -> Tensor:
        """Turn what is visible into latents, [window, patch, width]."""
        return self._latents(seen, self._tokens(seen))

    def forward(self, seen: Visible, query: Query) -> Tensor:
        """Correct the linear core's estimate of the channels asked for.

        Parameters
        ----------
        seen
            Visible channels.
        query
            Channels asked for, visible or hidden.

        Returns
        -------
        [window, time, channel] float32: residual on the scale of `neurofm.model.links`.
        """
        modality = seen.modality
        tokens = self._tokens(seen)
        answers = self.readout(
            self._latents(seen, tokens),
            identity=self.identity(query.identity),
            estimates=self.estimates[modality](to_patches(query.linear, patch=self.patch_samples[modality])),
            messages=self.messages(tokens, query.correlations, seen.shown),
        )
        corrected: Tensor = self.heads[modality](answers)
        return corrected

    def _tokens(self, seen: Visible) -> Tensor:
        """[window, patch, visible, width]."""
        patch = self.patch_samples[seen.modality]
        values, smoothed = to_patches(seen.values, patch=patch), to_patches(seen.smoothed, patch=patch)
        if seen.shown is None:
            tokens: Tensor = self.tokenizers[seen.modality](values, smoothed)
            return tokens
        # Values first, since what is not a number stays so when it is multiplied with 0; then the tokenizer's bias.
        there = seen.shown.unsqueeze(-1)
        made: Tensor = self.tokenizers[seen.modality](
            values.masked_fill(~there, 0.0), smoothed.masked_fill(~there, 0.0)
        )
        return made.masked_fill(~there, 0.0)

    def _latents(self, seen: Visible, tokens: Tensor) -> Tensor:
        """[window, patch, width]."""
        pooled = self.pooling(tokens, self.identity(seen.identity), seen.shown) + self.modality[seen.modality]
        patch_s = self.patch_samples[seen.modality] / seen.sampling_rate_hz
        latents: Tensor = self.backbone(pooled, torch.arange(pooled.shape[1], device=pooled.device) * patch_s)
        return latents
