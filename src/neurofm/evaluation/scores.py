"""Scores: what each tile gained over what could be gained, so that any resampling of tiles gives a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.row import CORRELATION
from neurofm.splits import FoldRecording

Floats = npt.NDArray[np.float64]

UNITS = {
    "R2": "share of variance",
    CORRELATION: "mean over windows and channels",
    "bits_per_spike": "bit/spike",
    "balanced_accuracy": "share of windows",
    "auc": "share of pairs",
    "recall@1": "share of windows",
    "recall@5": "share of windows",
}
"""Unit of each metric; all of them are better when higher."""
_STILL = 1e-12
"""Variance up to which a signal in SDs does not move: what is left of a constant by rounding."""
_OF_TRIALS = "trial:"
"""What tasks begin with in which a tile is a trial."""


def unit_of(task: str, metric: str) -> str:
    """Return the unit of a metric in a task."""
    return "share of trials" if task.startswith(_OF_TRIALS) else UNITS[metric]


@dataclass(frozen=True, kw_only=True)
class TileScores:
    """One model's score on one recording in one fold, kept per tile.

    The score is the sum of `gain` over the sum of `total`, averaged over columns. For R2 the gain is the sum of
    squares explained and the total the sum of squares around the mean; for bits per spike they are the gain in
    log2-likelihood and the number of spikes. For the correlation they are the sum of the coefficients of a tile's
    channels, and how many there are, weighed by samples. For balanced accuracy a column is a class, and they are its
    windows that were recognised, and all of them. An area under the ROC curve is one tile.
    """

    roles: FoldRecording
    task: str
    metric: str
    model: str
    gain: Floats
    """[tile, column]"""
    total: Floats
    """[tile, column]"""


def ratio(gain: Floats, total: Floats) -> float:
    """Score of tiles [tile, column]; NaN where nothing could be gained."""
    denominator = total.sum(axis=0)
    shares = np.divide(gain.sum(axis=0), denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)
    return float(shares.mean())


def squares(truth: Floats, predicted: Floats, counted: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Sum squares explained, and around each column's own mean over what counts.

    Parameters
    ----------
    truth, predicted
        [tile, sample, column]
    counted
        [tile, sample] which samples count.

    Returns
    -------
    gain and total, each [tile, column].
    """
    weight = counted[..., None].astype(np.float64)
    mean = truth[counted].mean(axis=0)
    total = np.einsum("tsc,tsc->tc", weight, (truth - mean) ** 2)
    error = np.einsum("tsc,tsc->tc", weight, (truth - predicted) ** 2)
    return total - error, total


def correlations(truth: Floats, predicted: Floats, counted: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Sum Pearson's coefficients over the columns of each tile.

    Parameters
    ----------
    truth, predicted
        [tile, sample, column]
    counted
        [tile, sample, column] which samples count.

    Returns
    -------
    gain and total, each [tile]: the sum, in which a prediction that does not move is 0, and the number of columns whose
    truth moves. The others have no coefficient. Both are weighed by the samples that count, so that a last tile of two
    new samples, whose coefficients are 1 or -1, is worth no more than they are.
    """
    weight = counted.astype(np.float64)
    samples = weight.sum(axis=1)
    x, y = (
        weight * (part - (weight * part).sum(axis=1, keepdims=True) / np.maximum(samples, 1.0)[:, None])
        for part in (truth, predicted)
    )
    xx, yy, xy = (np.einsum("tsc,tsc->tc", *pair) for pair in ((x, x), (y, y), (x, y)))
    moves = xx > _STILL * samples
    known = moves & (yy > _STILL * samples)
    coefficient = np.divide(xy, np.sqrt(xx * yy), out=np.zeros_like(xy), where=known)
    return (samples * coefficient).sum(axis=1), (samples * moves).sum(axis=1)


def poisson_bits(counts: Floats, rate: Floats, null_rate: Floats, counted: npt.NDArray[np.bool_]) -> Floats:
    """[tile] gain in Poisson log2-likelihood of `rate` over `null_rate`.

    Divided by the number of spikes this is the co-smoothing score of the Neural Latents Benchmark (Pei et al.
    2021, arXiv:2109.04463).

    Parameters
    ----------
    counts, rate
        [tile, sample, unit] observed, and expected per bin (positive).
    null_rate
        [unit] mean count per bin in calibration (positive).
    counted
        [tile, sample] which samples count.
    """
    gain = counts * np.log(rate / null_rate) - (rate - null_rate)
    bits: Floats = np.einsum("ts,tsc->t", counted.astype(np.float64), gain) / np.log(2)
    return bits


def bootstrap(gain: Floats, total: Floats, *, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the score when its units are drawn anew with replacement.

    Parameters
    ----------
    gain, total
        [unit, column]
    samples
        How many times to draw.
    seed
        Of the draws.

    References
    ----------
    Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(gain), size=(samples, len(gain)))
    values = [ratio(gain[rows], total[rows]) for rows in drawn]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def paired_bootstrap(
    ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats], *, samples: int, seed: int, comparisons: int = 1
) -> tuple[float, float, float]:
    """Difference of two models' scores on the same units, and its percentile interval when units are drawn anew.

    Both are drawn together, so that what is hard for both cancels out.

    Parameters
    ----------
    ours, theirs
        Gain and total, each [unit, column], of the same units in the same order.
    samples, seed
        As `bootstrap`.
    comparisons
        How many such differences are read together: the interval covers all of them with 95 % (Bonferroni). Where the
        best of several baselines was picked on these very units, the difference to it is if anything too small.

    Returns
    -------
    ours minus theirs, and the ends of the interval.

    Raises
    ------
    ValueError
        If they are not of as many units.
    """
    if len(ours[0]) != len(theirs[0]):
        msg = f"{len(ours[0])} and {len(theirs[0])} units cannot be paired"
        raise ValueError(msg)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(ours[0]), size=(samples, len(ours[0])))
    values = [ratio(ours[0][rows], ours[1][rows]) - ratio(theirs[0][rows], theirs[1][rows]) for rows in drawn]
    tail = 2.5 / comparisons
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return ratio(*ours) - ratio(*theirs), float(low), float(high)


_EXACT = 13
"""Units up to which all ways to swap are tried: 2 to the power of them."""
_DRAWS = 9999
_AT_ONCE = 4_000_000
"""Signs that are held in memory together."""


def swapped_p(ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats], *, seed: int) -> float:
    """How often the difference is at least as large, either way, when models are swapped at random within units.

    If the two models were equal, which of them gave which of a unit's two scores would be a matter of chance (Nichols
    & Holmes 2002, doi:10.1002/hbm.1058). Five subjects cannot give less than 2/32, however far the models are apart:
    a bootstrap of as few would say 0. Units that resemble each other, as neighbouring tiles do, make it too small.

    Parameters
    ----------
    ours, theirs
        As `paired_bootstrap`; what could be gained is of the recordings, and so the same for both.
    seed
        Of 9999 draws, where there are too many units to try all ways.

    Returns
    -------
    two-sided p; 1 where nothing could be gained and there is no difference to test.
    """
    gain, total = ours[0] - theirs[0], ours[1].sum(axis=0)
    # As `ratio`: what could not be gained takes no part.
    share = np.divide(gain, total, out=np.full(gain.shape, np.nan), where=total > 0).mean(axis=1)
    observed, units = abs(float(share.sum())), len(share)
    if np.isnan(observed):
        return 1.0  # No comparison with NaN is true, which would count as p = 0.
    tolerated = observed * (1 - 1e-9)
    if units <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**units)[:, None] >> np.arange(units)) & 1)
        return float(np.mean(np.abs(signs @ share) >= tolerated))
    rng, reached, left = np.random.default_rng(seed), 0, _DRAWS
    while left:
        draws = min(left, max(1, _AT_ONCE // units))
        signs = 1 - 2 * rng.integers(2, size=(draws, units), dtype=np.int8)
        reached += int((np.abs(signs @ share) >= tolerated).sum())
        left -= draws
    return (1 + reached) / (1 + _DRAWS)
