"""QC-FC: how much of the connectivity between recordings follows how much their subjects moved.

For every edge, the correlation across recordings of mean framewise displacement and the edge. After Power et al.
(2012), doi:10.1016/j.neuroimage.2011.10.018, and the benchmark of Ciric et al. (2017),
doi:10.1016/j.neuroimage.2017.03.020.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.connectivity.settings import ConnectivitySettings

Floats = npt.NDArray[np.float64]

MEDIAN, SHARE, DISTANCE = "median_abs_r", "share_significant", "distance_rho"
"""Measures: median absolute QC-FC; share of edges with p < 0.05, uncorrected; Spearman's correlation of QC-FC with the
distance between the two parcels."""
_RANGE = {MEDIAN: (0.0, 1.0), SHARE: (0.0, 1.0), DISTANCE: (-1.0, 1.0)}
_SIGNIFICANT = 0.05
_BINS = 80
_AT_ONCE = 2_000_000
"""Values in the largest array of a round of draws: 16 MB."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measure of QC-FC."""

    value: float
    ci_low: float
    ci_high: float
    """95 %: 1.96 SDs of the bootstrap over recordings on either side. Not its percentiles: a resample holds recordings
    twice, which raises every |r|, so that they lie above the value itself."""
    null: float
    """Median over permutations."""
    null_low: float
    null_high: float
    """2.5th and 97.5th percentile over permutations."""
    p: float
    """Share of permutations that give at least as much, itself counted; for distance, that lie as far from zero."""


@dataclass(frozen=True, kw_only=True)
class QcFc:
    """QC-FC of one group of recordings."""

    r: Floats
    """[edge] NaN for edges that too few recordings have."""
    estimates: Mapping[str, Estimate]
    """By measure; without the distance's where positions are not known."""
    null_counts: Floats
    """[bin] mean number of edges per permutation in `null_bins`."""
    draws: Mapping[str, Floats]
    """[draw] per measure: the bootstrap. Groups of the same recordings are resampled alike."""


NULL_BINS: Floats = np.linspace(-1.0, 1.0, _BINS + 1)
"""[bin + 1] edges of the histogram of r."""


def qc_fc(edges: npt.NDArray[np.floating], fd: Floats, *, distance: Floats, settings: ConnectivitySettings) -> QcFc:
    """Correlate every edge with motion across recordings, against motion dealt out at random.

    Parameters
    ----------
    edges
        [recording, edge] NaN where a recording lacks one of the edge's parcels.
    fd
        [recording] mean framewise displacement, mm; finite, not all alike.
    distance
        [edge] between the two parcels; NaN where not known.
    settings
        Least recordings of an edge, permutations, bootstrap and their seed.
    """
    known = np.isfinite(edges)
    kept = known.sum(axis=0) >= settings.min_recordings_qcfc
    data = _Data.of(edges[:, kept].astype(np.float64), known[:, kept], distance=distance[kept])
    centred = fd - fd.mean()
    rng = np.random.default_rng(settings.seed)
    recordings = len(fd)
    order = np.array([rng.permutation(recordings) for _ in range(settings.permutations)])
    drawn = rng.multinomial(recordings, np.full(recordings, 1 / recordings), size=settings.bootstrap_samples)

    whole = np.ones((1, recordings))
    observed, count = data.correlate(whole, centred[None])
    counts = np.zeros(_BINS)
    null: list[dict[str, float]] = []
    for some in _rounds(len(order), edges=data.edges):
        r, n = data.correlate(np.ones((len(order[some]), recordings)), centred[order[some]])
        counts += np.histogram(r[np.isfinite(r)], bins=NULL_BINS)[0]
        null += [data.measure(*pair) for pair in zip(r, n, strict=True)]
    resampled: list[dict[str, float]] = []
    for some in _rounds(len(drawn), edges=data.edges):
        weight = drawn[some].astype(np.float64)
        r, n = data.correlate(weight, np.broadcast_to(centred, weight.shape))
        resampled += [data.measure(*pair) for pair in zip(r, n, strict=True)]

    filled = np.full(edges.shape[1], np.nan)
    filled[kept] = observed[0]
    draws = {name: np.array([one[name] for one in resampled]) for name in _RANGE}
    values = {name: value for name, value in data.measure(observed[0], count[0]).items() if np.isfinite(value)}
    return QcFc(
        r=filled,
        estimates={
            name: _estimate(name, value, draws=draws[name], null=np.array([one[name] for one in null]))
            for name, value in values.items()
        },
        null_counts=counts / settings.permutations,
        draws=draws,
    )


def change(after: QcFc, before: QcFc) -> tuple[float, float, float]:
    """Return by how much cleaning changed the median |r|, and the ends of its 95 % interval.

    Both must be of the same recordings, with the same settings: then each resample is of the same recordings too.
    """
    value = after.estimates[MEDIAN].value - before.estimates[MEDIAN].value
    spread = 1.96 * float(np.nanstd(after.draws[MEDIAN] - before.draws[MEDIAN]))
    return value, value - spread, value + spread


def _estimate(name: str, value: float, *, draws: Floats, null: Floats) -> Estimate:
    spread = 1.96 * float(np.nanstd(draws))
    least, most = _RANGE[name]
    # Motion makes |r| larger; along distance it may lead either way.
    at_least = np.abs(null) >= abs(value) if name == DISTANCE else null >= value
    low, high = np.nanpercentile(null, [2.5, 97.5])
    return Estimate(
        value=value,
        ci_low=max(least, value - spread),
        ci_high=min(most, value + spread),
        null=float(np.nanmedian(null)),
        null_low=float(low),
        null_high=float(high),
        p=(1 + int(at_least.sum())) / (1 + len(null)),
    )


def _rounds(draws: int, *, edges: int) -> Iterator[slice]:
    """Cut `draws` into rounds that memory holds."""
    step = max(1, _AT_ONCE // max(1, edges))
    for start in range(0, draws, step):
        yield slice(start, start + step)


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Edges made ready to be correlated many times."""

    known: Floats
    """[recording, edge] 1 where a recording has the edge."""
    value: Floats
    """[recording, edge] less the edge's mean; 0 where not known."""
    ranks: Floats
    """[near] centred ranks of distance, of edges whose distance is known."""
    near: npt.NDArray[np.int64]
    """[near] which edges those are."""
    least: Floats
    """[recordings + 1] |r| from which an edge of so many recordings is significant."""

    @classmethod
    def of(cls, edges: Floats, known: npt.NDArray[np.bool_], *, distance: Floats) -> _Data:
        from scipy.stats import rankdata  # noqa: PLC0415
        from scipy.stats import t as student  # noqa: PLC0415

        mean = np.nanmean(edges, axis=0) if edges.size else np.zeros(edges.shape[1])
        near = np.flatnonzero(np.isfinite(distance)).astype(np.int64)
        freedom = np.arange(len(edges) + 1, dtype=np.float64) - 2
        with np.errstate(invalid="ignore"):
            critical = student.ppf(1 - _SIGNIFICANT / 2, freedom)
            least = critical / np.sqrt(freedom + critical**2)
        return cls(
            known=known.astype(np.float64),
            value=np.where(known, edges - mean, 0.0),
            ranks=_centred(rankdata(distance[near])) if len(near) else np.zeros(0),
            near=near,
            least=np.where(freedom >= 1, least, np.inf),
        )

    @property
    def edges(self) -> int:
        return int(self.value.shape[1])

    def correlate(self, weight: Floats, x: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Pearson's r of x and each edge, over the recordings that have the edge, each counted `weight` times.

        Parameters
        ----------
        weight, x
            [draw, recording]

        Returns
        -------
        r, n
            [draw, edge]; r is NaN where either does not vary.
        """
        n = weight @ self.known
        with np.errstate(invalid="ignore", divide="ignore"):
            x_mean, y_mean = (weight * x) @ self.known / n, weight @ self.value / n
            covariance = (weight * x) @ self.value / n - x_mean * y_mean
            x_var = (weight * x**2) @ self.known / n - x_mean**2
            y_var = weight @ self.value**2 / n - y_mean**2
            varies = (x_var > 1e-12) & (y_var > 1e-12)
            r = np.where(varies, covariance / np.sqrt(x_var * y_var), np.nan)
        return np.clip(r, -1.0, 1.0), n.round().astype(np.int64)

    def measure(self, r: Floats, n: npt.NDArray[np.int64]) -> dict[str, float]:
        """Summarise [edge] r, each over n recordings; NaN for what cannot be said."""
        found = np.isfinite(r)
        if not found.any():
            return dict.fromkeys(_RANGE, np.nan)
        return {
            MEDIAN: float(np.median(np.abs(r[found]))),
            SHARE: float(np.mean(np.abs(r[found]) >= self.least[n[found]])),
            DISTANCE: self._along_distance(r),
        }

    def _along_distance(self, r: Floats) -> float:
        from scipy.stats import rankdata  # noqa: PLC0415

        chosen = r[self.near]
        found = np.isfinite(chosen)
        if found.sum() < 3:
            return float("nan")
        distance = self.ranks if found.all() else _centred(rankdata(self.ranks[found]))
        ranked = _centred(rankdata(chosen[found]))
        size = float(np.sqrt((distance**2).sum() * (ranked**2).sum()))
        return float(distance @ ranked) / size if size else float("nan")


def _centred(ranks: Floats) -> Floats:
    return np.asarray(ranks - ranks.mean(), dtype=np.float64)
