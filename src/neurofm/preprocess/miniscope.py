"""One-photon miniscope imaging: frames that jitter or were lost, put on a regular grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess._fluorescence import finish_fluorescence
from neurofm.preprocess.common import Common, check_channels, native_signal, recorded_samples
from neurofm.recording import Recording, Step
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy")


class ModalitySettings(Settings):
    """The section ``preprocess.miniscope`` of params.yaml."""

    rate_hz: float = Field(gt=0)
    """Recordings that are faster are resampled to this rate."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Put frames on a regular grid, mark the lost ones, and resample.

    Parameters
    ----------
    recording
        With `signal`, and `sample_time_s` where the frames were stamped.
    settings, common
        The rate; limits of missing data.

    Returns
    -------
    Recording
        `signal` [time, cell] float32 in the unit it came in, not normalised. Lost frames are filled by
        linear interpolation and not valid. Channel quality ``robust_centre`` and ``robust_scale``.

    Raises
    ------
    Unreadable
        If there is no signal.
    """
    native = native_signal(recording)
    values = native.values.astype(np.float64)
    dropped = np.zeros(len(values), dtype=bool)
    between = ~recorded_samples(recording, native)
    if recording.sample_time_s is not None:
        values, dropped = to_regular_grid(values, recording.sample_time_s)
        between = np.zeros(len(values), dtype=bool)
    checked = check_channels(values, max_nan_fraction=common.max_nan_fraction, lost=dropped | between)
    return finish_fluorescence(
        recording,
        checked=checked,
        native=native,
        rate_hz=settings.rate_hz,
        steps=(Step(name="regular_grid", version=VERSION, params={}),),
        version=VERSION,
        common=common,
        quality={"dropped_frames": int(dropped.sum())},
    )


def to_regular_grid(
    values: npt.NDArray[np.float64], time_s: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Give every frame its place on a grid of the camera's period, leaving places for the frames that were lost.

    An interval of more than 1.5 median periods means that frames were lost: as many as bring it nearest to
    a whole number of periods. Smaller deviations are jitter and move no frame.

    Parameters
    ----------
    values
        [frame, channel] as recorded.
    time_s
        [frame] rising times, seconds.

    Returns
    -------
    values
        [place, channel], NaN where a frame was lost.
    dropped
        [place] True where a frame was lost.
    """
    if len(time_s) < 2:
        return values, np.zeros(len(values), dtype=bool)
    intervals = np.diff(time_s)
    periods = np.maximum(np.rint(intervals / np.median(intervals)), 1).astype(np.int64)
    place = np.concatenate([[0], np.cumsum(periods)])
    grid = np.full((place[-1] + 1, values.shape[1]), np.nan)
    grid[place] = values
    dropped = np.ones(len(grid), dtype=bool)
    dropped[place] = False
    return grid, dropped
