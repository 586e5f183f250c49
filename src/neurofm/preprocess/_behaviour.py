"""Which behaviour a recording has beside its signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurofm.recording import Recording
from neurofm.recording.recording import JsonScalar


def with_behaviour(recording: Recording) -> Recording:
    """Say what can be decoded from a recording; one without behaviour stays, for pretraining, and is marked.

    Returns
    -------
    Recording
        With quality ``targets_present``, the names of targets that have a number on the signal's times, and
        ``behaviour``, False where there are neither such targets nor a table of trials (events that say more than
        when and what).
    """
    present = sorted(name for name, target in recording.targets.items() if np.isfinite(target.values).any())
    trials = recording.events is not None and len(recording.events.label) > 0 and bool(recording.events.columns)
    said: dict[str, JsonScalar] = {"targets_present": ", ".join(present), "behaviour": bool(present) or trials}
    return replace(recording, quality={**recording.quality, **said})
