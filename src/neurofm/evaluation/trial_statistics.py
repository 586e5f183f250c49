"""Trial statistics: what can be said of a recording's units from trials of which nobody says what happened in them.

From these numbers alone a decoder that has met other animals guesses what a new animal's unit is evidence for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_LEAST_SD = 0.2
"""Of the root of a count: a spike of a unit that is nearly silent is not much evidence."""
_RATE_FLOOR = 0.02
"""Spikes per patch that are added before a logarithm."""
_FANO_FLOOR = 0.1
_SMALL = 1e-6


@dataclass(frozen=True, kw_only=True)
class TrialStatistics:
    """Of the trials of one recording that may be looked at."""

    mean: Floats
    """[unit, patch] of the root of the counts."""
    sd: Floats
    """[unit, patch]"""
    identity: Floats
    """[unit, patch, statistic] log rate, log Fano factor, log of the patch's rate over the unit's, agreement with the
    other units in this patch and in the first, agreement with the unit's own other patches, drift, log SD; the unit's
    whole course, and which patch it is."""

    def standardised(self, counts: Floats) -> Floats:
        """Return roots of counts in SDs, [trial, unit, patch].

        Of a Poisson count the root has nearly the same variance at every rate (Anscombe 1948,
        doi:10.1093/biomet/35.3-4.246).
        """
        return np.asarray((np.sqrt(counts) - self.mean) / self.sd, dtype=np.float32)


def describe_trials(counts: Floats) -> TrialStatistics:
    """Describe every unit.

    Parameters
    ----------
    counts
        [trial, unit, patch] spikes.
    """
    trials, units, patches = counts.shape
    root = np.sqrt(counts)
    mean, sd = root.mean(axis=0), np.maximum(root.std(axis=0), _LEAST_SD)
    z = (root - mean) / sd
    per_patch, total = counts.mean(axis=0), counts.sum(axis=2)
    rate = per_patch.mean(axis=1, keepdims=True)
    fano = (total.var(axis=0) + _FANO_FLOOR) / (total.mean(axis=0) + _FANO_FLOOR)
    course = np.log((per_patch + _RATE_FLOOR) / (rate + _RATE_FLOOR))
    others = (z.sum(axis=1, keepdims=True) - z) / max(1, units - 1)
    others = (others - others.mean(axis=0)) / (others.std(axis=0) + _SMALL)
    own = (z.sum(axis=2, keepdims=True) - z) / max(1, patches - 1)
    time = np.linspace(-1, 1, trials, dtype=np.float32)[:, None, None]
    columns = [
        np.log(rate + _RATE_FLOOR),
        np.log(fano)[:, None],
        course,
        (z * others).mean(axis=0),
        (z * others[:, :, :1]).mean(axis=0),
        (z * own).mean(axis=0),
        np.abs((z * time).mean(axis=0)),
        np.log(sd),
    ]
    shape = (units, patches)
    identity = np.concatenate(
        [
            np.stack([np.broadcast_to(column, shape) for column in columns], axis=-1),
            np.broadcast_to(course[:, None], (*shape, patches)),
            np.broadcast_to(np.eye(patches, dtype=np.float32), (*shape, patches)),
        ],
        axis=-1,
    )
    return TrialStatistics(mean=mean.astype(np.float32), sd=sd.astype(np.float32), identity=identity.astype(np.float32))
