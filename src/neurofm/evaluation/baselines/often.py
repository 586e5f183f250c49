"""Units that fired often enough to say something of others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.samples import Windows
from neurofm.windows.often import FEWEST_SPIKES


def often(part: Windows) -> npt.NDArray[np.bool_]:
    """Say which units fired at least `FEWEST_SPIKES` times in what is fitted on: [channel]."""
    spikes = np.einsum("ws,wsc->c", part.counted.astype(np.float32), part.values())
    return np.asarray(spikes >= FEWEST_SPIKES)
