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
_LEAST_SHARE = 0.5
"""Recordings that are shorter than this share of the median do not shorten the others."""
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
    samples: int
    """Valid samples that are taken of each recording, its first ones. Covariances are shrunk more where there are
    fewer, so that rest of 40 s and a task of 30 s would be told apart by how long they are."""

    @classmethod
    def fit(cls, views: Sequence[RecordingView]) -> Self:
        """Learn it from training recordings of one channel set."""
        samples = shared_samples(views)
        usable = np.mean([known_channels(view) for view in views], axis=0)
        kept = np.flatnonzero(usable >= min(_SHARED, usable.max())).astype(np.int64)
        raw = [_raw(view, used=_first(view, samples)) for view in views]
        raw = [part[_first(view, samples)][:, kept] for part, view in zip(raw, views, strict=True)]
        variance = np.array([part.var(axis=0) for part in raw])
        good = np.array([known_channels(view)[kept] for view in views])
        scale = np.sqrt((variance * good).sum(axis=0) / good.sum(axis=0))
        if is_standardised(views[0]):
            scale = np.ones(len(kept))
        # Over the recordings that have both channels.
        pairs = np.einsum("rc,rd->cd", good.astype(np.float64), good.astype(np.float64))
        total = sum(np.cov((part / scale * own).T, bias=True) for part, own in zip(raw, good, strict=True))
        mean = total / np.maximum(pairs, 1.0)
        mean = (1 - _RIDGE) * mean + _RIDGE * np.diag(np.diag(mean))
        return cls(kept=kept, scale=scale, mean=mean, samples=samples)

    def of(self, view: RecordingView) -> Floats:
        """[time, kept] of the whole recording, invalid samples too (they are 0 where signals are standardised).

        An unusable channel is what the others say of it, by the mean covariance: an all-zero one would lie far from
        every other recording.
        """
        x = _raw(view, used=self.used(view))[:, self.kept] / self.scale
        known = known_channels(view)[self.kept]
        if not known.all() and known.any():
            lost = ~known
            among = self.mean[np.ix_(known, known)]
            x[:, lost] = x[:, known] @ np.linalg.solve(among, self.mean[np.ix_(known, lost)])
        return x

    def used(self, view: RecordingView) -> npt.NDArray[np.bool_]:
        """Say which samples of `of` are taken: [time]."""
        return _first(view, self.samples)

    def valid(self, view: RecordingView) -> Floats:
        """Leave the other samples out of `of`: [used time, kept]."""
        x: Floats = self.of(view)[self.used(view)]
        return x


def shared_samples(views: Sequence[RecordingView]) -> int:
    """Return how many valid samples are taken of each recording, as the shortest training recording has, `Series`."""
    counts = [int(view.valid.sum()) for view in views]
    return max(min(counts), round(_LEAST_SHARE * float(np.median(counts))))


def is_standardised(view: RecordingView) -> bool:
    """Whether a signal is brought to SD 1: BOLD has no unit, while microvolts say how strong a rhythm is."""
    return view.modality is not Modality.EEG


def known_channels(view: RecordingView) -> npt.NDArray[np.bool_]:
    """[channel] usable, and not constant over the whole recording."""
    usable: npt.NDArray[np.bool_] = view.usable & (np.ptp(view.stored[: len(view.stored)][view.valid], axis=0) > 0)
    return usable


def _first(view: RecordingView, samples: int) -> npt.NDArray[np.bool_]:
    """[time] the first valid samples."""
    return view.valid & (np.cumsum(view.valid) <= samples)


def _raw(view: RecordingView, *, used: npt.NDArray[np.bool_]) -> Floats:
    """[time, channel]; of who was recorded no sample is a label, so those of all roles are taken."""
    values = view.values(0, len(view.valid)).astype(np.float64)
    good = values[used]
    values -= good.mean(axis=0)
    if is_standardised(view):
        # Anew, since the view's SDs are of its calibration, which is all of a training subject and a part of another.
        sd = good.std(axis=0)
        values /= np.where(sd > 0, sd, 1.0)
    values[~view.valid] = 0.0
    return values
