"""Images and films that were shown: frames in grey levels, and presentations as a course in time."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.recording import Stimulus, Unreadable
from neurofm.settings import Settings

_WHITE = 255
_BLOCK_BYTES = 64_000_000
"""Of frames in floating point at a time: a film of 166 MB would be 1.3 GB at once."""
_SLACK_S = 1e-3
"""Seconds by which one presentation may end after or before the next begins: screens are stamped to a millisecond."""

Floats = npt.NDArray[np.float64]


class StimulusSource(Settings):
    """Which images or film of a file are wanted."""

    template: str = Field(min_length=1)
    """Name in ``stimulus/templates``: ``natural_movie_one``."""
    downsample: int = Field(default=1, ge=1)
    """Frames become the means of blocks of so many by so many pixels; what fills no block at the right and below is
    left out."""
    grey: tuple[float, float] | None = None
    """Which stored values are black and white, where frames are not whole numbers from 0 to 255: ``[0, 1]``."""
    blank: tuple[int, ...] = (-1,)
    """Numbers of frames that say that none was shown."""
    optional: bool = False
    """A file without it is read all the same."""

    @model_validator(mode="after")
    def _two_greys(self) -> Self:
        if self.grey is not None and self.grey[0] == self.grey[1]:
            raise ValueError("grey: black and white are the same value")
        return self


def grey_frames(data: Any, *, source: StimulusSource, where: str) -> npt.NDArray[np.uint8]:
    """Return [frame, height, width] grey levels, read and made smaller block by block.

    Parameters
    ----------
    data
        [frame, height, width] array, or a dataset that can be sliced.
    source
        How much smaller, and what is black and white.
    where
        File and template, for errors.

    Raises
    ------
    Unreadable
        If it has other dimensions, no frame or pixel, or values of which it is not known how bright they are.
    """
    if len(data.shape) != 3:
        raise Unreadable(f"{where} is {data.shape}; expected frames in grey, [frame, height, width]")
    n, height, width = data.shape
    rows, columns = height // source.downsample, width // source.downsample
    if 0 in {n, rows, columns}:
        raise Unreadable(f"{where}: nothing is left of {n} frames of {height} x {width} by {source.downsample}")
    frames = np.empty((n, rows, columns), dtype=np.uint8)
    brightest = 0.0
    step = max(1, _BLOCK_BYTES // (height * width * np.dtype(np.float64).itemsize))
    for start in range(0, n, step):
        stored = np.asarray(data[start : start + step])
        grey = _grey(stored, source.grey, where=where)
        brightest = max(brightest, float(grey.max()))
        frames[start : start + step] = _block_means(grey, source.downsample)
    if brightest <= 1 and source.grey is None and np.dtype(data.dtype).kind in "fb":
        # Whole numbers, but black and white of a scale from 0 to 1 rather than two shades of black.
        raise Unreadable(f"{where} holds only 0 and 1; say what is white with `stimulus.grey: [0, 1]` or `[0, 255]`")
    return frames


def _grey(stored: npt.NDArray[Any], scale: tuple[float, float] | None, *, where: str) -> npt.NDArray[Any]:
    """Return values from 0 to 255."""
    if stored.dtype.kind not in "uifb":
        raise Unreadable(f"{where} holds {stored.dtype}, not numbers")
    if stored.dtype == np.uint8 and scale is None:
        return stored
    values = stored.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    # Written so that NaN, too, is refused.
    if scale is not None:
        if not (min(scale) <= low and high <= max(scale)):
            raise Unreadable(f"{where} has values from {low:g} to {high:g}, outside of `stimulus.grey` {list(scale)}")
        black, white = scale
        scaled: Floats = (values - black) * (_WHITE / (white - black))
        return scaled
    if not (low >= 0 and high <= _WHITE and np.array_equal(values, np.rint(values))):
        raise Unreadable(
            f"{where} has {stored.dtype} values from {low:g} to {high:g}; say which are black and white with "
            "`stimulus.grey: [black, white]`"
        )
    return values


def _block_means(grey: npt.NDArray[Any], factor: int) -> npt.NDArray[np.uint8]:
    n, height, width = grey.shape
    rows, columns = height // factor, width // factor
    if factor > 1:
        blocks = grey[:, : rows * factor, : columns * factor].reshape(n, rows, factor, columns, factor)
        grey = blocks.mean(axis=(2, 4))
    frames: npt.NDArray[np.uint8] = np.rint(grey).astype(np.uint8)
    return frames


def presented(
    frames: npt.NDArray[np.uint8],
    *,
    onset_s: Floats,
    stop_s: Floats,
    frame: Floats,
    source: StimulusSource,
    where: str,
) -> Stimulus:
    """Put presentations together as a course in time.

    Parameters
    ----------
    frames
        [frame, height, width].
    onset_s, stop_s
        [presentation] seconds on the recording's clock, in any order.
    frame
        [presentation] number of the frame; NaN, and what the source calls blank, is none.
    source, where
        What is blank; file and template, for errors.

    Raises
    ------
    Unreadable
        If a presentation has no time, shows a frame that is not there or overlaps with another, or if there is none.
    """
    if not (np.isfinite(onset_s).all() and np.isfinite(stop_s).all() and np.all(stop_s >= onset_s)):
        raise Unreadable(f"{where}: a presentation has no time, or ends before it begins")
    some = np.isfinite(frame) & ~np.isin(frame, source.blank)
    strange = some & ~((frame >= 0) & (frame < len(frames)) & (frame == np.floor(frame)))
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise Unreadable(
            f"{where}: presentation {row} shows frame {frame[row]:g} of {len(frames)} (the first is 0); numbers that "
            "mean none belong into `stimulus.blank`"
        )
    kept = np.flatnonzero(some & (stop_s > onset_s))
    if len(kept) == 0:
        raise Unreadable(f"{where}: no frame of it was ever shown")
    kept = kept[np.argsort(onset_s[kept], kind="stable")]
    onset_s, stop_s = onset_s[kept], stop_s[kept]
    pause_s = np.append(onset_s[1:] - stop_s[:-1], np.inf)
    if pause_s.min() < -_SLACK_S:
        first = int(np.flatnonzero(pause_s < -_SLACK_S)[0])
        raise Unreadable(
            f"{where}: presentations overlap, from {onset_s[first]:.6g} to {stop_s[first]:.6g} s and from "
            f"{onset_s[first + 1]:.6g} s"
        )
    ends = pause_s > _SLACK_S
    time_s = np.concatenate([onset_s, stop_s[ends]])
    shown = np.concatenate([frame[kept], np.full(int(ends.sum()), -1.0)]).astype(np.int32)
    order = np.argsort(time_s, kind="stable")
    return Stimulus(frames=frames, shown=shown[order], time_s=time_s[order])
