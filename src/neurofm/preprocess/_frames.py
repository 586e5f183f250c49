"""Frames of an imaging recording: their places in time, those that were lost, and those in which the brain moved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.preprocess.common import align_target
from neurofm.recording import Recording, Signal, Target, Unreadable

MOTION = "motion_px"
"""The noise series that says how far the image lay from its reference, pixels."""
_MOST_PLACES_PER_FRAME = 10
"""Timestamps that leave more places than this for each frame are of no one recording."""
_HALF_FRAME = 0.5

_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


def frame_places(time_s: _Floats, *, name: str) -> npt.NDArray[np.int64]:
    """Give every frame its place on a grid of the camera's period, leaving places for the frames that were lost.

    An interval of more than 1.5 median periods means that frames were lost: as many as bring it nearest to
    a whole number of periods. Smaller deviations are jitter and move no frame.

    Parameters
    ----------
    time_s
        [frame] times, seconds.
    name
        The recording, for errors.

    Returns
    -------
    [frame] rising places, the first 0.

    Raises
    ------
    Unreadable
        If times are no numbers or go back, or leave ten times as many places as there are frames.
    """
    if not np.isfinite(time_s).all():
        raise Unreadable(f"{name}: {(~np.isfinite(time_s)).sum()} of {len(time_s)} timestamps of frames are no numbers")
    if len(time_s) < 2:
        return np.zeros(len(time_s), dtype=np.int64)
    intervals = np.diff(time_s)
    if (intervals < 0).any():
        at = int((intervals < 0).argmax())
        raise Unreadable(
            f"{name}: timestamps of frames go back, from {time_s[at]:.6g} s to {time_s[at + 1]:.6g} s "
            f"(frame {at + 1} of {len(time_s)})"
        )
    period_s = float(np.median(intervals))
    if period_s == 0:
        raise Unreadable(f"{name}: most frames have the timestamp of the frame before")
    periods = np.maximum(np.rint(intervals / period_s), 1)
    if periods.sum() >= _MOST_PLACES_PER_FRAME * len(time_s):
        raise Unreadable(
            f"{name}: {len(time_s)} frames every {period_s:.4g} s, but their timestamps go over "
            f"{time_s[-1] - time_s[0]:.6g} s"
        )
    return np.concatenate([[0], np.cumsum(periods)]).astype(np.int64)


def on_grid(values: npt.NDArray[np.floating], place: npt.NDArray[np.int64]) -> tuple[_Floats, _Flags]:
    """Put [frame, channel] values at their places.

    Returns
    -------
    values
        [place, channel] float64, NaN where a frame was lost.
    dropped
        [place] True where a frame was lost.
    """
    grid = np.full((int(place[-1]) + 1 if len(place) else 0, values.shape[1]), np.nan)
    grid[place] = values
    dropped = np.ones(len(grid), dtype=np.bool_)
    dropped[place] = False
    return grid, dropped


def moved_places(recording: Recording, time_s: _Floats, *, period_s: float, max_motion_px: float | None) -> _Flags:
    """Find places nearest to an image that lay farther from its reference than `max_motion_px`.

    Parameters
    ----------
    recording
        With the noise series ``motion_px`` [frame, 1 or more], whose length over its columns is the distance; nothing
        is found where there is none.
    time_s
        [place] seconds on the recording's clock.
    period_s
        From place to place.
    """
    moved = np.zeros(len(time_s), dtype=np.bool_)
    motion = recording.noise.get(MOTION)
    if motion is None or max_motion_px is None or len(time_s) == 0:
        return moved
    far = np.linalg.norm(motion.values, axis=1) > max_motion_px
    # Half a frame is added so that a place rounds to the frame that begins at it, whatever the last digit.
    nearest = np.floor((motion.time_s[far] - time_s[0]) / period_s + _HALF_FRAME).astype(np.int64)
    moved[nearest[(nearest >= 0) & (nearest < len(moved))]] = True
    return moved


def motion_series(recording: Recording, signal: Signal, *, max_gap_s: float) -> dict[str, Target]:
    """Return ``motion_px`` on the times of `signal`, empty where it was not measured."""
    motion = recording.noise.get(MOTION)
    return {} if motion is None else {MOTION: align_target(motion, signal.time_s, max_gap_s=max_gap_s)}
