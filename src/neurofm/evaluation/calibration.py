"""Calibration: how much of a recording never trained on must be looked at before its hidden channels are predicted.

With `evaluate.calibration_s` or `calibration_trials` the stage `evaluate` scores `masked_reconstruction` again
with shorter calibrations than the split gives, and writes ``metrics/calibration.json`` (and ``.csv``), a list of
`neurofm.evaluation.calibration_row.CalibrationRow`. What is scored stays the same to the sample, and so does the unit
in which errors are counted: the SDs of the whole calibration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.baselines import GaussianCalibrated, Null, baselines_for
from neurofm.evaluation.calibration_row import NULL_TRAIN, CalibrationRow
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.masked import TASK, Floats, choose_floor, reconstruct
from neurofm.evaluation.row import OURS
from neurofm.evaluation.samples import Windows, cut
from neurofm.evaluation.scoreboard import HELD_OUT, rounded, units_of
from neurofm.evaluation.scores import TileScores, bootstrap, paired_bootstrap, poisson_bits, ratio, squares
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.splits import UNSEEN, Segment
from neurofm.windows import RecordingView, fit_normaliser

_LINEAR = ("ridge", "ppca", "gaussian", "gaussian_calibrated", "factor_analysis")
_RATE_OF_NONE = 0.5
"""Spikes that a unit silent throughout its calibration is taken to have fired in it."""


@dataclass(frozen=True, kw_only=True, order=True)
class Amount:
    """How much of a recording is looked at: so many valid seconds, or so many trials; all without either."""

    seconds: float = float("inf")
    trials: float = float("inf")

    @property
    def name(self) -> str:
        """As the file has it."""
        if np.isfinite(self.trials):
            return f"{self.trials:g} trials"
        return f"{self.seconds:g} s" if np.isfinite(self.seconds) else "all"

    def of(self, view: RecordingView) -> tuple[Segment, ...]:
        """Return the first part of a recording's calibration; a trial is a stretch without invalid samples."""
        kept: list[Segment] = []
        samples, trials = max(1, round(min(self.seconds * view.sampling_rate_hz, len(view.valid)))), self.trials
        for segment in view.roles.calibration:
            valid = view.valid[segment.start : segment.stop]
            begins = valid & ~np.concatenate([[False], valid[:-1]])
            inside = (valid.cumsum() <= samples) & (begins.cumsum() <= trials)
            length = int(inside.sum())
            if length:
                kept.append(Segment(start=segment.start, stop=segment.start + length))
            samples, trials = samples - int(valid[:length].sum()), trials - int(begins[:length].sum())
        return tuple(kept)


def clipped(view: RecordingView, amount: Amount) -> RecordingView:
    """Return a recording that is normalised and described from a first part of its calibration alone."""
    short = replace(view, roles=view.roles.model_copy(update={"calibration": amount.of(view)}))
    return replace(short, normaliser=fit_normaliser([_valid_of(short)], usable=view.usable))


@dataclass(frozen=True, kw_only=True)
class CalibrationTask:
    """Each fold adds its scores, then there are rows."""

    settings: EvaluateSettings
    scores: dict[Amount, list[TileScores]] = field(default_factory=partial(defaultdict, list))
    seconds: dict[Amount, list[tuple[str, float]]] = field(default_factory=partial(defaultdict, list))
    """Dataset, and valid seconds that were looked at, of each recording that is scored."""

    @property
    def amounts(self) -> tuple[Amount, ...]:
        """Which are asked for, from little to all; none where nobody asked."""
        asked = [
            *(Amount(trials=trials) for trials in self.settings.calibration_trials),
            *(Amount(seconds=seconds) for seconds in self.settings.calibration_s),
        ]
        return (*asked, Amount()) if asked else ()

    def add(
        self,
        views: Sequence[RecordingView],
        *,
        ours: Sequence[Estimator],
        window_samples: int,
        elsewhere: float | None = None,
    ) -> None:
        """Add the recordings of one channel set in one fold; those that the fold learns from are not scored.

        Parameters
        ----------
        views
            Recordings, with their roles in the fold.
        ours
            The fold's models, which describe a recording from the calibration that it has.
        window_samples
            Length of a window.
        elsewhere
            What is expected of every channel where no training recording has any of them (`mean_elsewhere`).
        """
        tests = [view for view in views if view.roles.test and view.roles.kind in UNSEEN]
        if not tests or not self.amounts:
            return
        learned = [view for view in views if view.roles.train]
        expected = _mean_of(learned) if learned else None
        if expected is None and elsewhere is not None:
            per_sample = views[0].sampling_rate_hz if views[0].modality is Modality.SPIKES else 1.0
            expected = np.full(len(views[0].channel_ids), elsewhere / per_sample)
        make = partial(
            baselines_for,
            tests[0].modality,
            recordings=len(views) if learned else 1,
            settings=self.settings,
            window_samples=window_samples,
        )
        # Without training recordings of these channels all baselines learn from the calibration.
        fitted = _fitted(views, [one for one in make() if learned and not isinstance(one, GaussianCalibrated)])
        found: dict[tuple[tuple[Segment, ...], ...], list[tuple[float, list[TileScores]]]] = {}
        for amount in self.amounts:
            short = {view.name: view if view.roles.train else clipped(view, amount) for view in views}
            looked_at = tuple(view.roles.calibration for view in short.values())
            if looked_at not in found:  # of recordings shorter than an amount nothing new is seen
                again = [one for one in make() if one.name not in fitted]
                models = {
                    **fitted,
                    **_fitted(list(short.values()), again),
                    **{estimator.name: estimator for estimator in ours},
                }
                recordings = [
                    _Scored(whole=view, short=short[view.name], settings=self.settings, window_samples=window_samples)
                    for view in tests
                ]
                found[looked_at] = [(one.seconds, one.of_all(models, expected=expected)) for one in recordings]
            for seconds, scores in found[looked_at]:
                self.seconds[amount].append((scores[0].roles.dataset, seconds))
                self.scores[amount].extend(scores)

    def join(self, other: CalibrationTask) -> None:
        """Add what another one holds."""
        for amount in other.scores:
            self.scores[amount].extend(other.scores[amount])
            self.seconds[amount].extend(other.seconds[amount])

    def rows(self) -> Iterator[CalibrationRow]:
        """Score all folds together."""
        parts = [(amount, score) for amount in self.amounts for score in self.scores.get(amount, ())]
        keys = dict.fromkeys((score.roles.dataset, score.metric, amount) for amount, score in parts)
        for dataset, metric, amount in sorted(keys, key=lambda key: key[:2]):
            by_model: defaultdict[str, list[TileScores]] = defaultdict(list)
            for score in self.scores[amount]:
                if (score.roles.dataset, score.metric) == (dataset, metric):
                    by_model[score.model].append(score)
            seconds, every = (self._seconds(dataset, one) for one in (amount, Amount()))
            if seconds < every or amount == Amount():  # no recording had more
                yield from self._rows(by_model, amount, seconds=seconds)

    def _seconds(self, dataset: str, amount: Amount) -> float:
        return float(np.mean([seconds for of, seconds in self.seconds[amount] if of == dataset]))

    def _rows(
        self, by_model: Mapping[str, Sequence[TileScores]], amount: Amount, *, seconds: float
    ) -> Iterator[CalibrationRow]:
        samples, seed = self.settings.bootstrap_samples, self.settings.seed
        units = {model: units_of(parts) for model, parts in by_model.items()}
        # A baseline that is there for some sets of channels alone is scored on fewer, and not compared.
        most = max(len(gain) for gain, _ in units.values())
        whole = (model for model in units if model in _LINEAR and len(units[model][0]) == most)
        linear = max(whole, key=lambda model: ratio(*units[model]))
        for model, parts in sorted(by_model.items()):
            low, high = bootstrap(*units[model], samples=samples, seed=seed)
            minus, minus_low, minus_high = None, None, None
            if model.startswith(OURS):
                ahead = paired_bootstrap(units[model], units[linear], samples=samples, seed=seed)
                minus, minus_low, minus_high = map(rounded, ahead)
            roles = parts[0].roles
            yield CalibrationRow(
                dataset=roles.dataset,
                modality=str(roles.modality),
                task=TASK,
                metric=parts[0].metric,
                model=model,
                calibration=amount.name,
                seconds=rounded(seconds),
                value=rounded(ratio(*units[model])),
                ci_low=rounded(low),
                ci_high=rounded(high),
                ci_unit=HELD_OUT[roles.kind][1],
                n=len(units[model][0]),
                linear=linear,
                minus_linear=minus,
                minus_linear_ci_low=minus_low,
                minus_linear_ci_high=minus_high,
            )


def _fitted(views: Sequence[RecordingView], baselines: Sequence[Estimator]) -> dict[str, Estimator]:
    """Fit baselines; one that has too little to be fitted on knows no more than the mean."""
    found: dict[str, Estimator] = {}
    for estimator in baselines:
        try:
            estimator.fit(views)
        except UserError:
            found[estimator.name] = Null()
        else:
            found[estimator.name] = estimator
    return found


def mean_elsewhere(views: Sequence[RecordingView], modality: Modality) -> float | None:
    """Return the mean over all channels that a fold learns from of a modality, each recording weighing the same.

    Of a dataset never seen that has channels of its own it is what is known of a channel before anything is seen. Of
    spikes it is a rate in Hz, since bins may be of another length there; of others in the units of the shards.
    """
    learned = [view for view in views if view.roles.train and view.modality is modality and view.usable.any()]
    if not learned:
        return None
    per_s = [view.sampling_rate_hz if modality is Modality.SPIKES else 1.0 for view in learned]
    means = [view.normaliser.mean[view.usable].mean() for view in learned]
    return float(np.mean(np.multiply(means, per_s)))


def _mean_of(learned: Sequence[RecordingView]) -> Floats:
    """[channel] mean over the recordings that have the channel; not a number where none has."""
    has = np.stack([view.usable for view in learned])
    means = np.stack([view.normaliser.mean for view in learned])
    summed, count = (means * has).sum(axis=0), has.sum(axis=0)
    return np.where(count > 0, summed / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """One recording that is scored: as the split calibrates it, and as it is calibrated here."""

    whole: RecordingView
    short: RecordingView
    settings: EvaluateSettings
    window_samples: int

    @cached_property
    def test(self) -> Windows:
        """What is scored, in SDs of the whole calibration."""
        return cut(self.whole, self.whole.roles.test, window_samples=self.window_samples)

    @cached_property
    def seen(self) -> Windows:
        """The same in SDs of the short one, which is all that models know."""
        return cut(self.short, self.short.roles.test, window_samples=self.window_samples)

    @cached_property
    def looked_at(self) -> npt.NDArray[np.float32]:
        """[sample, channel] valid ones of the short calibration."""
        return _valid_of(self.short)

    @property
    def seconds(self) -> float:
        """How long that is."""
        return len(self.looked_at) / self.whole.sampling_rate_hz

    def of_all(self, models: Mapping[str, Estimator], *, expected: Floats | None) -> list[TileScores]:
        """Score every model, and what is expected of each channel, [channel], where anything is."""
        scores = [score for model, estimator in models.items() for score in self._of(model, estimator)]
        if expected is not None:
            told = np.where(np.isnan(expected), self.looked_at.mean(axis=0, dtype=np.float64), expected)
            values = np.broadcast_to(told, self.test.z.shape)
            scores.append(self._r2(NULL_TRAIN, values))
            if self.whole.modality is Modality.SPIKES:
                scores.append(self._bits(NULL_TRAIN, np.maximum(values, _RATE_OF_NONE / len(self.looked_at))))
        return scores

    def _of(self, model: str, estimator: Estimator) -> list[TileScores]:
        predicted = reconstruct(estimator, self.seen, settings=self.settings)
        # A channel that seems silent in a short calibration is not asked for: of it all models know the mean.
        known = self.short.usable
        mean = np.where(known, self.short.normaliser.mean, self.looked_at.mean(axis=0, dtype=np.float64))
        if self.whole.modality is Modality.SPIKES:
            mean = np.maximum(mean, _RATE_OF_NONE / len(self.looked_at))
        values = predicted * self.short.normaliser.sd * known + mean
        scores = [self._r2(model, values)]
        if self.whole.modality is Modality.SPIKES:
            tuning, floors = self._tuning(), sorted(self.settings.rate_floors)
            chosen = any(map(len, tuning))  # Nothing can be told from less than a window.
            floor = choose_floor(estimator, tuning, settings=self.settings) if chosen else floors[len(floors) // 2]
            scores.append(self._bits(model, np.maximum(values, floor * mean)))
        return scores

    def _tuning(self) -> list[Windows]:
        """Windows of the short calibration, on which the least rate is chosen."""
        return [cut(self.short, self.short.roles.calibration, window_samples=self.window_samples)]

    def _r2(self, model: str, values: Floats) -> TileScores:
        channels = np.flatnonzero(self.whole.usable)
        normaliser = self.whole.normaliser
        predicted = (values[..., channels] - normaliser.mean[channels]) / normaliser.sd[channels]
        gain, total = squares(self.test.z[..., channels].astype(np.float64), predicted, self.test.counted)
        return self._tiles(model, "R2", gain=gain.sum(axis=1), total=total.sum(axis=1))

    def _bits(self, model: str, rate: Floats) -> TileScores:
        """Against the mean rate of the whole calibration, so that points of a curve can be compared."""
        units = np.flatnonzero(self.whole.usable)
        counts = self.test.values()[..., units].astype(np.float64)
        gain = poisson_bits(counts, rate[..., units], self.whole.normaliser.mean[units], self.test.counted)
        spikes = np.einsum("ts,tsc->t", self.test.counted.astype(np.float64), counts)
        return self._tiles(model, "bits_per_spike", gain=gain, total=spikes)

    def _tiles(self, model: str, metric: str, *, gain: Floats, total: Floats) -> TileScores:
        return TileScores(
            roles=self.whole.roles, task=TASK, metric=metric, model=model, gain=gain[:, None], total=total[:, None]
        )


def _valid_of(view: RecordingView) -> npt.NDArray[np.float32]:
    """[sample, channel] valid samples of the calibration, in physical units."""
    parts = [view.values(s.start, s.stop)[view.valid[s.start : s.stop]] for s in view.roles.calibration]
    return np.concatenate(parts)
