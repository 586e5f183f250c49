"""Which channels are hidden together when a recording is scored."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def channel_groups(
    usable: npt.NDArray[np.bool_], *, groups: int, recording: str, seed: int
) -> tuple[npt.NDArray[np.int64], ...]:
    """Partition the usable channels so that each is hidden exactly once.

    The partition depends on the recording's name and the seed only, so every model is scored on the same masks.

    Parameters
    ----------
    usable
        [channel]
    groups
        How many groups; with 3, a third of the channels is hidden at a time.
    recording
        ``<dataset>/<recording>``; for recordings that share an atlas pass the atlas, so that they share masks.

    Returns
    -------
    tuple of sorted channel indices; groups that would be empty are left out.
    """
    digest = hashlib.sha256(f"{seed}:{recording}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(np.flatnonzero(usable))
    parts = (np.sort(part).astype(np.int64) for part in np.array_split(order, groups))
    return tuple(part for part in parts if len(part))
