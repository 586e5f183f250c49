"""Small batches of every modality, and the whole model at a size that tests can afford."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurofm.model.foundation import Foundation
from neurofm.model.heads import Task
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.model.links import Scale
from neurofm.model.masks import Core, Hidden, hide
from neurofm.model.patches import ChannelTable
from neurofm.model.settings import MaskSettings, ModelSettings
from neurofm.recording import Modality

PATCH = dict.fromkeys(Modality, 4)
SMALL: dict[str, Any] = {
    "backbone": "transformer",
    "width": 16,
    "layers": 2,
    "heads": 2,
    "dropout": 0.1,
    "state": 4,
    "readout": "popt",
    "tokens": "modality",
    "fourier_bands": 2,
    "regions": 8,
    "units": 8,
    "pooling": "slots",
    "slots": 2,
    "mix": 1,
    "latents": 3,
    "fusion_layers": 1,
    "popt_layers": 1,
}


def foundation(*, trained: bool = True, tasks: Mapping[str, Task] | None = None, **changes: Any) -> Foundation:
    """Make the whole model; `trained` gives all weights values that matter."""
    torch.manual_seed(0)
    network = Foundation(ModelSettings(**{**SMALL, **changes}), patch_samples=PATCH, tasks=tasks).eval()
    if trained:
        for parameter in network.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return network


def table(channels: int, *, windows: int = 2) -> ChannelTable:
    """Channels with positions, some regions, some units."""
    features = torch.randn(channels, IDENTITY_FEATURES, generator=torch.Generator().manual_seed(channels))
    features[:, 3] = 1.0
    index = torch.arange(channels)
    return ChannelTable(
        features=features.expand(windows, -1, -1),
        region=(index % 3).expand(windows, -1),
        unit=(index % 8).expand(windows, -1),
    )


def scale(channels: int) -> Scale:
    """Of channels that are alike."""
    return Scale(
        mean=torch.full((channels,), 0.8, dtype=torch.float64),
        sd=torch.full((channels,), 0.9, dtype=torch.float64),
        rate_floor=0.1,
    )


def z_of(modality: Modality, *, windows: int = 2, patches: int = 5, channels: int = 7) -> Tensor:
    """[window, time, channel] z units; of spikes whole counts."""
    generator = torch.Generator().manual_seed(1)
    if modality is Modality.SPIKES:
        rate = torch.full((windows, 4 * patches, channels), 0.8)
        return (torch.poisson(rate, generator=generator) - 0.8) / 0.9
    return torch.randn(windows, 4 * patches, channels, generator=generator)


def hidden_of(z: Tensor, *, share: float = 0.3, seed: int = 2) -> Tensor:
    """[window, patch, channel] bool: random patches."""
    windows, time, channels = z.shape
    return torch.rand(windows, time // 4, channels, generator=torch.Generator().manual_seed(seed)) < share


def batch(
    modality: Modality,
    *,
    z: Tensor | None = None,
    hidden: Tensor | None = None,
    core: Core | None = None,
    visible: int = 64,
    targets: int = 256,
) -> Hidden:
    """Hide patches of a modality; the same each time."""
    z = z_of(modality) if z is None else z
    return hide(
        z,
        hidden_of(z) if hidden is None else hidden,
        patch=4,
        sampling_rate_hz=10.0,
        channels=table(z.shape[2], windows=len(z)),
        scale=scale(z.shape[2]),
        settings=MaskSettings(visible=visible, targets=targets),
        generator=torch.Generator().manual_seed(3),
        counts=modality is Modality.SPIKES,
        core=core,
    )


def real_windows(shared_data: Path, *, subject: int = 0, samples: int = 20) -> Tensor:
    """[window, time, channel] float32 of a child or adult who watches a film: 64 parcels, z-scored over the run."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))
    x = np.load(files[subject]).astype(np.float32)
    whole = len(x) // samples
    return torch.from_numpy(x[: whole * samples].reshape(whole, samples, -1))
