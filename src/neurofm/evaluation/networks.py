"""Networks: named groups of channels, from which alone a trait is predicted beside all of them together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurofm.windows import Normaliser, RecordingView

LEAST_CHANNELS = 3
"""Fewer have hardly a connection among them."""


def of_network(views: Sequence[RecordingView], name: str, patterns: Sequence[str]) -> list[RecordingView]:
    """Leave out every channel that is not in a network.

    Parameters
    ----------
    views
        Decoded recordings of one channel set.
    name
        Of the network; becomes part of the channel set's name.
    patterns
        Regular expressions; a channel is in the network if its id or region matches one of them from its beginning.

    Returns
    -------
    [recording] in the same order; none where fewer than `LEAST_CHANNELS` are in the network.
    """
    # Each by itself: flags such as `(?i)` stand at the beginning of an expression only.
    wanted = [re.compile(pattern) for pattern in patterns]
    first = views[0]
    named = zip(first.channel_ids, first.region, strict=True)
    kept = np.flatnonzero([any(one.match(text) for one in wanted for text in texts) for texts in named])
    if len(kept) < LEAST_CHANNELS:
        return []
    return [
        replace(
            view,
            channel_ids=tuple(view.channel_ids[index] for index in kept.tolist()),
            position=view.position[kept],
            region=tuple(view.region[index] for index in kept.tolist()),
            channel_set=f"{view.channel_set}@{name}",
            stored=np.asarray(view.stored)[:, kept],
            scale=view.scale[kept],
            offset=view.offset[kept],
            normaliser=Normaliser(
                mean=view.normaliser.mean[kept], sd=view.normaliser.sd[kept], usable=view.normaliser.usable[kept]
            ),
        )
        for view in views
    ]
