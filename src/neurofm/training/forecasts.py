"""Forecasts of recordings: the windows whose end is foretold, and what of a recording a forecast is learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from neurofm.model.forecast import Forecast
from neurofm.splits import Segment
from neurofm.windows import RecordingView

MOST_WINDOWS = 4000
"""That are learned from, spread evenly over a recording: of overlapping ones more say little more."""
MOST_VALUES = 50_000_000
"""In them, so that a large population takes no more than about 1 GB of memory."""


def starts_of(
    view: RecordingView, segments: Sequence[Segment], *, window_samples: int, future: int, stride: int
) -> npt.NDArray[np.int64]:
    """Say where windows start whose last `future` samples are all valid.

    Of an unbroken stretch they follow one another every `stride` samples. Of a stretch shorter than a window, such as a
    trial, there is one, which ends with it, where at least as much is known of the stretch as is to be foretold.

    Returns
    -------
    [window] first samples, in the order of time; each window lies in one segment.
    """
    starts: list[int] = []
    for segment in segments:
        valid = view.valid[segment.start : segment.stop].astype(np.int8)
        edges = segment.start + np.flatnonzero(np.diff(np.r_[0, valid, 0])).reshape(-1, 2)
        for start, stop in edges.tolist():
            if stop - start >= window_samples:
                starts += range(start, stop - window_samples + 1, stride)
            elif stop - start >= 2 * future and stop - window_samples >= segment.start:
                starts.append(stop - window_samples)
    return np.array(starts, dtype=np.int64)


def learning_starts(
    view: RecordingView, segments: Sequence[Segment], *, window_samples: int, future: int, stride: int
) -> npt.NDArray[np.int64]:
    """Say the same of what a forecast is learned from: at most `MOST_WINDOWS` of them, and `MOST_VALUES`."""
    starts = starts_of(view, segments, window_samples=window_samples, future=future, stride=stride)
    most = max(1, min(MOST_WINDOWS, MOST_VALUES // (window_samples * len(view.channel_ids))))
    return starts[:: max(1, -(-len(starts) // most))]


def forecast_of(
    view: RecordingView,
    segments: Sequence[Segment],
    *,
    window_samples: int,
    future: int,
    stride: int,
    looked_at: npt.NDArray[np.bool_],
) -> Forecast:
    """Learn a recording's forecast from the samples of `segments` only.

    Parameters
    ----------
    view, segments, window_samples, future, stride
        As `starts_of`.
    looked_at
        [channel] whose past is looked at; those that are not usable never are.
    """
    starts = learning_starts(view, segments, window_samples=window_samples, future=future, stride=stride)
    windows = np.zeros((len(starts), window_samples, len(view.channel_ids)), dtype=np.float32)
    for row, start in enumerate(starts.tolist()):
        windows[row] = view.z(start, start + window_samples)
    return Forecast.fit(torch.from_numpy(windows), future=future, looked_at=torch.from_numpy(looked_at & view.usable))
