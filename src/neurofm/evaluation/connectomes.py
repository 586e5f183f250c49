"""Connectomes from masked predictions: correlations of parcels, each while it was hidden, beside the measured ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.findings import TRAINING_MEAN, Connectome, Floats
from neurofm.evaluation.row import OURS
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.scores import bootstrap
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality

_LEAST_SAMPLES = 32
"""Of a recording whose correlations mean something."""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """The recording of which a dataset's figure is."""

    test: Windows
    measured: Floats
    reconstructed: Floats


@dataclass(frozen=True, kw_only=True)
class Connectomes:
    """Gathered fold by fold and model by model; of fMRI, whose channels are the same in all subjects."""

    settings: EvaluateSettings
    r: defaultdict[tuple[str, str], defaultdict[str, list[float]]] = field(
        default_factory=partial(defaultdict, partial(defaultdict, list))
    )
    """[recording] by dataset and model, and by subject."""
    shown: dict[str, _Shown] = field(default_factory=dict)
    """The first by dataset."""

    def add(self, test: Windows, predicted: Floats, *, model: str) -> None:
        """Compare one model's predictions of one recording.

        Predictions of one channel share no sample of that channel, but those of two channels that were hidden
        together rest on the same visible ones: their correlation is as high as what they share is well predicted.

        Parameters
        ----------
        test
            Windows of its test segments.
        predicted
            [window, time, channel] in SDs, each channel while it was hidden.
        model
            Whose.
        """
        if not self._counts(test):
            return
        measured, found = _correlation(test.z[test.counted]), _correlation(predicted[test.counted])
        self._add(test, measured, found, model=model)
        if model == OURS:
            self.shown.setdefault(test.view.dataset, _Shown(test=test, measured=measured, reconstructed=found))

    def add_training(self, tests: Sequence[Windows], fit: Sequence[Windows]) -> None:
        """Compare the mean connectome of the recordings that a fold learns from.

        Parameters
        ----------
        tests
            Windows of the test segments, per recording.
        fit
            Windows that are learned from, of the same channel set.
        """
        known = [part for part in fit if part.view.roles.train and part.counted.sum() >= _LEAST_SAMPLES]
        if known and any(map(self._counts, tests)):
            with np.errstate(invalid="ignore"):
                mean = np.nanmean([_correlation(part.z[part.counted]) for part in known], axis=0)
            for test in filter(self._counts, tests):
                self._add(test, _correlation(test.z[test.counted]), mean, model=TRAINING_MEAN)

    def join(self, other: Connectomes) -> None:
        """Add what another one gathered; the recording that is shown stays the first."""
        for key, subjects in other.r.items():
            for subject, values in subjects.items():
                self.r[key][subject].extend(values)
        for dataset, shown in other.shown.items():
            self.shown.setdefault(dataset, shown)

    def finish(self) -> tuple[Connectome, ...]:
        """Put together what was gathered, a connectome per dataset."""
        return tuple(self._of(dataset, shown) for dataset, shown in sorted(self.shown.items()))

    def _of(self, dataset: str, shown: _Shown) -> Connectome:
        models = sorted(model for own, model in self.r if own == dataset)
        subjects = sorted({subject for model in models for subject in self.r[dataset, model]})
        r = np.array([[_mean(self.r[dataset, model].get(subject, [])) for subject in subjects] for model in models])
        ends = [self._interval(row[np.isfinite(row)]) for row in r]
        return Connectome(
            dataset=dataset,
            modality=str(shown.test.view.modality),
            recording=shown.test.view.recording,
            samples=int(shown.test.counted.sum()),
            measured=shown.measured,
            reconstructed=shown.reconstructed,
            models=tuple(models),
            subjects=tuple(subjects),
            r=r,
            low=np.array([low for low, _ in ends]),
            high=np.array([high for _, high in ends]),
        )

    def _interval(self, r: Floats) -> tuple[float, float]:
        if not len(r):
            return float("nan"), float("nan")
        units = r[:, None], np.ones((len(r), 1))
        return bootstrap(*units, samples=self.settings.bootstrap_samples, seed=self.settings.seed)

    def _add(self, test: Windows, measured: Floats, found: Floats, *, model: str) -> None:
        edges = np.triu_indices(len(measured), k=1)
        known = np.isfinite(measured[edges]) & np.isfinite(found[edges])
        pair = measured[edges][known], found[edges][known]
        # The null predicts the same of every channel: there is nothing that could correlate.
        varies = known.sum() > 2 and all(one.std() > 1e-9 for one in pair)
        r = float(np.corrcoef(*pair)[0, 1]) if varies else float("nan")
        self.r[test.view.dataset, model][test.view.subject].append(r)

    @staticmethod
    def _counts(test: Windows) -> bool:
        return test.view.modality is Modality.FMRI and int(test.counted.sum()) >= _LEAST_SAMPLES


def _correlation(values: npt.NDArray[np.floating]) -> Floats:
    """[channel, channel] correlations of [sample, channel]; NaN where a channel is constant."""
    values = values.astype(np.float64)
    sd = values.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (values - values.mean(axis=0)) / np.where(sd > 1e-9, sd, np.nan)
    found: Floats = z.T @ z / len(z)
    return found


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
