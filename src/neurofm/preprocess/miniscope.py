"""One-photon miniscope imaging: frames that jitter or were lost, put on a regular grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess._fluorescence import finish_fluorescence
from neurofm.preprocess.common import Common, check_channels, native_signal
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
    if recording.sample_time_s is not None:
        values, dropped = to_regular_grid(values, recording.sample_time_s, rate_hz=native.sampling_rate_hz)
    # Lost frames count against no channel's own missing samples: they are missing from all.
    checked = check_channels(values, max_nan_fraction=1.0)
    measured = check_channels(values[~dropped], max_nan_fraction=common.max_nan_fraction)
    checked = replace(
        checked,
        values=np.where(measured.usable, checked.values, 0.0),
        usable=measured.usable,
        valid=_valid(values, measured.usable),
    )
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
