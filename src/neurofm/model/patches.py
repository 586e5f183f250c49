"""What the whole model reads: visible patches and nothing else, and the patches that are asked for.

Places of a patch are filled with as many visible channels as the budget allows, so batches are dense. A value that
is hidden is not in them: it cannot influence anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.identity import IDENTITY_FEATURES
from neurofm.recording import Modality


@dataclass(frozen=True, kw_only=True)
class ChannelTable:
    """What is known of channels without their values in the window."""

    features: Tensor
    """[window, channel, IDENTITY_FEATURES] float32"""
    region: Tensor | None = None
    """[window, channel] int64 (`neurofm.model.identity.table_index`)"""
    unit: Tensor | None = None
    """[window, channel] int64"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Visible patches of one modality."""

    sampling_rate_hz: float
    channels: ChannelTable
    channel: Tensor
    """[window, patch, place] int64: whose patch lies there."""
    counts: Tensor
    """[window, patch, place] bool: False is padding."""
    values: Tensor
    """[window, patch, place, sample] float32 as the tokenizer wants them: counts for spikes where each modality has
    its own tokenizer, z units otherwise; finite in padding too."""
    smoothed: Tensor
    """The same shape in z units: what the linear core makes of it; without one, the values."""
    first_s: float = 0.0
    """When the first patch starts, on a clock that all modalities of the batch share."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Patches asked for, of one modality, seen or not."""

    sampling_rate_hz: float
    channels: ChannelTable
    channel: Tensor
    """[window, target] int64"""
    patch: Tensor
    """[window, target] int64; beyond the window is the future."""
    counts: Tensor
    """[window, target] bool: False is padding."""
    estimate: Tensor
    """[window, target, sample] float32 z units: what the linear core says; 0 is the mean."""
    first_s: float = 0.0


def check_batch(
    seen: Mapping[Modality, Seen], asked: Mapping[Modality, Asked], *, patch: Mapping[Modality, int]
) -> None:
    """Refuse what the model cannot read.

    Parameters
    ----------
    seen, asked
        A batch.
    patch
        Samples in a patch, per modality that the model has.

    Raises
    ------
    UserError
        For an empty batch, a modality that the model does not have, shapes that contradict each other, and on the
        CPU for values that are not finite and windows of which nothing is visible. On a GPU to look at values would
        be to wait for it at every step, and a loss that is not finite tells as much.
    """
    if not seen:
        raise UserError("model: the batch has no modality.", mend=f"give at least one of {', '.join(patch)}")
    windows = {str(modality): len(one.values) for modality, one in seen.items()}
    windows |= {f"{modality} asked for": len(one.channel) for modality, one in asked.items()}
    if len(set(windows.values())) > 1 or 0 in windows.values():
        said = ", ".join(f"{name} {count}" for name, count in windows.items())
        raise UserError(f"model: windows in the batch: {said}.", mend="give the same number, at least 1, of each")
    for modality, one in _both(seen, asked):
        if modality not in patch:
            raise UserError(
                f"model: {modality} is not among the model's modalities {', '.join(patch)}.",
                mend="train a model with it: add it under `windows` in params.yaml",
            )
        _check_shapes(modality, one, samples=patch[modality])
    if not torch.compiler.is_compiling():
        _check_values(seen, asked)


def _both(seen: Mapping[Modality, Seen], asked: Mapping[Modality, Asked]) -> list[tuple[Modality, Seen | Asked]]:
    return [*seen.items(), *asked.items()]


def _check_shapes(modality: Modality, one: Seen | Asked, *, samples: int) -> None:
    values, features = one.values if isinstance(one, Seen) else one.estimate, one.channels.features
    for name, found, setting, wanted in (
        ("samples in a patch", values.shape[-1], f"windows.{modality}.patch_samples", samples),
        ("identity features per channel", features.shape[-1], "IDENTITY_FEATURES", IDENTITY_FEATURES),
        ("windows in the table of channels", len(features), "windows in the batch", len(values)),
        ("shape of channel indices", tuple(one.channel.shape), "shape of values", tuple(values.shape[:-1])),
        ("shape of counts", tuple(one.counts.shape), "shape of values", tuple(values.shape[:-1])),
    ):
        if found != wanted:
            raise UserError(f"model: {modality}: {name} {found}, {setting} {wanted}.", mend="give both alike")


def _check_values(seen: Mapping[Modality, Seen], asked: Mapping[Modality, Asked]) -> None:
    for modality, one in _both(seen, asked):
        channels = one.channels.features.shape[1]
        if one.channel.device.type == "cpu" and one.channel.numel() and int(one.channel.max()) >= channels:
            raise UserError(
                f"model: {modality}: channel {int(one.channel.max())} of a table of {channels} channels.",
                mend="give identity features of every channel of the recording",
            )
    visible: list[Tensor] = []
    for modality, one in seen.items():
        if one.values.device.type != "cpu":
            return
        broken = ~one.values.isfinite().all(dim=-1)
        if broken.any():
            window, patch, place = (int(index) for index in broken.nonzero()[0])
            raise UserError(
                f"model: {modality}: {int(broken.sum())} of {broken.numel()} patches are not finite; the first: window "
                f"{window}, patch {patch}, channel {int(one.channel[window, patch, place])}.",
                mend="mark such samples as not valid when the recording is preprocessed",
            )
        visible.append(one.counts.flatten(1).any(dim=1))
    blind = ~torch.stack(visible).any(dim=0)
    if blind.any():
        raise UserError(
            f"model: visible channels in window {int(blind.nonzero()[0])}: 0 of "
            f"{sum(one.channels.features.shape[1] for one in seen.values())}.",
            mend="hide fewer: lower `hidden_fraction_max` in params.yaml",
        )
