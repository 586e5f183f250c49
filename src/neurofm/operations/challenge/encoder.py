"""Encoder: two seconds of 129 channels become features, with nothing known of the recording that they are from.

The organisers hand over single windows. So what `neurofm.training.predict` takes from a recording's calibration is
taken here from the window itself (mean and SD of each channel) or from the training recordings (what the channels are
like, and the principal components of what the linear core sees).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.model.core import LinearCore, smooth_scales
from neurofm.model.neurofm import Visible
from neurofm.model.whole_channels import Network
from neurofm.operations.challenge.contract import RATE_HZ, SAMPLES
from neurofm.recording import Modality
from neurofm.windows.normaliser import MIN_SD_FRACTION

COMPONENTS = 32


class WindowEncoder(nn.Module):
    """Frozen network, from a window in any unit to features.

    Parameters
    ----------
    network
        Of a checkpoint.
    identity
        [channel, IDENTITY_FEATURES] what the channels are like, over the training recordings.
    core
        Of the training recordings.
    patch_samples
        Of the network's patches; what the last whole patch leaves of a window is left out.
    """

    smoothing: Tensor
    components: Tensor
    identity: Tensor

    def __init__(self, network: Network, *, identity: Tensor, core: LinearCore, patch_samples: int) -> None:
        super().__init__()
        self.network = network
        self.samples = SAMPLES - SAMPLES % patch_samples
        self.patches = self.samples // patch_samples
        channels = torch.arange(len(identity))
        scales = len(core.settings.smoothing_samples)
        # Smoothing is linear in time: what it makes of unit impulses says it all, and can be traced.
        impulses = torch.eye(self.samples, dtype=torch.float64)
        smoothing = smooth_scales(impulses, sds_samples=core.settings.smoothing_samples).transpose(0, 1)
        components = core.components(channels, count=COMPONENTS).reshape(scales, len(channels), COMPONENTS)
        self.register_buffer("smoothing", smoothing.float())
        self.register_buffer("components", components.float())
        self.register_buffer("identity", identity.float())

    def forward(self, windows: Tensor) -> Tensor:
        """Encode windows.

        Parameters
        ----------
        windows
            [window, channel, time] float32 in any unit; a silent channel adds nothing.

        Returns
        -------
        [window, feature]: mean and SD over patches of the network's latents and of the components; then the log SD of
        each channel against the median channel's.
        """
        values = windows[..., : self.samples].transpose(1, 2)
        z, spread = _standardised(values)
        smoothed = torch.einsum("sto,woc->wtsc", self.smoothing, z)
        seen = Visible(
            modality=Modality.EEG,
            sampling_rate_hz=float(RATE_HZ),
            values=z,
            smoothed=smoothed.mean(dim=-2),
            identity=self.identity,
        )
        scores = torch.einsum("wtsc,sck->wtk", smoothed, self.components)
        averaged = scores.reshape(-1, self.patches, self.samples // self.patches, COMPONENTS).mean(dim=2)
        encoded = torch.cat([self.network.encode(seen), averaged], dim=-1)
        return torch.cat([encoded.mean(dim=1), encoded.std(dim=1, correction=0), spread], dim=-1)


def _standardised(values: Tensor) -> tuple[Tensor, Tensor]:
    """[window, time, channel] in SDs, 0 where a channel is silent; and [window, channel] log SDs against the median."""
    centred = values - values.mean(dim=1, keepdim=True)
    sd = centred.square().mean(dim=1, keepdim=True).sqrt()
    typical = sd.median(dim=2, keepdim=True).values
    loud = (sd >= MIN_SD_FRACTION * typical) & (sd > 0)
    z = torch.where(loud, centred / torch.where(loud, sd, torch.ones_like(sd)), torch.zeros_like(centred))
    relative = torch.where(loud, sd / torch.where(loud, typical, torch.ones_like(sd)), torch.full_like(sd, 0.1))
    return z, relative.clamp(0.1, 10.0).log().squeeze(1)


class Regressor(nn.Module):
    """Encoder and linear read-out: [window, channel, time] -> [window, 1], as the organisers want it.

    Parameters
    ----------
    encoder
        Frozen.
    weight
        [feature]
    bias
        Of the read-out.
    low, high
        Least and largest target that was learned from: nothing beyond is said.
    """

    weight: Tensor

    def __init__(self, encoder: WindowEncoder, *, weight: Tensor, bias: float, low: float, high: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("weight", weight.float())
        self.bias, self.low, self.high = bias, low, high

    def forward(self, windows: Tensor) -> Tensor:
        """[window, channel, time] float32 -> [window, 1] float32."""
        said: Tensor = self.encoder(windows) @ self.weight + self.bias
        return said.clamp(self.low, self.high).unsqueeze(-1)
