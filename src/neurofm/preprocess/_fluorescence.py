"""What two-photon and miniscope recordings share: from raw fluorescence to a slower, corrected trace."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurofm.preprocess.common import (
    Checked,
    Common,
    finish,
    recorded_samples,
    resample,
    resampling_support_s,
    robust_centre_scale,
)
from neurofm.recording import Recording, Signal, Step
from neurofm.recording.recording import JsonScalar


def finish_fluorescence(
    recording: Recording,
    *,
    checked: Checked,
    native: Signal,
    rate_hz: float,
    steps: tuple[Step, ...],
    version: str,
    common: Common,
    quality: Mapping[str, JsonScalar],
) -> Recording:
    """Resample to `rate_hz`, and add the robust columns.

    ``robust_centre`` and ``robust_scale`` are over the whole recording and serve display only: models fit their
    own on the training part.
    """
    recorded = None if recording.stretches is None else recorded_samples(recording, native)
    values, valid, rate = resample(
        checked.values, checked.valid, from_hz=native.sampling_rate_hz, to_hz=rate_hz, recorded=recorded
    )
    centre, scale = robust_centre_scale(values, valid)
    support_s = resampling_support_s(from_hz=native.sampling_rate_hz, to_hz=rate)
    resampling = Step(name="resample", version=version, params={"rate_hz": rate_hz}, support_s=support_s)
    return finish(
        recording,
        signal=Signal(
            values=values.astype(np.float32), sampling_rate_hz=rate, units=native.units, start_s=native.start_s
        ),
        valid=valid,
        usable=checked.usable,
        steps=(*steps, resampling),
        common=common,
        channel_quality={"robust_centre": centre, "robust_scale": scale},
        quality={"native_rate_hz": native.sampling_rate_hz, "constant_channels": constant_channels(native), **quality},
    )


def constant_channels(native: Signal) -> int:
    """Count channels that never change over their finite samples."""
    values: npt.NDArray[np.float64] = np.where(np.isfinite(native.values), native.values, np.nan)
    return int((np.fmin.reduce(values, axis=0) == np.fmax.reduce(values, axis=0)).sum())
