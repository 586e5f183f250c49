"""Masks: what is hidden of a window, and the dense batch that is left.

After MtM (Zhang et al. 2024, arXiv:2407.14668), which shows that a model learns what its masks ask of it: single
patches, whole channels, a stretch of time, a region, the future.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.links import Scale
from neurofm.model.objectives import Truth
from neurofm.model.patches import Asked, ChannelTable, Seen
from neurofm.model.settings import MaskSettings
from neurofm.model.tokenizer import to_patches


@dataclass(frozen=True, kw_only=True)
class Surface:
    """What masks are drawn on: the patches and channels of one window."""

    patches: int
    features: Tensor
    """[channel, IDENTITY_FEATURES], the first four a position and whether it is known."""
    region: Tensor | None
    """[channel] int64, 0 unknown."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.features)


def _random(surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:
    total = surface.patches * surface.channels
    hidden = torch.zeros(total, dtype=torch.bool)
    hidden[torch.randperm(total, generator=generator)[: _some(fraction, total)]] = True
    return hidden.reshape(surface.patches, surface.channels)


def _channel(surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:
    order = torch.randperm(surface.channels, generator=generator)
    return _whole_channels(surface, order[: _some(fraction, surface.channels)])


def _time(surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:
    length = _some(fraction, surface.patches)
    start = int(torch.randint(surface.patches - length + 1, (), generator=generator))
    return _block(surface, start, start + length)


def _forward(surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - as all masks
    return _block(surface, surface.patches - _some(fraction, surface.patches), surface.patches)


def _region(surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:
    """Hide one region where there are several; else the neighbourhood of a channel; without positions any channels."""
    centre = int(torch.randint(surface.channels, (), generator=generator))
    if surface.region is not None and surface.region[centre] > 0:
        inside = surface.region == surface.region[centre]
        if not inside.all():
            return _whole_channels(surface, inside.nonzero().squeeze(1))
    position, known = surface.features[:, :3], surface.features[:, 3] > 0
    if not known.all():
        return _channel(surface, fraction, generator)
    distance = (position - position[centre]).square().sum(dim=1)
    return _whole_channels(surface, distance.argsort()[: _some(fraction, surface.channels)])


def _some(fraction: float, total: int) -> int:
    """Share of `total`, at least one and not all."""
    return min(max(round(fraction * total), 1), total - 1)


def _whole_channels(surface: Surface, channels: Tensor) -> Tensor:
    hidden = torch.zeros(surface.patches, surface.channels, dtype=torch.bool)
    hidden[:, channels] = True
    return hidden


def _block(surface: Surface, start: int, stop: int) -> Tensor:
    hidden = torch.zeros(surface.patches, surface.channels, dtype=torch.bool)
    hidden[start:stop] = True
    return hidden


MASKS: dict[str, Callable[[Surface, float, torch.Generator], Tensor]] = {
    "random": _random,
    "channel": _channel,
    "time": _time,
    "region": _region,
    "forward": _forward,
}
"""Kind of mask -> (surface, fraction, generator) -> [patch, channel] bool, True is hidden."""
_NEEDS = {"random": (1, 2), "channel": (1, 2), "time": (2, 1), "region": (1, 2), "forward": (2, 1)}
"""Patches and channels that a kind of mask needs to leave something visible."""


def draw_hidden(settings: MaskSettings, surface: Surface, *, windows: int, generator: torch.Generator) -> Tensor:
    """Draw a mask for each window.

    Parameters
    ----------
    settings
        Kinds and fractions.
    surface
        Of the usable channels, the same for all windows.
    windows
        How many.
    generator
        Of the CPU, so that masks are the same on every device.

    Returns
    -------
    [window, patch, channel] bool on the CPU: True is hidden; something is visible in each window.

    Raises
    ------
    UserError
        Where the windows are too small for a kind of mask that is asked for.
    """
    for kind, share in settings.shares.items():
        patches, channels = _NEEDS[kind]
        if share > 0 and (surface.patches < patches or surface.channels < channels):
            raise UserError(
                f"model: mask {kind} with share {share} needs windows of {patches} patches and {channels} channels, "
                f"these have {surface.patches} and {surface.channels}.",
                mend=f"set the share of {kind} to 0, or lengthen `windows` in params.yaml",
            )
    kinds = list(settings.shares)
    weights = torch.tensor([settings.shares[kind] for kind in kinds], dtype=torch.float64)
    drawn = torch.multinomial(weights, windows, replacement=True, generator=generator)
    low, high = settings.hidden_fraction_min, settings.hidden_fraction_max
    fractions = low + (high - low) * torch.rand(windows, generator=generator)
    return torch.stack(
        [
            MASKS[kinds[int(kind)]](surface, float(fraction), generator)
            for kind, fraction in zip(drawn, fractions, strict=True)
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Windows of which something is hidden."""

    seen: Seen
    asked: Asked
    truth: Truth


Core = Callable[[Tensor, Tensor], Tensor]
"""The linear core: (z with zeros where hidden, visible), both [window, time, channel], -> estimate of all of z."""


def hide(
    z: Tensor,
    hidden: Tensor,
    *,
    patch: int,
    sampling_rate_hz: float,
    channels: ChannelTable,
    scale: Scale,
    settings: MaskSettings,
    generator: torch.Generator,
    valid: Tensor | None = None,
    counts: bool = False,
    core: Core | None = None,
) -> Hidden:
    """Keep what is visible, within the budget, and ask for what is not.

    Hidden values are set to zero before anything else is made of the window, so only `truth` knows them.

    Parameters
    ----------
    z
        [window, time, channel] float32 z units of the usable channels; time in whole patches.
    hidden
        [window, patch, channel] bool (`draw_hidden`), or any other.
    patch, sampling_rate_hz
        Of the modality.
    channels, scale
        Of the same channels.
    settings
        The budget.
    generator
        Of the CPU: which visible channels are read and which hidden patches asked for, where there are too many.
    valid
        [window, time] bool: samples that are judged; all where None.
    counts
        Whether tokenizers want spike counts rather than z units.
    core
        None leaves the mean as the estimate.

    Raises
    ------
    UserError
        If shapes contradict each other, or all of a window is hidden.
    """
    windows, time, total = z.shape
    if hidden.shape != (windows, time // patch, total) or time % patch or channels.features.shape[1] != total:
        raise UserError(
            f"model: windows of {time} samples and {total} channels, masks of {tuple(hidden.shape[1:])} patches and "
            f"channels, patches of {patch} samples, identity features of {channels.features.shape[1]} channels.",
            mend="give all of the same recording, in whole patches",
        )
    if hidden.flatten(1).all(dim=1).any():
        raise UserError(f"model: all {total} channels are hidden.", mend="lower `hidden_fraction_max` in params.yaml")
    place, there = _choose(~hidden.cpu(), settings.visible, generator)
    target, scored = _choose(hidden.cpu().flatten(1), settings.targets, generator)
    place, there, target, scored = (part.to(z.device) for part in (place, there, target, scored))
    hidden = hidden.to(z.device)

    visible = ~hidden.repeat_interleave(patch, dim=1)
    known = torch.where(visible, z, 0.0)
    estimate = torch.zeros_like(known) if core is None else core(known, visible).to(known.dtype)
    shown = torch.where(visible, known * scale.sd + scale.mean, 0.0).to(known.dtype) if counts else known
    smoothed = known if core is None else estimate

    def cut(x: Tensor) -> Tensor:
        """[window, time, channel] -> [window, patch, channel, sample]."""
        return to_patches(x, patch=patch)

    judged = torch.ones(windows, time, dtype=torch.bool, device=z.device) if valid is None else valid
    asked_channel, asked_patch = target % total, target // total
    return Hidden(
        seen=Seen(
            sampling_rate_hz=sampling_rate_hz,
            channels=channels,
            channel=place,
            counts=there,
            values=torch.where(there.unsqueeze(-1), _at(cut(shown), place), 0.0),
            smoothed=torch.where(there.unsqueeze(-1), _at(cut(smoothed), place), 0.0),
        ),
        asked=Asked(
            sampling_rate_hz=sampling_rate_hz,
            channels=channels,
            channel=asked_channel,
            patch=asked_patch,
            counts=scored,
            estimate=_at(cut(estimate).flatten(1, 2), target),
        ),
        truth=Truth(
            z=_at(cut(z).flatten(1, 2), target),
            counts=_at(cut(judged.unsqueeze(-1)).squeeze(2), asked_patch) & scored.unsqueeze(-1),
            scale=replace(
                scale, mean=scale.mean[asked_channel].unsqueeze(-1), sd=scale.sd[asked_channel].unsqueeze(-1)
            ),
        ),
    )


def _choose(wanted: Tensor, budget: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose up to `budget` places along the last axis, at random among those wanted.

    Returns
    -------
    Indices and whether they are wanted, [..., budget or fewer].
    """
    order = torch.rand(wanted.shape, generator=generator) + (~wanted).float()
    index = order.argsort(dim=-1)[..., :budget]
    return index, wanted.gather(-1, index)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """[..., place, sample] at [..., chosen] -> [..., chosen, sample]."""
    return x.gather(-2, index.unsqueeze(-1).expand(*index.shape, x.shape[-1]))
