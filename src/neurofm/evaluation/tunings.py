"""Tuning recovered: how channels follow a target that was decoded from our embeddings, beside the measured one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.decoding import Decoded
from neurofm.evaluation.findings import Floats, Tuning, is_angle
from neurofm.evaluation.row import PROBE
from neurofm.recording import Modality

_ANGLE_BINS = 24
_BINS = 15
_LEAST_PATCHES = 3
"""In a bin whose mean is taken."""
_SHIFTS = 20
_EDGES = (0.02, 0.98)
"""Quantiles between which a target that is no angle is binned."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is kept of one fold: no signal, which would be held for all recordings and sent between processes."""

    model: str
    target: str
    modality: Modality
    channels: tuple[str, ...]
    usable: npt.NDArray[np.bool_]
    """[channel]"""
    rate_hz: float
    """Of samples."""
    patch_samples: int
    truth: Floats
    """[patch, column] of patches that count"""
    predicted: Floats
    activity: npt.NDArray[np.float32]
    """[patch, channel] mean in physical units; spikes per second for counts."""

    @classmethod
    def of(cls, decoded: Decoded) -> _Part:
        """Take what is needed."""
        view, counted = decoded.test.view, decoded.counted
        return cls(
            model=decoded.model,
            target=decoded.target,
            modality=view.modality,
            channels=view.channel_ids,
            usable=view.usable,
            rate_hz=view.sampling_rate_hz,
            patch_samples=decoded.patch_samples,
            truth=decoded.truth[counted],
            predicted=decoded.predicted[counted],
            activity=_activity(decoded)[counted].astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True)
class Tunings:
    """Gathered fold by fold: in each the blocks of time that the fold holds out."""

    parts: defaultdict[tuple[str, str, str], list[_Part]] = field(default_factory=partial(defaultdict, list))
    """[fold] by dataset, recording and target."""

    def add(self, decoded: Decoded) -> None:
        """Take what our embeddings say of a recording in one fold."""
        view = decoded.test.view
        # Two columns that are no cosine and sine, such as a position, have no curve.
        if decoded.model == PROBE and (decoded.truth.shape[-1] == 1 or is_angle(view.targets[decoded.target])):
            self.parts[view.dataset, view.recording, decoded.target].append(_Part.of(decoded))

    def join(self, other: Tunings) -> None:
        """Add what another one took, of later folds."""
        for key, parts in other.parts.items():
            self.parts[key].extend(parts)

    def finish(self) -> tuple[Tuning, ...]:
        """Put together the curves of every recording and target: an angle, or a single number."""
        found = [
            _tuning(parts, dataset=dataset, recording=recording)
            for (dataset, recording, _), parts in sorted(self.parts.items())
        ]
        return tuple(one for one in found if one is not None)


def _tuning(parts: Sequence[_Part], *, dataset: str, recording: str) -> Tuning | None:
    first = parts[0]
    truth = np.concatenate([part.truth for part in parts])
    decoded = np.concatenate([part.predicted for part in parts])
    circular = truth.shape[1] == 2
    if not len(truth):
        return None
    # Units that one fold could not use are not part of what it decoded from.
    usable = np.flatnonzero(np.all([part.usable for part in parts], axis=0))
    activity = np.concatenate([part.activity for part in parts])[:, usable].astype(np.float64)
    at, found = (_degrees(values) if circular else values[:, 0] for values in (truth, decoded))
    low, high = (0.0, 360.0) if circular else (float(np.quantile(at, share)) for share in _EDGES)
    edges = np.linspace(low, high, (_ANGLE_BINS if circular else _BINS) + 1)
    measured, recovered = _curves(at, activity, edges), _curves(found, activity, edges)
    shifts = np.linspace(0, len(found), _SHIFTS + 2).astype(np.int64)[1:-1]
    shifted = [_correlations(measured, _curves(np.roll(found, shift), activity, edges)) for shift in shifts]
    error = np.abs((found - at + 180) % 360 - 180) if circular else np.abs(found - at)
    return Tuning(
        dataset=dataset,
        recording=recording,
        modality=str(first.modality),
        target=first.target,
        model=first.model,
        is_angle=circular,
        unit="spikes/s" if first.modality is Modality.SPIKES else "signal",
        patches=len(at),
        patch_s=first.patch_samples / first.rate_hz,
        median_error=float(np.median(error)),
        channels=tuple(first.channels[channel] for channel in usable.tolist()),
        centre=(edges[:-1] + edges[1:]) / 2,
        measured=measured,
        recovered=recovered,
        r=_correlations(measured, recovered),
        r_shifted=np.asarray(np.mean(shifted, axis=0), dtype=np.float64),
    )


def _activity(part: Decoded) -> Floats:
    """[window, patch, channel] mean over a patch in physical units; spikes per second for counts."""
    values = part.test.values().astype(np.float64)
    windows, _, channels = values.shape
    averaged: Floats = values.reshape(windows, -1, part.patch_samples, channels).mean(axis=2)
    rate = part.test.view.sampling_rate_hz if part.test.view.modality is Modality.SPIKES else 1.0
    return averaged * rate


def _degrees(values: Floats) -> Floats:
    return np.asarray(np.degrees(np.arctan2(values[:, 1], values[:, 0])) % 360, dtype=np.float64)


def _curves(at: Floats, activity: Floats, edges: Floats) -> Floats:
    """[bin, channel] mean activity where `at` lies in each bin; NaN where it hardly ever does."""
    place = np.digitize(at, edges) - 1
    curves = np.full((len(edges) - 1, activity.shape[1]), np.nan)
    for row in range(len(curves)):
        inside = place == row
        if inside.sum() >= _LEAST_PATCHES:
            curves[row] = activity[inside].mean(axis=0)
    return curves


def _correlations(one: Floats, other: Floats) -> Floats:
    """[channel] correlation over the bins that both have; NaN where a curve is flat."""
    both = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
    x, y = (curves[both] - curves[both].mean(axis=0) for curves in (one, other))
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    r: Floats = np.divide((x * y).sum(axis=0), size, out=np.full(len(size), np.nan), where=size > 0)
    return r
