"""Samples: the windows that a fold's recordings give to be learned from, tuned on and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.splits import Segment
from neurofm.windows import RecordingView, channel_groups, tiles

CHUNKS = 4
"""In how many parts what is fitted on is cut for cross-validation."""
TUNING_SHARE = 0.2
"""Share of the windows that is held back to tune on where a channel set has no validation segments."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows cut side by side from segments of one recording."""

    view: RecordingView
    z: npt.NDArray[np.float32]
    """[window, time, channel] in SDs; 0 where a sample is invalid or a channel unusable."""
    counted: npt.NDArray[np.bool_]
    """[window, time] samples that are fitted on or scored: valid ones, each in one window only."""
    start: npt.NDArray[np.int64]
    """[window] first sample."""

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: slice | npt.NDArray[np.int64]) -> Windows:
        """Return some of the windows."""
        return replace(self, z=self.z[index], counted=self.counted[index], start=self.start[index])

    def values(self) -> npt.NDArray[np.float32]:
        """[window, time, channel] in physical units (counts per bin for spikes)."""
        length = self.z.shape[1]
        return np.stack([self.view.values(start, start + length) for start in self.start.tolist()])


def cut(view: RecordingView, segments: Sequence[Segment], *, window_samples: int) -> Windows:
    """Cut `segments` into windows; the last one of a segment overlaps the one before and counts its new samples only.

    Segments shorter than a window give none.
    """
    cuts = tiles(segments, window_samples=window_samples)
    z = np.zeros((len(cuts), window_samples, len(view.channel_ids)), dtype=np.float32)
    counted = np.zeros((len(cuts), window_samples), dtype=np.bool_)
    for row, tile in enumerate(cuts):
        z[row] = view.z(tile.start, tile.stop)
        counted[row, tile.score_from - tile.start :] = view.valid[tile.score_from : tile.stop]
    start = np.array([tile.start for tile in cuts], dtype=np.int64)
    return Windows(view=view, z=z, counted=counted, start=start)


def learning_windows(views: Sequence[RecordingView], *, window_samples: int) -> tuple[list[Windows], list[Windows]]:
    """Cut what the recordings of one channel set may be fitted on and tuned on.

    Fitted on are the train segments; where no recording has any (a channel set met only in unseen subjects),
    their calibration segments. Tuned on are the validation segments; where there are none, the last fifth of
    each recording's windows, which are then not fitted on.

    Returns
    -------
    the windows to fit on and the windows to tune on, per recording; recordings without windows are left out.

    Raises
    ------
    UserError
        If nothing would be left to fit on or to tune on.
    """
    fit = [cut(view, view.roles.train, window_samples=window_samples) for view in views]
    if not any(map(len, fit)):
        fit = [cut(view, view.roles.calibration, window_samples=window_samples) for view in views]
    tuning = [cut(view, view.roles.validation, window_samples=window_samples) for view in views]
    if not any(map(len, tuning)):
        kept = [len(part) - int(np.ceil(TUNING_SHARE * len(part))) if len(part) > 1 else 1 for part in fit]
        tuning = [part.take(slice(keep, None)) for part, keep in zip(fit, kept, strict=True)]
        fit = [part.take(slice(None, keep)) for part, keep in zip(fit, kept, strict=True)]
    fit, tuning = [part for part in fit if len(part)], [part for part in tuning if len(part)]
    if not fit or not tuning:
        raise UserError(
            f"evaluate: {', '.join(view.name for view in views)}: fewer than two windows to fit and tune on.",
            mend="set a smaller `windows.<modality>.window_samples` in params.yaml, or take longer recordings",
        )
    return fit, tuning


def apart(part: Windows) -> Windows:
    """Return windows to tune on whose recording may be looked at before what counts in them alone.

    Where they are no validation but the end of what was fitted on (`learning_windows`), what is made from all of the
    calibration knows them already, and would be chosen to trust itself too much. Where nothing valid lies before
    them they stay as they are.
    """
    view, roles = part.view, part.view.roles
    if any(own.start <= part.start[0] < own.stop for own in roles.validation):
        return part
    first = int((part.start[:, None] + np.arange(part.z.shape[1]))[part.counted].min(initial=len(view.valid)))
    before = [Segment(start=own.start, stop=min(own.stop, first)) for own in roles.calibration if own.start < first]
    if not any(view.valid[own.start : own.stop].any() for own in before):
        return part
    return replace(part, view=replace(view, roles=roles.model_copy(update={"calibration": tuple(before)})))


def all_of(part: Windows) -> Windows:
    """Return all that a recording may be fitted on once settings are chosen, with what was held back to choose them."""
    roles = part.view.roles
    return cut(part.view, roles.train or roles.calibration, window_samples=part.z.shape[1])


def chunks(fit: Sequence[Windows]) -> list[list[Windows]]:
    """Part what is fitted on, for cross-validation: whole recordings, or stretches of the only one.

    Settings are chosen on the validation windows and on each chunk, fitted without it: the one validation block
    that a short recording affords may be one of sleep, and is a poor judge by itself.

    Returns
    -------
    the chunks; none where there is nothing to part.
    """
    if len(fit) > 1:
        return [list(fit[first::CHUNKS]) for first in range(min(CHUNKS, len(fit)))]
    parts = np.array_split(np.arange(len(fit[0])), min(CHUNKS, len(fit[0])))
    return [[fit[0].take(part)] for part in parts] if len(parts) > 1 else []


def rounds(fit: Windows, tuning: Windows) -> list[tuple[Windows, Windows]]:
    """Pair what is fitted on with what judges it, for a single recording; see `chunks`."""
    held_out = [chunk for (chunk,) in chunks([fit])]
    rest = [fit.take(np.flatnonzero(~np.isin(fit.start, chunk.start))) for chunk in held_out]
    return [(fit, tuning), *zip(rest, held_out, strict=True)]


def masks(view: RecordingView, settings: EvaluateSettings) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return (visible, hidden) channel indices; each usable channel is hidden exactly once.

    Recordings of one channel set share their masks, so a model is never asked for a mask that only one has.
    """
    usable = np.flatnonzero(view.usable).astype(np.int64)
    hidden_groups = channel_groups(
        view.usable, groups=settings.mask_groups, recording=view.channel_set, seed=settings.seed
    )
    return [(np.setdiff1d(usable, hidden), hidden) for hidden in hidden_groups]
