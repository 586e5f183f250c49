"""What a core is given of windows: checked, and with everything hidden taken out before anything is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.errors import UserError


def seen_values(values: Tensor, visible: Tensor, *, channels: int) -> Tensor:
    """Take out what is hidden.

    Parameters
    ----------
    values
        [window, time, channel] real, z units; hidden entries may be anything, NaN too.
    visible
        [window, time, channel] bool
    channels
        How many channels the core was made for.

    Returns
    -------
    [window, time, channel]: `values` where visible, 0 elsewhere, so that no result can depend on a hidden value.

    Raises
    ------
    UserError
        If shapes or channels do not agree, a window has nothing visible, or a visible value is not finite.
    """
    if values.dim() != 3 or values.shape != visible.shape or visible.dtype != torch.bool:
        raise UserError(
            f"values of shape {tuple(values.shape)} came with a visible mask of shape {tuple(visible.shape)} and type "
            f"{visible.dtype}.",
            mend="give both as [window, time, channel], the mask as bool",
        )
    if values.shape[-1] != channels:
        raise UserError(
            f"the window has {values.shape[-1]} channels, but the core was made for {channels}.",
            mend="give it windows of the recordings that its prior came from",
        )
    if 0 in values.shape:
        raise UserError(f"the batch of shape {tuple(values.shape)} is empty.", mend="give it at least one window")
    something = visible.flatten(1).any(dim=1)
    if not something.all():
        raise UserError(
            f"{int((~something).sum())} of {len(something)} windows have all of their {channels} channels masked.",
            mend="leave at least one entry of every window visible",
        )
    known = torch.where(visible, values, 0.0)
    wrong = ~known.isfinite()
    if wrong.any():
        raise UserError(
            f"{int(wrong.sum())} of {int(visible.sum())} visible values are NaN or infinite.",
            mend="hide invalid samples before they are given to the core",
        )
    return known
