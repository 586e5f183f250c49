"""Units that fired often enough to say something of others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.windows.view import RecordingView

FEWEST_SPIKES = 20
"""A unit that fired once is 50 SDs from its mean then, and would drive all others when it fires more later."""


def fired_often(view: RecordingView) -> npt.NDArray[np.bool_]:
    """Say which units fired at least `FEWEST_SPIKES` times in the calibration of a recording: [channel]."""
    spikes = np.zeros(len(view.channel_ids))
    for part in view.roles.calibration:
        spikes += view.values(part.start, part.stop)[view.valid[part.start : part.stop]].sum(axis=0)
    return np.asarray(spikes >= FEWEST_SPIKES)
