"""Seeded scores: one model's score with several seeds, so that seeds are drawn anew together with what was scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neurofm.evaluation.scores import Floats
from neurofm.evaluation.trait_scores import Estimate, Resampling


@dataclass(frozen=True, kw_only=True)
class SeededScores:
    """Gain and total per seed and unit; the score is as in `neurofm.evaluation.scores.ratio`, averaged over seeds."""

    gain: Floats
    """[seed, unit, column]"""
    total: Floats
    """[seed, unit, column]"""


def seeded_estimate(scores: SeededScores, *, resampling: Resampling) -> Estimate:
    """Score one model, with a 95 % percentile interval over units and seeds."""
    units, seeds = _draws(scores, resampling)
    return _interval(float(_values(scores).mean()), (_values(scores, units) * seeds).sum(axis=1), comparisons=1)


def seeded_difference(
    ours: SeededScores, theirs: SeededScores, *, resampling: Resampling, comparisons: int = 1
) -> Estimate:
    """Score of one model minus another's, both on the same draws of units and seeds.

    Parameters
    ----------
    ours, theirs
        Of the same units and seeds, in the same order.
    resampling
        Draws. With few seeds their interval is too narrow: two of them differ by chance as much as they happen to.
    comparisons
        How many differences are read together (Bonferroni).

    Raises
    ------
    ValueError
        If they are not of as many units and seeds.
    """
    if ours.gain.shape != theirs.gain.shape:
        msg = f"{ours.gain.shape} and {theirs.gain.shape} seeds and units cannot be paired"
        raise ValueError(msg)
    units, seeds = _draws(ours, resampling)
    drawn = ((_values(ours, units) - _values(theirs, units)) * seeds).sum(axis=1)
    return _interval(float((_values(ours) - _values(theirs)).mean()), drawn, comparisons=comparisons)


def _draws(scores: SeededScores, resampling: Resampling) -> tuple[Floats, Floats]:
    """[draw, unit] how often each counts, and [draw, seed] shares."""
    seeds, units, _ = scores.gain.shape
    return _drawn(seeds, units, samples=resampling.samples, seed=resampling.seed)


@lru_cache(maxsize=4)  # Models of one task are drawn alike, one after the other, and thousands of units take long.
def _drawn(seeds: int, units: int, *, samples: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    of_units = rng.multinomial(units, np.full(units, 1 / units), size=samples)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=samples) / seeds
    return of_units.astype(np.float64), of_seeds


def _values(scores: SeededScores, weights: Floats | None = None) -> Floats:
    """[draw, seed]; a single draw of everything without `weights`. NaN where a draw could gain nothing."""
    drawn = np.ones((1, scores.gain.shape[1])) if weights is None else weights
    gain, total = (np.einsum("du,suc->dsc", drawn, part, optimize=True) for part in (scores.gain, scores.total))
    shares = np.divide(gain, total, out=np.full(gain.shape, np.nan), where=total > 0)
    values: Floats = shares.mean(axis=2)
    return values


def _interval(value: float, drawn: Floats, *, comparisons: int) -> Estimate:
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return Estimate(value=value, low=float(low), high=float(high))
