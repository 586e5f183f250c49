"""Few-shot task over all folds: our features beside those of the same network from scratch, with few to all labels.

Of ours there are two, `neurofm` with the components of what its core sees, and the network's latents alone, so that
nobody takes the core's part for the network's. From scratch are the latents of a network of the same settings with
random weights, one per seed; a frozen one, since a network that learns from the labels is another protocol.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.attributes import Attributes, labelled
from neurofm.evaluation.classification import Encode
from neurofm.evaluation.core_features import embedding
from neurofm.evaluation.decoding import is_decoded
from neurofm.evaluation.few_shot import SEEDS, Amount, amounts_of, few_shot_predictions
from neurofm.evaluation.few_shot_learned import AMOUNT
from neurofm.evaluation.few_shot_networks import Learning, Read
from neurofm.evaluation.few_shot_row import NETWORK, SCRATCH, FewShotRow
from neurofm.evaluation.few_shot_windows import (
    Encoders,
    Key,
    Point,
    by_curve,
    classification_points,
    decoding_points,
)
from neurofm.evaluation.protocols import LEARNED, PROTOCOLS, Protocol
from neurofm.evaluation.row import OURS
from neurofm.evaluation.scoreboard import HELD_OUT, rounded, units_of
from neurofm.evaluation.seeded import SeededScores, seeded_difference, seeded_estimate
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.trait_scores import Estimate, Predictions, Resampling, estimate, joined, paired_difference
from neurofm.evaluation.traits import MODELS, Table, can_be_learned, make_table, training_subjects
from neurofm.evaluation.whole_sets import Given, join_given, whole_sets
from neurofm.model.whole_channels import network_of
from neurofm.progress import Progressing
from neurofm.training.checkpoint import patch_samples
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView
from neurofm.windows.settings import WindowSettings


def encoders_of(predictor: Predictor, *, seeds: int = SEEDS) -> Encoders:
    """Return our encoders, and as many from scratch as there are seeds."""
    checkpoint = predictor.checkpoint
    scratch = []
    for seed in range(seeds):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = network_of(checkpoint.model, patch_samples=patch_samples(checkpoint.windows))
        scratch.append(_latents(predictor.with_network(network)))
    return Encoders(pretrained={OURS: predictor.encode, NETWORK: _latents(predictor)}, scratch=scratch)


def _latents(predictor: Predictor) -> Encode:
    """Encode without the components of what the core sees."""
    width = predictor.checkpoint.model.width

    def encode(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return predictor.encode(view, z)[..., :width]

    return encode


Curve = tuple[Protocol, Amount, dict[str, tuple[Predictions, float]]]
"""Predictions of people by model, and how many labels were shown."""


@dataclass(frozen=True, kw_only=True)
class FewShotTask:
    """Each fold adds its points and tables, then there are rows."""

    settings: EvaluateSettings
    seeds: int = SEEDS
    points: list[Point] = field(default_factory=list)
    """Of windows."""
    tables: Given[list[Table]] = field(default_factory=partial(defaultdict, partial(defaultdict, list)))
    """Of people, by dataset, modality and attribute, and by set of channels: by model [seed], of each fold."""
    networks: Given[Read] = field(default_factory=partial(defaultdict, partial(defaultdict, list)))
    """The same of networks that learned from labels: by protocol and model, empty where none did."""

    def add(
        self,
        views: Sequence[RecordingView],
        predictor: Predictor,
        *,
        attributes: Mapping[str, Attributes],
        window: WindowSettings,
        fold: int,
    ) -> Mapping[tuple[str, str, str], float]:
        """Add the recordings of one channel set in one fold.

        Parameters
        ----------
        views
            Recordings, with their roles in the fold.
        predictor
            The fold's model.
        attributes
            Of each of them, by name, where there are traits to predict.
        window
            Of their modality.
        fold
            Its number.

        Returns
        -------
        CPU seconds of the networks that learn from labels, by dataset, task and model.
        """
        learning = Learning(predictor=predictor, window=window, steps=self.settings.few_shot_steps, fold=fold)
        encoders, samples = encoders_of(predictor, seeds=self.seeds), window.window_samples
        for view, target in itertools.product(views, self.settings.decode):
            if is_decoded(view, target):
                self.points.extend(
                    decoding_points(
                        view,
                        target,
                        encoders=encoders,
                        window_samples=samples,
                        patch_samples=window.patch_samples,
                        fold=fold,
                    )
                )
                self.points.extend(learning.decoding_points(view, target))
        for target in self.settings.classify:
            self.points.extend(
                classification_points(views, target, encoders=encoders, window_samples=samples, fold=fold)
            )
            self.points.extend(learning.classification_points(views, target))
        plain = MODELS.get(views[0].modality, {})
        by_dataset: defaultdict[str, list[RecordingView]] = defaultdict(list)
        for view in views if plain else ():
            if view.roles.kind == "subject":
                by_dataset[view.dataset].append(view)
        for (dataset, own), trait in itertools.product(sorted(by_dataset.items()), self.settings.traits):
            if not any(view.roles.test for view in own):  # the fold leaves others out
                continue
            found, train = labelled(own, attributes, trait=trait), training_subjects(own)
            key = dataset, str(own[0].modality), trait
            folds = self.tables[key][own[0].channel_set]
            is_learned = can_be_learned(found, train=train)
            if learning.steps:
                read = learning.predictions(found, train=train, at=(dataset, f"trait:{trait}")) if is_learned else None
                self.networks[key][own[0].channel_set].append(read)
            if not is_learned:
                folds.append(None)
                continue
            of = {
                model: [_bare(make_table(model, fit, found, train=train))] * self.seeds for model, fit in plain.items()
            }
            made = encoders.each(
                lambda encode: make_table("", embedding(encode, window_samples=samples), found, train=train)  # noqa: B023  # called at once
            )
            named = {id(table): _bare(table, model=model) for model, tables in made.items() for table in tables}
            folds.append(of | {model: [named[id(table)] for table in tables] for model, tables in made.items()})
        return learning.seconds

    def join(self, other: FewShotTask) -> None:
        """Add what another one holds."""
        self.points.extend(other.points)
        join_given(self.tables, other.tables)
        join_given(self.networks, other.networks)

    def rows(self) -> tuple[FewShotRow, ...]:
        """Score all folds together."""
        resampling = Resampling(samples=self.settings.bootstrap_samples, seed=self.settings.seed)
        with Progressing("few labels", total=len(self.tables), unit="attributes") as progress:
            return (*self._of_windows(resampling), *self._of_people(resampling, progress))

    def _of_windows(self, resampling: Resampling) -> Iterator[FewShotRow]:
        curves = by_curve(self.points)
        scores = {key: _joined(seeds) for key, seeds in curves.items()}
        for key, seeds in sorted(curves.items(), key=lambda item: _order(item[0])):
            dataset, task, metric, protocol, amount, model = key
            rival = scores[dataset, task, metric, protocol, amount, SCRATCH]
            roles = seeds[0][0].score.roles
            yield _row(
                amount,
                dataset=dataset,
                modality=str(roles.modality),
                task=task,
                metric=metric,
                model=model,
                protocol=protocol,
                shown=float(np.mean([point.shown for points in seeds for point in points])),
                seeds=len(seeds),
                score=seeded_estimate(scores[key], resampling=resampling),
                difference=None if model == SCRATCH else seeded_difference(scores[key], rival, resampling=resampling),
                ci_unit=HELD_OUT[roles.kind][1],
                n=scores[key].gain.shape[1],
            )

    def _of_people(self, resampling: Resampling, progress: Progressing) -> Iterator[FewShotRow]:
        for (dataset, modality, trait), sets in sorted(self.tables.items()):
            folds = whole_sets(sets, groups_of=lambda tables: tables[0].groups)
            if not folds:
                continue
            by_seed = {
                model: [[fold[model][seed] for fold in folds] for seed in range(self.seeds)] for model in folds[0]
            }
            groups = len(by_seed[SCRATCH][0][0].groups)
            asked = list(itertools.product(PROTOCOLS, amounts_of(groups)))
            curves: list[Curve] = []
            for protocol, amount in asked:
                found = {model: few_shot_predictions(of, amount, protocol=protocol) for model, of in by_seed.items()}
                curves.append((protocol, amount, found))
                progress.advance(1 / len(asked), note=f"{dataset}: {trait}, {amount.labels} labels")
            curves += _of_networks(self.networks[dataset, modality, trait])
            for protocol, amount, found in curves:
                rival, _ = found[SCRATCH]
                for (model, (own, shown)), metric in itertools.product(
                    sorted(found.items()), rival.metrics if rival.can_be_scored else ()
                ):
                    yield _row(
                        amount,
                        dataset=dataset,
                        modality=modality,
                        task=f"trait:{trait}",
                        metric=metric,
                        model=model,
                        protocol=protocol,
                        shown=shown,
                        seeds=len(own.predicted),
                        score=estimate(own, metric, resampling=resampling),
                        difference=None
                        if model == SCRATCH
                        else paired_difference(own, rival, metric, resampling=resampling),
                        ci_unit="subject",
                        n=len(set(own.subject)),
                    )


def _of_networks(sets: Mapping[str, Sequence[dict[str, Read] | None]]) -> list[Curve]:
    """Join what networks that learned from labels predicted in all folds; nothing where none did."""
    folds = whole_sets(sets, groups_of=lambda read: read.predictions[0].groups)
    curves: list[Curve] = []
    for protocol in LEARNED if folds else ():
        found = {}
        for model in (NETWORK, SCRATCH):
            reads = [fold[f"{protocol} {model}"] for fold in folds]
            by_seed = list(zip(*(read.predictions for read in reads), strict=True))
            found[model] = joined(by_seed), float(np.mean([read.shown for read in reads]))
        curves.append((protocol, AMOUNT, found))
    return curves


def _bare(table: Table, *, model: str = "") -> Table:
    """Leave out the recordings that a table was made of: they would be held, and sent between processes."""
    train, test = (tuple(replace(unit, views=()) for unit in units) for units in (table.train, table.test))
    return replace(table, model=model or table.model, train=train, test=test)


def _joined(seeds: Sequence[Sequence[Point]]) -> SeededScores:
    """Join folds and recordings as the scoreboard does."""
    units = [units_of([point.score for point in points]) for points in seeds]
    return SeededScores(gain=np.stack([gain for gain, _ in units]), total=np.stack([total for _, total in units]))


def _order(key: Key) -> tuple[str, ...]:
    dataset, task, metric, protocol, amount, model = key
    number = amount.share if amount.share is not None else 10.0 + (amount.examples or 0)
    return dataset, task, metric, protocol, f"{number:09.4f}", model


def _row(
    amount: Amount,
    *,
    dataset: str,
    modality: str,
    task: str,
    metric: str,
    model: str,
    protocol: Protocol,
    shown: float,
    seeds: int,
    score: Estimate,
    difference: Estimate | None,
    ci_unit: str,
    n: int,
) -> FewShotRow:
    return FewShotRow(
        dataset=dataset,
        modality=modality,
        task=task,
        metric=metric,
        model=model,
        protocol=protocol,
        labels=amount.labels,
        share=amount.share,
        examples=amount.examples,
        shown=rounded(shown),
        seeds=seeds,
        value=rounded(score.value),
        ci_low=rounded(score.low),
        ci_high=rounded(score.high),
        ci_unit=ci_unit,
        n=n,
        difference_to_scratch=None if difference is None else rounded(difference.value),
        difference_ci_low=None if difference is None else rounded(difference.low),
        difference_ci_high=None if difference is None else rounded(difference.high),
    )
