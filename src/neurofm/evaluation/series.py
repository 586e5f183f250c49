"""Series: whole recordings with the channels that training recordings share, for features of subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from neurofm.recording import Modality
from neurofm.windows import RecordingView

Floats = npt.NDArray[np.float64]
Features = Callable[[Sequence[RecordingView]], Floats]
"""Recordings of one channel set to [recording, feature]."""
FitFeatures = Callable[[Sequence[RecordingView]], Features]
"""Takes whatever it needs to know (a reference, a prior) from training recordings, and from no other."""

_SHARED = 0.9
"""Share of the training recordings in which a channel must be usable."""
_RIDGE = 0.02
"""White noise in the mean covariance that fills unusable channels in."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """How recordings are read: which channels are kept, in which units, and how a channel that is lost is filled in."""

    kept: npt.NDArray[np.int64]
    """[kept] columns of the recordings."""
    scale: Floats
    """[kept] SD of a channel in training recordings, in physical units; ones where signals are standardised."""
    mean: Floats
    """[kept, kept] mean covariance of training recordings."""

    @classmethod
    def fit(cls, views: Sequence[RecordingView]) -> Self:
        """Learn it from training recordings of one channel set."""
        usable = np.mean([known_channels(view) for view in views], axis=0)
        kept = np.flatnonzero(usable >= min(_SHARED, usable.max())).astype(np.int64)
        raw = [_raw(view)[view.valid][:, kept] for view in views]
        variance = np.array([part.var(axis=0) for part in raw])
        good = np.array([known_channels(view)[kept] for view in views])
        scale = np.sqrt((variance * good).sum(axis=0) / good.sum(axis=0))
        if is_standardised(views[0]):
            scale = np.ones(len(kept))
        # Over the recordings that have both channels.
        pairs = np.einsum("rc,rd->cd", good.astype(np.float64), good.astype(np.float64))
        total = sum(np.cov((part / scale * own).T, bias=True) for part, own in zip(raw, good, strict=True))
        mean = total / np.maximum(pairs, 1.0)
        return cls(kept=kept, scale=scale, mean=(1 - _RIDGE) * mean + _RIDGE * np.diag(np.diag(mean)))

    def of(self, view: RecordingView) -> Floats:
        """[time, kept] of the whole recording, invalid samples too (they are 0 where signals are standardised).

        An unusable channel is what the others say of it, by the mean covariance: an all-zero one would lie far from
        every other recording.
        """
        x = _raw(view)[:, self.kept] / self.scale
        known = known_channels(view)[self.kept]
        if not known.all() and known.any():
            lost = ~known
            among = self.mean[np.ix_(known, known)]
            x[:, lost] = x[:, known] @ np.linalg.solve(among, self.mean[np.ix_(known, lost)])
        return x

    def valid(self, view: RecordingView) -> Floats:
        """Leave invalid samples out of `of`: [valid time, kept]."""
        x: Floats = self.of(view)[view.valid]
        return x


def is_standardised(view: RecordingView) -> bool:
    """Whether a signal is brought to SD 1: BOLD has no unit, while microvolts say how strong a rhythm is."""
    return view.modality is not Modality.EEG


def known_channels(view: RecordingView) -> npt.NDArray[np.bool_]:
    """[channel] usable, and not constant over the whole recording."""
    usable: npt.NDArray[np.bool_] = view.usable & (np.ptp(view.stored[: len(view.stored)][view.valid], axis=0) > 0)
    return usable


def _raw(view: RecordingView) -> Floats:
    """[time, channel] the whole recording: nothing of who is in it is a label, so no sample of it is held back."""
    values = view.values(0, len(view.valid)).astype(np.float64)
    good = values[view.valid]
    values -= good.mean(axis=0)
    if is_standardised(view):
        # Anew, since the view's SDs are of its calibration, which is all of a training subject and a part of another.
        sd = good.std(axis=0)
        values /= np.where(sd > 0, sd, 1.0)
    values[~view.valid] = 0.0
    return values
