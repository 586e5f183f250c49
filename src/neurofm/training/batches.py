"""Batches: windows of one recording with some channels hidden, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurofm.model.core import smooth_scales
from neurofm.model.links import Scale, predict, target
from neurofm.model.losses import LOSSES
from neurofm.model.neurofm import Query, Visible
from neurofm.recording import Modality
from neurofm.training.contexts import Context, scale_of, usable_of
from neurofm.windows import RecordingView


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Windows of one recording that share one set of hidden channels, or of channels with hidden patches."""

    seen: Visible
    query: Query
    linear: Tensor
    """[window, time, hidden] float64: estimate of the core, z units."""
    scale: Scale
    """Of the hidden channels."""

    @property
    def modality(self) -> Modality:
        """Modality of the recording."""
        return self.seen.modality

    def __len__(self) -> int:
        return len(self.linear)

    def rows(self, first: int, last: int) -> Batch:
        """Return some of the windows."""
        some = slice(first, last)
        return Batch(
            seen=rows_of(self.seen, some),
            query=replace(self.query, linear=self.query.linear[some]),
            linear=self.linear[some],
            scale=self.scale,
        )

    def to(self, device: torch.device) -> Batch:
        """Move it to where the network is."""
        moved: Batch = _moved(self, device)
        return moved


def rows_of(seen: Visible, some: slice) -> Visible:
    """Return what is seen of some of the windows."""
    return replace(
        seen,
        values=seen.values[some],
        smoothed=seen.smoothed[some],
        shown=None if seen.shown is None else seen.shown[some],
        beside=None if seen.beside is None else rows_of(seen.beside, some),
    )


def _moved(value: Any, device: torch.device) -> Any:
    """Move a tensor, or every tensor of a dataclass."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _moved(getattr(value, one.name), device) for one in fields(value)})
    return value


def see(view: RecordingView, context: Context, *, values: Tensor, visible: Tensor) -> tuple[Visible, Tensor]:
    """Put together what is seen of windows.

    Parameters
    ----------
    view, context
        The recording and what is known of it.
    values
        [window, time, visible] float32 z units of the visible channels.
    visible
        int64 channel indices.

    Returns
    -------
    What the network sees, and the smoothed values that the linear core sees, [window, time, scale, visible] float64.
    """
    smoothed = smooth_scales(values.double(), sds_samples=context.core.settings.smoothing_samples)
    seen = Visible(
        modality=view.modality,
        sampling_rate_hz=view.sampling_rate_hz,
        values=values,
        smoothed=smoothed.mean(dim=-2).float(),
        identity=context.identity[visible],
        scale=context.scale.of(visible),
    )
    return seen, smoothed


def make_batch(view: RecordingView, context: Context, *, values: Tensor, visible: Tensor, hidden: Tensor) -> Batch:
    """Put together what the model predicts from.

    Parameters
    ----------
    view, context
        The recording and what is known of it.
    values
        [window, time, visible] float32 z units of the visible channels, all that is seen of the windows.
    visible, hidden
        int64 channel indices.
    """
    seen, smoothed = see(view, context, values=values, visible=visible)
    linear = context.estimate(values.double(), smoothed=smoothed, visible=visible, hidden=hidden)
    query = Query(
        linear=linear.float(),
        identity=context.identity[hidden],
        correlations=context.core.correlations(visible, hidden),
    )
    return Batch(seen=seen, query=query, linear=linear, scale=context.scale.of(hidden))


def loss_of(batch: Batch, *, residual: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean loss over the samples that count.

    Parameters
    ----------
    batch
        With the core's estimate.
    residual
        [window, time, hidden], already times its gain.
    truth
        [window, time, hidden] z units.
    counts
        [window, time] bool, or [window, time, hidden].
    """
    prediction = predict(batch.modality, linear=batch.linear, residual=residual.double(), scale=batch.scale)
    wanted = target(batch.modality, truth.double(), scale=batch.scale)
    each = LOSSES[batch.modality](prediction, wanted)[counts]
    # Windows without one valid sample teach nothing.
    return each.sum() / max(each.numel(), 1)


def null_loss(view: RecordingView, z: Tensor) -> float:
    """Mean loss of predicting each usable channel's mean, whichever core there is.

    Parameters
    ----------
    view
        For its modality and usable channels.
    z
        [sample, channel] valid samples, z units.
    """
    usable = usable_of(view)
    known = scale_of(view, rate_floor=1.0).of(usable)
    wanted = target(view.modality, z[:, usable].double(), scale=known)
    nothing = torch.zeros_like(wanted)
    constant = predict(view.modality, linear=nothing, residual=nothing, scale=known)
    return float(LOSSES[view.modality](constant, wanted).mean())


def cut(view: RecordingView, starts: npt.NDArray[np.int64], *, window_samples: int) -> tuple[Tensor, Tensor]:
    """Cut windows out of a recording.

    Returns
    -------
    z [window, time, channel] float32 and valid [window, time] bool.
    """
    z = np.stack([view.z(int(start), int(start) + window_samples) for start in starts])
    valid = np.stack([view.valid[start : start + window_samples] for start in starts])
    return torch.from_numpy(z), torch.from_numpy(valid)
