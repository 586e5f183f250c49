"""Stationary cores of the recordings of a fold, never from the samples or the subject that they are to fill in.

Lagged products do not come apart exactly, so those of a channel set are summed in groups of subjects, and what is
expected of a recording comes from the groups that its subject is not in, read at the recording's own sampling interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neurofm.model.pooled_lags import PooledLags, interval_of
from neurofm.model.prior import LagSums, StationaryPrior, lag_sums
from neurofm.model.stationary_core import STATIONARY, StationaryCore
from neurofm.splits import Segment
from neurofm.training.cache import MOST_BYTES, Cache, bytes_of
from neurofm.training.settings import PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings

_GROUPS = 8
"""Of subjects: with as many of them or fewer, a recording is expected from all the others."""


def lag_sums_of(view: RecordingView, segments: Sequence[Segment], *, lags: int | None = None) -> LagSums:
    """Lagged products of the samples of `segments` only; none reaches across their borders.

    Up to the lags of a core of the modality, or to others.
    """
    return lag_sums(
        [torch.from_numpy(view.z(s.start, s.stop)).double() for s in segments],
        valid=[torch.from_numpy(view.valid[s.start : s.stop]) for s in segments],
        lags=STATIONARY[view.modality].lags if lags is None else lags,
        channels=len(view.channel_ids),
    )


def pooled_lags_of(view: RecordingView, segments: Sequence[Segment]) -> PooledLags:
    """Return the same for other recordings to be expected from, whatever their sampling interval."""
    interval_s = interval_of(view.sampling_rate_hz)
    lags = STATIONARY[view.modality].summed_lags(interval_s)
    return PooledLags(by_interval={interval_s: lag_sums_of(view, segments, lags=lags)})


def expected_lags(view: RecordingView, others: PooledLags) -> LagSums:
    """Return what others show at the lags of a recording's core."""
    return others.at(interval_of(view.sampling_rate_hz), lags=STATIONARY[view.modality].lags)


def core_of(
    view: RecordingView, *, others: StationaryPrior | None, calibration: Sequence[Segment], window_samples: int
) -> StationaryCore:
    """Adapt what is expected of a recording's usable channels to its `calibration`."""
    own = lag_sums_of(view, calibration).of(usable_of(view))
    return StationaryCore.fit(others, own, settings=STATIONARY[view.modality], window_samples=window_samples)


def prior_of_usable(view: RecordingView, total: PooledLags, *, window_samples: int) -> StationaryPrior | None:
    """Expect of a recording's usable channels what `total` of others shows; None where it is of no samples.

    Spectra of few samples are as uncertain here as those of the recording itself: separable ones count as so many
    samples beside the others' as the others' count beside the recording's.
    """
    sums = expected_lags(view, total.of(usable_of(view)))
    samples = float(sums.pairs[0])
    if samples <= 0:
        return None
    settings = STATIONARY[view.modality]
    prior = StationaryPrior.fit(sums, settings=settings.prior(window_samples=window_samples))
    return prior.towards_separable(settings.spectrum_samples / (settings.spectrum_samples + samples))


def usable_of(view: RecordingView) -> torch.Tensor:
    """Int64 indices of the usable channels."""
    return torch.from_numpy(np.flatnonzero(view.usable))


class StationaryCores:
    """Cores of the recordings of a fold, made when they are asked for; those asked for last are kept.

    Parameters
    ----------
    views
        All recordings of the fold.
    settings, windows
        Of training: only of modalities whose patches it hides anything is made.
    most_bytes
        Of cores, of priors and of sums, each.
    """

    def __init__(
        self,
        views: Sequence[RecordingView],
        *,
        settings: PretrainSettings,
        windows: WindowsSettings,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._views = [view for view in views if settings.masks.patches_of(view.modality)]
        self._windows = windows
        subjects: dict[str, list[str]] = {}
        for name in {view.channel_set for view in self._views}:
            subjects[name] = sorted({v.subject for v in self._views if v.channel_set == name and v.roles.train})
        self._subjects = subjects
        self._sums: Cache[str, list[PooledLags]] = Cache(most_bytes=most_bytes)
        self._priors: Cache[tuple[str, int | None, float, bytes], StationaryPrior | None] = Cache(
            most_bytes=most_bytes,
            size=lambda prior: 2 * bytes_of(prior),  # With its inverse, which it keeps.
        )
        self._cores: Cache[tuple[str, tuple[Segment, ...]], StationaryCore] = Cache(
            most_bytes=most_bytes, size=lambda core: core.bytes
        )

    @property
    def bytes(self) -> int:
        """Memory of all that is kept."""
        return self._sums.bytes + self._priors.bytes + self._cores.bytes

    def of(self, view: RecordingView, calibration: Sequence[Segment]) -> StationaryCore:
        """Return the core of a recording, described by `calibration` and by subjects that are not its own."""

        def make() -> StationaryCore:
            window_samples = self._windows.of(view.modality).window_samples
            return core_of(view, others=self._others(view), calibration=calibration, window_samples=window_samples)

        return self._cores.get((view.name, tuple(calibration)), make)

    def alone(self, view: RecordingView, calibration: Sequence[Segment]) -> StationaryCore:
        """Return the core of a recording as if its channels had never been met; it is not kept."""
        if self._others(view) is None:
            return self.of(view, calibration)
        window_samples = self._windows.of(view.modality).window_samples
        return core_of(view, others=None, calibration=calibration, window_samples=window_samples)

    def totals(self) -> dict[str, PooledLags]:
        """Lagged products of all train segments per channel set, for the checkpoint."""
        return {name: PooledLags.total(self._groups(name)) for name, found in sorted(self._subjects.items()) if found}

    def _others(self, view: RecordingView) -> StationaryPrior | None:
        group = self._group(view)

        def make() -> StationaryPrior | None:
            groups = [sums for number, sums in enumerate(self._groups(view.channel_set)) if number != group]
            if not groups:
                return None
            window_samples = self._windows.of(view.modality).window_samples
            return prior_of_usable(view, PooledLags.total(groups), window_samples=window_samples)

        key = (view.channel_set, group, interval_of(view.sampling_rate_hz), view.usable.tobytes())
        return self._priors.get(key, make)

    def _group(self, view: RecordingView) -> int | None:
        """Group of a recording's subject; None for a subject that no group holds."""
        subjects = self._subjects[view.channel_set]
        return subjects.index(view.subject) % _GROUPS if view.subject in subjects else None

    def _groups(self, channel_set: str) -> list[PooledLags]:
        def make() -> list[PooledLags]:
            members: dict[int, list[RecordingView]] = {}
            for view in self._views:
                group = self._group(view) if view.channel_set == channel_set else None
                if group is not None and view.roles.train:
                    members.setdefault(group, []).append(view)
            return [
                PooledLags.total(pooled_lags_of(view, view.roles.train) for view in members[number])
                for number in sorted(members)
            ]

        return self._sums.get(channel_set, make)
