"""Task `trait:<attribute>`: age, sex, group or another attribute of people never seen, from their whole recordings.

``trait:<attribute>@<network>`` is the same from the channels of one network alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from neurofm.evaluation.attributes import Attributes, Labelled, Unit, labelled, values_of
from neurofm.evaluation.classification import Encode
from neurofm.evaluation.connectivity_features import correlation, tangent
from neurofm.evaluation.core_features import core_band_tangent, core_tangent, embedding
from neurofm.evaluation.networks import of_network
from neurofm.evaluation.protocols import LINEAR, Protocol, fit_protocol
from neurofm.evaluation.readout import null_readout
from neurofm.evaluation.row import OURS, Row
from neurofm.evaluation.scoreboard import NOTHING, rounded
from neurofm.evaluation.series import FitFeatures, Floats
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.spectral_features import band_power, filter_bank_tangent
from neurofm.evaluation.trait_scores import TRAIT_UNITS, Predictions, Resampling, estimate, joined
from neurofm.evaluation.whole_sets import Given, join_given, whole_sets
from neurofm.recording import Modality
from neurofm.windows import RecordingView

OURS_CORE = f"{OURS}-tangent"
OURS_NETWORK = f"{OURS}-embedding"
MODELS: Mapping[Modality, Mapping[str, FitFeatures]] = {
    Modality.FMRI: {
        "connectivity": correlation,
        "tangent_connectivity": tangent,
        OURS_CORE: core_tangent,
    },
    Modality.EEG: {
        "band_power": band_power,
        "filter_bank_tangent": filter_bank_tangent,
        OURS_CORE: core_band_tangent,
    },
}
"""Features by the model's name. Other modalities have no channels in common between subjects."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Features of one fold, for any read-out: of the subjects that it learns from, and of those that it holds out."""

    model: str
    groups: tuple[str, ...]
    train: tuple[Unit, ...]
    test: tuple[Unit, ...]
    train_features: Floats
    """[train unit, feature]"""
    test_features: Floats
    """[test unit, feature]"""


def make_table(model: str, fit: FitFeatures, found: Labelled, *, train: Sequence[str]) -> Table:
    """Make features of one fold; what they need to know comes from recordings of training subjects only.

    Parameters
    ----------
    model
        Name of the features.
    fit
        How they are made.
    found
        Who has which value.
    train
        Subjects that are learned from; all others are held out.
    """
    known = set(train)
    learned = tuple(unit for unit in found.units if unit.subject in known)
    held = tuple(unit for unit in found.units if unit.subject not in known)
    features = fit([view for unit in learned for view in unit.views])
    return Table(
        model=model,
        groups=found.groups,
        train=learned,
        test=held,
        train_features=_averaged(features([view for unit in learned for view in unit.views]), learned),
        test_features=_averaged(features([view for unit in held for view in unit.views]), held),
    )


def read_out(table: Table, *, shown: Sequence[int] | None = None, protocol: Protocol = LINEAR) -> Predictions:
    """Learn from a table's training subjects and predict those that it holds out.

    Parameters
    ----------
    table
        Features of one fold.
    shown
        Of which training units the label is known; of all of them without.
    protocol
        What reads out.
    """
    kept = np.arange(len(table.train)) if shown is None else np.array(shown, dtype=np.int64)
    values, groups = values_of(table.train)[kept], len(table.groups)
    features = table.train_features[kept]
    null = null_readout(values, features=features.shape[1], groups=groups)
    subjects = [table.train[index].subject for index in kept.tolist()]
    predict = fit_protocol(protocol, features, values, units=subjects, groups=groups, unlabelled=table.train_features)
    return Predictions(
        model=table.model,
        groups=table.groups,
        subject=tuple(unit.subject for unit in table.test),
        truth=values_of(table.test),
        fold=np.zeros((1, len(table.test)), dtype=np.int64),
        predicted=predict(table.test_features)[None],
        null=null.predict(table.test_features)[None],
    )


@dataclass(frozen=True, kw_only=True)
class TraitTask:
    """The task over all folds: each fold adds its predictions, then there are rows."""

    settings: EvaluateSettings
    given: Given[Predictions] = field(default_factory=partial(defaultdict, partial(defaultdict, list)))
    """By dataset, modality and attribute, and by set of channels: by model, of each fold that scores it."""

    def add(
        self,
        views: Sequence[RecordingView],
        attributes: Mapping[str, Attributes],
        *,
        encode: Encode | None,
        window_samples: int,
    ) -> dict[tuple[str, str, str], float]:
        """Predict what one fold holds out of one channel set.

        Each dataset by itself: between datasets the scanner would tell who is a patient.

        Parameters
        ----------
        views
            Recordings of one channel set, with their roles in the fold.
        attributes
            Of each of them, by name.
        encode
            The fold's frozen network; without it its row is left out.
        window_samples
            Length of its window.

        Returns
        -------
        CPU seconds by dataset, task and model.
        """
        seconds: dict[tuple[str, str, str], float] = {}
        by_dataset: defaultdict[str, list[RecordingView]] = defaultdict(list)
        for view in views:
            # Where sessions are held out their people are learned from: who somebody is would be known already.
            if view.roles.kind == "subject":
                by_dataset[view.dataset].append(view)
        for _, own in sorted(by_dataset.items()):
            if not any(view.roles.test for view in own):  # the fold leaves others out
                continue
            models = dict(MODELS.get(own[0].modality, {}))
            if models and encode is not None:
                models[OURS_NETWORK] = embedding(encode, window_samples=window_samples)
            seconds.update(self._add(own, attributes, models=models))
            for network, patterns in self.settings.networks.items():
                # The network has learned from all channels together: it has nothing to say of some of them.
                among = of_network(own, network, patterns)
                if among:
                    of_modality = MODELS.get(own[0].modality, {})
                    seconds.update(self._add(among, attributes, models=of_modality, network=network))
        return seconds

    def _add(
        self,
        own: Sequence[RecordingView],
        attributes: Mapping[str, Attributes],
        *,
        models: Mapping[str, FitFeatures],
        network: str = "",
    ) -> dict[tuple[str, str, str], float]:
        """Predict every trait of one dataset, from all channels or from those of a network."""
        seconds: dict[tuple[str, str, str], float] = {}
        train = training_subjects(own)
        for trait in self.settings.traits if models else ():
            found = labelled(own, attributes, trait=trait)
            name = f"{trait}@{network}" if network else trait
            folds = self.given[own[0].dataset, str(own[0].modality), name][own[0].channel_set]
            if not can_be_learned(found, train=train):
                folds.append(None)
                continue
            predicted: dict[str, Predictions] = {}
            for model, fit in models.items():
                started = time.process_time()
                predicted[model] = read_out(make_table(model, fit, found, train=train))
                seconds[own[0].dataset, f"trait:{name}", model] = time.process_time() - started
            folds.append(predicted)
        return seconds

    def join(self, other: TraitTask) -> None:
        """Add what another one predicted."""
        join_given(self.given, other.given)

    def predictions(self) -> dict[tuple[str, str, str, str], Predictions]:
        """Join the folds, by dataset, modality, attribute and model."""
        found: dict[tuple[str, str, str, str], Predictions] = {}
        for key, sets in sorted(self.given.items()):
            folds = whole_sets(sets, groups_of=lambda part: part.groups)
            for model in sorted(folds[0]) if folds else ():
                found[*key, model] = joined([[fold[model] for fold in folds]])
        return {key: predictions for key, predictions in found.items() if predictions.can_be_scored}

    def rows(self, *, folds: int, left_out: Mapping[str, str] = NOTHING) -> tuple[Row, ...]:
        """Score all folds together: a row per dataset, attribute, metric and model, with the null; cf. `make_rows`."""
        found = self.predictions()
        return tuple(
            row
            for key, predictions in found.items()
            # The null's row goes with the first model of an attribute.
            for row in self._rows(
                key,
                predictions,
                split=left_out.get(key[0], f"{folds}-fold by subject"),
                first=key == next(k for k in found if k[:3] == key[:3]),
            )
        )

    def _rows(self, key: tuple[str, str, str, str], predictions: Predictions, *, split: str, first: bool) -> list[Row]:
        dataset, modality, trait, _ = key
        resampling = Resampling(samples=self.settings.bootstrap_samples, seed=self.settings.seed)
        rows = []
        for metric in predictions.metrics:
            null = rounded(estimate(predictions.of_null(), metric, resampling=resampling).value)
            for scored in [predictions.of_null(), predictions] if first else [predictions]:
                score = estimate(scored, metric, resampling=resampling)
                rows.append(
                    Row(
                        dataset=dataset,
                        modality=modality,
                        task=f"trait:{trait}",
                        metric=metric,
                        unit=TRAIT_UNITS[metric],
                        higher_is_better=True,
                        split=split,
                        model=scored.model,
                        seed=self.settings.seed,
                        value=rounded(score.value),
                        null=null,
                        ci_low=rounded(score.low),
                        ci_high=rounded(score.high),
                        ci_unit="subject",
                        n=len(set(scored.subject)),
                    )
                )
        return rows


def can_be_learned(found: Labelled, *, train: Sequence[str]) -> bool:
    """Whether there is something to learn from and something to score; one held out alone is scored with the others."""
    known = set(train)
    learned = [unit for unit in found.units if unit.subject in known]
    held = [unit for unit in found.units if unit.subject not in known]
    judged = [learned] if len({unit.subject for unit in held}) == 1 else [learned, held]
    if not found.groups:
        return all(len(part) > 1 for part in judged)
    return all(set(values_of(part)) == set(range(len(found.groups))) for part in judged)


def training_subjects(views: Sequence[RecordingView]) -> list[str]:
    """Return those of whom nothing is scored."""
    return sorted({view.subject for view in views if not view.roles.test})


def _averaged(features: Floats, units: Sequence[Unit]) -> Floats:
    """Average over the recordings of each unit: [recording, feature] to [unit, feature]."""
    ends = np.cumsum([len(unit.views) for unit in units])[:-1]
    return np.array([part.mean(axis=0) for part in np.split(features, ends)])
