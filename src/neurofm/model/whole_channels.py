"""Whole channels: the whole model behind the calls of the small network, which asks for channels as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.foundation import Foundation
from neurofm.model.links import target
from neurofm.model.neurofm import NeuroFM, Query, Visible
from neurofm.model.patches import Asked, ChannelTable, Seen
from neurofm.model.settings import ModelSettings
from neurofm.model.tokenizer import to_patches
from neurofm.recording import Modality


class WholeChannels(Foundation):
    """The whole model for windows of one recording, asked for whole channels; some of their patches may be seen.

    What another modality recorded at once can be seen beside it. Its weights have the names that they have in
    `Foundation`, so that each loads what the other learned.

    Parameters
    ----------
    settings, patch_samples
        As of `Foundation`.
    """

    def __init__(self, settings: ModelSettings, *, patch_samples: Mapping[Modality, int]) -> None:
        super().__init__(settings, patch_samples=patch_samples)
        self.counts = settings.tokens == "modality"

    def encode(self, seen: Visible) -> Tensor:
        """Turn what is visible into latents, [window, patch, width]."""
        return super().forward({seen.modality: self._seen(seen)}, {}).patches[seen.modality]

    def forward(self, seen: Visible, query: Query) -> Tensor:  # type: ignore[override]  # the small network's call
        """Correct the linear core's estimate, as `NeuroFM` does: [window, time, channel] float32."""
        patch = self.patch_samples[seen.modality]
        estimate = to_patches(query.linear, patch=patch)
        windows, patches, channels, _ = estimate.shape
        channel = torch.arange(channels, device=estimate.device).repeat(patches)
        when = torch.arange(patches, device=estimate.device).repeat_interleave(channels)
        asked = Asked(
            sampling_rate_hz=seen.sampling_rate_hz,
            channels=ChannelTable(features=query.identity.expand(windows, -1, -1)),
            channel=channel.expand(windows, -1),
            patch=when.expand(windows, -1),
            counts=torch.ones(windows, patches * channels, dtype=torch.bool, device=estimate.device),
            estimate=estimate.flatten(1, 2),
        )
        output = super().forward(self._all_seen(seen), {seen.modality: asked})
        residual = output.reconstruction[seen.modality].residual
        return residual.reshape(windows, patches, channels, patch).transpose(2, 3).flatten(1, 2)

    def _all_seen(self, seen: Visible) -> dict[Modality, Seen]:
        """Put together what is seen of the recording, and of the one beside it."""
        beside = {} if seen.beside is None else self._all_seen(seen.beside)
        return {seen.modality: self._seen(seen), **beside}

    def _seen(self, seen: Visible) -> Seen:
        patch = self.patch_samples[seen.modality]
        values = to_patches(self._in_units(seen), patch=patch)
        windows, patches, channels, _ = values.shape
        everyone = torch.arange(channels, device=values.device)
        smoothed = to_patches(seen.smoothed, patch=patch)
        shown = torch.ones(windows, patches, channels, dtype=torch.bool, device=values.device)
        if seen.shown is not None:
            shown, hidden = seen.shown, ~seen.shown.unsqueeze(-1)
            values, smoothed = values.masked_fill(hidden, 0.0), smoothed.masked_fill(hidden, 0.0)
        return Seen(
            sampling_rate_hz=seen.sampling_rate_hz,
            channels=ChannelTable(features=seen.identity.expand(windows, -1, -1)),
            channel=everyone.expand(windows, patches, -1),
            counts=shown,
            values=values,
            smoothed=smoothed,
            first_s=seen.first_s,
        )

    def _in_units(self, seen: Visible) -> Tensor:
        """[window, time, visible] as tokenizers want it: counts for spikes, where each modality has its own."""
        if not self.counts or seen.modality is not Modality.SPIKES:
            return seen.values
        if seen.scale is None:
            raise UserError(
                "model: tokens modality embeds counts of spikes, and the scale of the channels is not given.",
                mend="set `tokens: plain`, or give `Visible.scale`",
            )
        return target(seen.modality, seen.values, scale=seen.scale).to(seen.values.dtype)


Network = NeuroFM | WholeChannels
"""What pretraining trains."""


def network_of(settings: ModelSettings, *, patch_samples: Mapping[Modality, int]) -> Network:
    """Make the network that the settings ask for: the small one for `readout: pairs`, the whole for `popt`."""
    kind = NeuroFM if settings.readout == "pairs" else WholeChannels
    return kind(settings, patch_samples=patch_samples)
