"""PopT's auxiliary tasks: which channels were replaced, and whether channels belong to the same moment.

Chau et al. 2024, arXiv:2406.03044. Both take what is strange from another window of the batch, before anything is
hidden, so windows must be of one recording.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.patches import Asked, Seen


def replace_channels(z: Tensor, *, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace some channels of each window by the same channels in another window.

    Parameters
    ----------
    z
        [window, time, channel]
    share
        Of the channels; at least one is replaced.
    generator
        Of the CPU.

    Returns
    -------
    As `z`, and which were replaced, [window, channel] bool: the labels of `replaced`.

    Raises
    ------
    UserError
        For a batch of one window.
    """
    _refuse_single(z)
    windows, _, channels = z.shape
    order = torch.rand(windows, channels, generator=generator).argsort(dim=1)
    replaced = (order < max(round(share * channels), 1)).to(z.device)
    return torch.where(replaced.unsqueeze(1), z.roll(1, dims=0), z), replaced


def unpair(z: Tensor, *, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Take part of the channels of half of the windows from another window.

    Parameters
    ----------
    z
        [window, time, channel] of one modality.
    share
        Of the channels: 0.5 with one modality, 1 where another modality shows the same windows.
    generator
        Of the CPU.

    Returns
    -------
    As `z`, and which windows are still of one moment, [window, 1] bool: the labels of `paired`.

    Raises
    ------
    UserError
        For a batch of one window.
    """
    _refuse_single(z)
    windows, _, channels = z.shape
    strange = torch.rand(channels, generator=generator).argsort() < max(round(share * channels), 1)
    paired = torch.rand(windows, 1, generator=generator) < 0.5
    mixed = (strange & ~paired).unsqueeze(1).to(z.device)
    return torch.where(mixed, z.roll(1, dims=0), z), paired.to(z.device)


def ask_visible(seen: Seen, *, generator: torch.Generator) -> Asked:
    """Ask for one visible patch of each place, so that the readout looks at channels which the task is about.

    The question carries no values: what is known of the channel comes from the sequence.
    """
    windows, patches, places = seen.channel.shape
    patch = torch.randint(patches, (windows, 1, places), generator=generator).to(seen.channel.device)
    return Asked(
        sampling_rate_hz=seen.sampling_rate_hz,
        channels=seen.channels,
        channel=seen.channel.gather(1, patch).squeeze(1),
        patch=patch.squeeze(1),
        counts=seen.counts.gather(1, patch).squeeze(1),
        estimate=torch.zeros_like(seen.values[:, 0]),
        first_s=seen.first_s,
    )


def _refuse_single(z: Tensor) -> None:
    if len(z) < 2:
        raise UserError(
            f"model: auxiliary tasks need 2 windows, the batch has {len(z)}.",
            mend="raise `batch_windows` in params.yaml",
        )
