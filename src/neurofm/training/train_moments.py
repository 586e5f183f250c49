"""Moments of train segments, computed once per recording: priors of many recordings are sums of the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from neurofm.model.core import Moments
from neurofm.training.contexts import moments_of
from neurofm.windows import RecordingView

_MOST_BYTES = 512 * 10**6
"""Beyond this they are computed anew each time, as all of them would be otherwise."""


class TrainMoments:
    """Keeps the moments of one channel set, at one choice of scales, until others are asked for.

    The prior of each of n subjects is a sum over the n - 1 others, so that without this their number is squared.
    """

    def __init__(self) -> None:
        self._of: tuple[str, tuple[float, ...], int] | None = None
        self._kept: dict[str, Moments] = {}
        self._room = 0

    def of(self, view: RecordingView, *, sds_samples: Sequence[float], channels: Tensor | None = None) -> Moments:
        """Return the moments of a recording's train segments; `channels` must be the same for all of a channel set.

        Parameters
        ----------
        view
            The recording.
        sds_samples
            Scales.
        channels
            int64: of these channels only.
        """
        count = len(view.channel_ids) if channels is None else len(channels)
        asked = (view.channel_set, tuple(sds_samples), count)
        if asked != self._of:
            self._of, self._kept, self._room = asked, {}, _MOST_BYTES
        if view.name not in self._kept:
            found = moments_of(view, view.roles.train, sds_samples=sds_samples, channels=channels)
            size = found.ss.nbytes + found.xs.nbytes
            if size > self._room:
                return found
            self._kept[view.name] = found
            self._room -= size
        return self._kept[view.name]
