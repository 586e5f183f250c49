"""Scores of the two EEG challenges of NeurIPS 2025: response time from two seconds, and externalizing.

The organisers score RMSE / SD of the truth over windows, SD with `ddof` 0, and rank by 0.3 of the first and 0.7 of the
second (arXiv 2506.19141; `local_scoring.py` of their start kit, github.com/eeg2025/startkit). Whoever predicts the mean
of what is scored gets exactly 1; the mean of the training data gets a little more.

Correlation and the area under the ROC curve stand beside it, since RMSE hardly moves where little can be predicted.
Intervals draw subjects, not windows: those of one subject are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESPONSE_TIME, EXTERNALIZING = "response_time", "externalizing"
TARGETS = {1: RESPONSE_TIME, 2: EXTERNALIZING}
"""What each challenge asks for."""
SHARES = {RESPONSE_TIME: 0.3, EXTERNALIZING: 0.7}
"""Of the overall score."""
_INTERVAL = (2.5, 97.5)
_MOST_WITHOUT = 0.05
"""Share of the draws that may have no score, as where one subject was drawn every time; with more there is no interval:
what is left of three subjects' draws is not what others would give."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was said of windows, and what is true of them."""

    target: str
    """``response_time`` in s, or a factor."""
    truth: Floats
    """[window]"""
    predicted: Floats
    """[window]"""
    subject: npt.NDArray[np.str_]
    """[window]"""
    null: float
    """What knows nothing of a window says of all: the mean of the training data."""

    def by_subject(self) -> Predictions:
        """Average each subject's windows: a factor belongs to a person, not to two seconds of a person."""
        subjects, owner = np.unique(self.subject, return_inverse=True)
        windows = np.bincount(owner)
        return Predictions(
            target=self.target,
            truth=np.bincount(owner, weights=self.truth) / windows,
            predicted=np.bincount(owner, weights=self.predicted) / windows,
            subject=subjects,
            null=self.null,
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score with its interval over subjects."""

    target: str
    metric: str
    value: float
    low: float
    high: float
    """2.5 and 97.5 % of what other draws of the subjects give; NaN where one subject is all there is."""
    null: float
    """Of a constant: the mean of the training data."""
    subjects: int
    windows: int


def nrmse(truth: Floats, predicted: Floats, weight: Floats | None = None) -> float:
    """RMSE over the SD of the truth; NaN where the truth does not vary.

    Parameters
    ----------
    truth, predicted
        [window]
    weight
        [window] how often each counts; once without.
    """
    spread = np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight)
    error = np.average((truth - predicted) ** 2, weights=weight)
    return float(np.sqrt(error / spread)) if spread > 0 else float("nan")


def correlation(truth: Floats, predicted: Floats, weight: Floats | None = None) -> float:
    """Pearson's r; NaN where either does not vary. Arguments as of `nrmse`."""
    centred = [values - np.average(values, weights=weight) for values in (truth, predicted)]
    first, second = (np.average(values**2, weights=weight) for values in centred)
    if not first > 0 < second:
        return float("nan")
    return float(np.average(centred[0] * centred[1], weights=weight) / np.sqrt(first * second))


def auroc(truth: Floats, predicted: Floats, weight: Floats | None = None) -> float:
    """Share of pairs, one above the median of the truth and one not, that the prediction orders rightly; ties half.

    NaN where there is no such pair. Arguments as of `nrmse`; the median does not depend on the weights, so that every
    draw of a bootstrap asks the same question.
    """
    weight = np.ones(len(truth)) if weight is None else weight
    above = truth > np.median(truth)
    _, rank = np.unique(predicted, return_inverse=True)
    ranks = int(rank.max()) + 1
    positive = np.bincount(rank, weights=weight * above, minlength=ranks)
    negative = np.bincount(rank, weights=weight * ~above, minlength=ranks)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return float("nan")
    return float((positive * (negative.cumsum() - negative / 2)).sum() / pairs)


METRICS: Mapping[str, Callable[[Floats, Floats, Floats | None], float]] = {
    "nrmse": nrmse,
    "pearson_r": correlation,
    "auroc": auroc,
}


def score(predictions: Predictions, *, samples: int, seed: int) -> list[Score]:
    """Score predictions of one target: the organisers' metric over windows, r and AUROC.

    r and AUROC of response times are over windows, those of a factor over subjects: nothing else is asked of it.

    Parameters
    ----------
    predictions
        Of the scored subjects.
    samples, seed
        Of the bootstrap over subjects.
    """
    judged = predictions if predictions.target == RESPONSE_TIME else predictions.by_subject()
    scores = []
    for name, metric in METRICS.items():
        of = predictions if name == "nrmse" else judged
        low, high = _interval([(of, metric)], combine=lambda values: values[0], samples=samples, seed=seed)
        constant = np.full(len(of.truth), of.null)
        scores.append(
            Score(
                target=of.target,
                metric=name,
                value=metric(of.truth, of.predicted, None),
                low=low,
                high=high,
                # A constant orders nothing: by chance, half of all pairs.
                null={"pearson_r": 0.0, "auroc": 0.5}.get(name, metric(of.truth, constant, None)),
                subjects=len(np.unique(of.subject)),
                windows=len(of.truth),
            )
        )
    return scores


def overall(first: Predictions, second: Predictions, *, samples: int, seed: int) -> Score:
    """Score both challenges together: 0.3 and 0.7 of their RMSE / SD.

    Parameters
    ----------
    first, second
        Of response time and of externalizing. Who is in both is drawn for both.
    samples, seed
        Of the bootstrap over subjects.
    """
    shares = [SHARES[RESPONSE_TIME], SHARES[EXTERNALIZING]]

    def combine(values: list[float]) -> float:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    both = [first, second]
    low, high = _interval([(of, nrmse) for of in both], combine=combine, samples=samples, seed=seed)
    constants = [np.full(len(of.truth), of.null) for of in both]
    return Score(
        target="overall",
        metric="nrmse",
        value=combine([nrmse(of.truth, of.predicted) for of in both]),
        low=low,
        high=high,
        null=combine([nrmse(of.truth, said) for of, said in zip(both, constants, strict=True)]),
        subjects=len(np.unique(np.concatenate([of.subject for of in both]))),
        windows=sum(len(of.truth) for of in both),
    )


def _interval(
    parts: list[tuple[Predictions, Callable[[Floats, Floats, Floats | None], float]]],
    *,
    combine: Callable[[list[float]], float],
    samples: int,
    seed: int,
) -> tuple[float, float]:
    """Percentile interval over draws of the subjects of all parts (Efron & Tibshirani 1993, chapter 13)."""
    subjects = np.unique(np.concatenate([of.subject for of, _ in parts]))
    if len(subjects) < 2:
        return float("nan"), float("nan")
    owners = [np.searchsorted(subjects, of.subject) for of, _ in parts]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        drawn = np.bincount(rng.integers(len(subjects), size=len(subjects)), minlength=len(subjects)).astype(np.float64)
        weights = [drawn[owner] for owner in owners]
        # A draw may leave a challenge without anybody.
        values.append(
            combine(
                [metric(of.truth, of.predicted, weight) for (of, metric), weight in zip(parts, weights, strict=True)]
            )
            if all(weight.any() for weight in weights)
            else float("nan")
        )
    if np.isnan(values).mean() > _MOST_WITHOUT:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, _INTERVAL)
    return float(low), float(high)
