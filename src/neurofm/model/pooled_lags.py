"""Pooled lags: lagged products of recordings that were not all sampled as often, as fMRI of scanners with other TRs.

What goes together at a lag does so after so many seconds, not samples. So products are summed apart for each sampling
interval, and what recordings of one interval say of those of another is read between their lags, in a straight line.
That is a covariance again: its spectrum is that of the samples times a squared sinc, and so never negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch

from neurofm.model.prior import LagSums

_EXACT = 1e-6
"""In lags: so close to a lag that was summed is that lag, whatever rounding says."""


def interval_of(rate_hz: float) -> float:
    """Seconds between samples, to three digits: clocks that differ by less share their sums."""
    return float(f"{1 / rate_hz:.3g}")


@dataclass(frozen=True, kw_only=True)
class PooledLags:
    """Lagged products by sampling interval. They add up over recordings, and a recording can be taken out again."""

    by_interval: Mapping[float, LagSums]
    """Seconds (`interval_of`) -> products of samples that are so far apart."""

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add up `parts`, in their order."""
        found: dict[float, LagSums] = {}
        for part in parts:
            for interval_s, sums in part.by_interval.items():
                found[interval_s] = found[interval_s] + sums if interval_s in found else sums
        return cls(by_interval=dict(sorted(found.items())))

    def __sub__(self, other: Self) -> Self:
        """Take out what is in the sums, as `LagSums` does."""
        taken = {
            interval_s: sums - other.by_interval[interval_s] if interval_s in other.by_interval else sums
            for interval_s, sums in self.by_interval.items()
        }
        return type(self)(by_interval=taken)

    def of(self, channels: torch.Tensor) -> PooledLags:
        """Return the products of some channels, int64 indices."""
        return PooledLags(by_interval={interval_s: sums.of(channels) for interval_s, sums in self.by_interval.items()})

    def at(self, interval_s: float, *, lags: int) -> LagSums:
        """Return all products at the lags of one interval, however their recordings were sampled.

        Parameters
        ----------
        interval_s
            Of the recording that something is expected of.
        lags
            Largest lag, in samples of that recording.

        Returns
        -------
        Sums in which recordings of another interval count as the samples that they have. A lag further than what was
        summed of a recording counts for none.
        """
        parts = [_at(sums, interval_s / own_s, lags=lags) for own_s, sums in self.by_interval.items()]
        return LagSums.total(parts, channels=parts[0].products.shape[-1], lags=lags)


def _at(sums: LagSums, ratio: float, *, lags: int) -> LagSums:
    """Read sums at lags of `ratio` times their own spacing."""
    channels = sums.products.shape[-1]
    result = LagSums.zero(channels=channels, lags=lags)
    last = len(sums.pairs) - 1
    for lag in range(lags + 1):
        at = lag * ratio
        if at > last + _EXACT:
            break
        low = min(int(at + _EXACT), last)
        share = at - low
        if abs(share) <= _EXACT:
            # Of recordings of the same interval, and at lag 0, these are the sums themselves.
            result.pairs[lag] = sums.pairs[low]
            result.products[lag] = sums.products[low]
        else:
            pairs = (1 - share) * sums.pairs[low] + share * sums.pairs[low + 1]
            below, above = (sums.products[i] / sums.pairs[i].clamp_min(1.0) for i in (low, low + 1))
            result.pairs[lag] = pairs
            result.products[lag] = pairs * ((1 - share) * below + share * above)
    return result
