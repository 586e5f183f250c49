"""Held out: windows that a network is timed and judged on, with some channels hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.links import predict, to_z
from neurofm.recording import Modality, Unreadable
from neurofm.shards import read_shard
from neurofm.splits import Fold, FoldRecording, Segment, Splits
from neurofm.training.batches import Batch, cut, make_batch
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, channel_groups, load_view, load_views, tiles

_GROUPS = 3
"""Each third of the channels is hidden once."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Windows of a recording's test segments; its calibration describes it."""

    view: RecordingView
    batches: tuple[Batch, ...]
    """One per hidden third, of all windows."""
    truth: tuple[Tensor, ...]
    """Per batch: [window, time, hidden] float64, z units."""
    counts: Tensor
    """[window, time] bool"""
    gain: float
    """What the network's residual is multiplied with."""

    @property
    def windows(self) -> int:
        """How many."""
        return len(self.counts)

    def answers(self, residuals: Sequence[Tensor]) -> list[Tensor]:
        """[window, time, hidden] float64 z units per batch, from the network's residuals."""
        said = []
        for batch, residual in zip(self.batches, residuals, strict=True):
            whole = predict(
                batch.modality, linear=batch.linear, residual=self.gain * residual.double(), scale=batch.scale
            )
            said.append(to_z(batch.modality, whole, scale=batch.scale))
        return said

    def r2(self, answers: Sequence[Tensor]) -> float:
        """Share of the variance around zero, the mean of the calibration, over all hidden channels."""
        error = sum(
            float(((said - true)[self.counts] ** 2).sum()) for said, true in zip(answers, self.truth, strict=True)
        )
        total = sum(float((true[self.counts] ** 2).sum()) for true in self.truth)
        return 1 - error / total if total else float("nan")


def held_out(view: RecordingView, predictor: Predictor, *, windows: int) -> HeldOut:
    """Cut windows out of the test segments of a recording, spread evenly.

    Parameters
    ----------
    view
        With calibration and test segments: of `split_views` or `halved_view`.
    predictor
        Not strict: a latency is the same for a montage that was never met.
    windows
        At most so many.

    Raises
    ------
    UserError
        If the recording is of a modality that the model does not know, or too short.
    """
    context = predictor.prepare(view)
    length = predictor.checkpoint.windows.of(view.modality).window_samples
    cuts = tiles(view.roles.test, window_samples=length)
    if not cuts or np.count_nonzero(view.usable) < 2 * _GROUPS:
        raise UserError(
            f"{view.name}: {len(view.stored)} samples of {np.count_nonzero(view.usable)} usable channels are too few.",
            mend=f"take a recording of at least {2 * length} samples with {2 * _GROUPS} channels",
        )
    chosen = np.unique(np.linspace(0, len(cuts) - 1, min(windows, len(cuts))).round().astype(np.int64))
    starts = np.array([cuts[number].start for number in chosen], dtype=np.int64)
    z, counts = cut(view, starts, window_samples=length)
    usable = np.flatnonzero(view.usable).astype(np.int64)
    batches, truth = [], []
    for hidden in channel_groups(view.usable, groups=_GROUPS, recording=view.channel_set, seed=0):
        visible = torch.from_numpy(np.setdiff1d(usable, hidden))
        batches.append(
            make_batch(view, context, values=z[..., visible], visible=visible, hidden=torch.from_numpy(hidden))
        )
        truth.append(z[..., torch.from_numpy(hidden)].double())
    return HeldOut(
        view=view,
        batches=tuple(batches),
        truth=tuple(truth),
        counts=counts,
        gain=predictor.checkpoint.gains.get(view.modality, 0.0),
    )


def halved_view(shard: Path) -> RecordingView:
    """Load a recording of no split: its first half describes it, its second is asked for.

    The model may have learned from it, and nothing of it is taken out of what the model knows: its R2 compares number
    formats, and says nothing of new recordings.

    Raises
    ------
    UserError
        If the shard is not whole.
    """
    try:
        header = read_shard(shard, signal=False)
        view = load_view(shard, calibration_s=len(header.valid) / header.sampling_rate_hz / 2)
    except Unreadable as error:
        raise UserError(f"{error}.", mend="neurofm shards repair") from None
    begin, end = view.roles.calibration[-1].stop, len(view.stored)
    test = (Segment(start=begin, stop=end),) if begin < end else ()
    return replace(view, roles=view.roles.model_copy(update={"test": test}))


def split_views(splits: Splits, *, fold: int, shards: Path, modalities: Sequence[Modality]) -> list[RecordingView]:
    """Load one held-out recording of a fold per modality, the first by name, in the roles that the fold gives it.

    Raises
    ------
    UserError
        For a fold that is not there, and a shard that is not whole.
    """
    if not 0 <= fold < len(splits.folds):
        raise UserError(f"latency: there is no fold {fold} of {len(splits.folds)}.", mend="give another --fold")
    chosen: dict[Modality, FoldRecording] = {}
    for entry in sorted(splits.folds[fold].recordings, key=lambda one: (one.dataset, one.recording)):
        if entry.test and entry.modality in modalities:
            chosen.setdefault(entry.modality, entry)
    alone = splits.model_copy(update={"folds": (Fold(recordings=tuple(chosen.values())),)})
    try:
        return load_views(alone, fold=0, shards=shards)
    except Unreadable as error:
        raise UserError(f"{error}.", mend="neurofm shards repair") from None
