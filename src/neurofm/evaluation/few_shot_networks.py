"""Few-shot networks: the tasks of windows and people for networks that learn from labels themselves.

The same labels are shown to them as to read-outs of frozen features with the same seed, and the same test data asked.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.attributes import Labelled as Attribute
from neurofm.evaluation.attributes import Unit, values_of
from neurofm.evaluation.classification import has_both_states, known_states, labelled_windows, log_power, state_scores
from neurofm.evaluation.core_features import described_alike
from neurofm.evaluation.decoding import target_patches
from neurofm.evaluation.few_shot import drawn
from neurofm.evaluation.few_shot_learned import (
    AMOUNT,
    SEEDS,
    Labelled,
    Question,
    by_unit,
    learn,
    learners,
    seen_of,
    spread_rows,
)
from neurofm.evaluation.few_shot_windows import Point
from neurofm.evaluation.protocols import Protocol
from neurofm.evaluation.readout import null_readout
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.scores import Floats, TileScores, squares
from neurofm.evaluation.series import shared_samples
from neurofm.evaluation.trait_scores import Predictions
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView
from neurofm.windows.settings import WindowSettings


@dataclass(frozen=True, kw_only=True)
class Read:
    """What networks of one protocol and model predicted of a fold's people."""

    predictions: Sequence[Predictions]
    """[seed]"""
    shown: float
    """People whose label was shown."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Networks that learn from the labels of one channel set in one fold."""

    predictor: Predictor
    window: WindowSettings
    steps: int
    """0: nothing is learned, and nothing comes out."""
    fold: int
    seconds: defaultdict[tuple[str, str, str], float] = field(default_factory=partial(defaultdict, float))
    """CPU seconds by dataset, task and model."""

    def decoding_points(self, view: RecordingView, target: str) -> list[Point]:
        """Decode a target of a recording that is split in time; cf. `neurofm.evaluation.few_shot_windows`."""
        if not self.steps:
            return []
        (fit,), _ = learning_windows([view], window_samples=self.window.window_samples)
        test = cut(view, view.roles.test, window_samples=self.window.window_samples)
        known, truth = (target_patches(part, target, patch_samples=self.window.patch_samples) for part in (fit, test))
        units = np.flatnonzero(known.counted.any(axis=1))
        if len(units) < 2 or not truth.counted.any():
            return []
        learned, asked = (
            Labelled(
                seen=seen_of(self.predictor, view, windows.z),
                unit=np.arange(len(windows)),
                values=of.values,
                counted=of.counted,
            )
            for windows, of in ((fit, known), (test, truth))
        )
        points, task = [], f"decoding:{target}"
        question = Question(groups=0, per_patch=True, steps=self.steps)
        for answer in self._answers(
            [learned],
            [asked],
            units=units,
            values=units.astype(np.float64),
            question=question,
            at=(view.dataset, task),
        ):
            gain, total = squares(truth.values, answer.of[0], truth.counted)
            model = answer.model
            score = TileScores(roles=view.roles, task=task, metric="R2", model=model, gain=gain, total=total)
            points += answer.points([score])
        return points

    def classification_points(self, views: Sequence[RecordingView], target: str) -> list[Point]:
        """Classify the windows of recordings of a channel set by a state; cf. `neurofm.evaluation.few_shot_windows`."""
        taken = [view for view in views if target in view.targets]
        tests = [cut(view, view.roles.test, window_samples=self.window.window_samples) for view in taken]
        tests = [test for test in tests if has_both_states(test, target)]
        learned = [view for view in taken if view.roles.train]
        if not self.steps or not tests or not learned:
            return []
        fit, _ = learning_windows(learned, window_samples=self.window.window_samples)
        truth = labelled_windows(fit, target, log_power)
        if not truth.has_both:
            return []
        pieces, asked = ([self._states(part, target) for part in parts] for parts in (fit, tests))
        firsts = np.cumsum([0, *(len(piece.unit) for piece in pieces)])
        pieces = [replace(piece, unit=first + piece.unit) for piece, first in zip(pieces, firsts, strict=False)]
        values, task = truth.state.astype(np.float64), f"classification:{target}"
        question = Question(groups=2, per_patch=False, steps=self.steps)
        points = []
        for answer in self._answers(
            pieces, asked, units=np.arange(len(values)), values=values, question=question, at=(taken[0].dataset, task)
        ):
            for test, probability in zip(tests, answer.of, strict=True):
                samples = labelled_windows([test], target, log_power)
                scores = state_scores(test, samples, probability[:, 0, 1], task=task, model=answer.model)
                points += answer.points(scores)
        return points

    def predictions(self, found: Attribute, *, train: Sequence[str], at: tuple[str, str]) -> dict[str, Read]:
        """Predict an attribute of the people that a fold holds out, from whole recordings.

        Parameters
        ----------
        found
            Who has which value.
        train
            Subjects that are learned from; all others are held out.
        at
            Dataset and task, for `seconds`.

        Returns
        -------
        by protocol and model, ``<protocol> <model>``.
        """
        learned, held = (
            tuple(unit for unit in found.units if (unit.subject in set(train)) == side) for side in (True, False)
        )
        samples = shared_samples([view for unit in learned for view in unit.views])
        pieces, asked = (
            [
                self._person(described_alike(view, samples=samples), number, unit)
                for number, unit in enumerate(units)
                for view in unit.views
            ]
            for units in (learned, held)
        )
        values = values_of(learned)
        question = Question(groups=len(found.groups), per_patch=False, steps=self.steps)
        by_name: defaultdict[str, list[Predictions]] = defaultdict(list)
        shown = []
        for answer in self._answers(
            pieces, asked, units=np.arange(len(values)), values=values, question=question, at=at
        ):
            shown.append(len(answer.shown))
            null = null_readout(values[answer.shown], features=1, groups=len(found.groups))
            predicted = by_unit(asked, answer.of)
            one = Predictions(
                model=answer.model,
                groups=found.groups,
                subject=tuple(unit.subject for unit in held),
                truth=values_of(held),
                fold=np.zeros((1, len(held)), dtype=np.int64),
                predicted=np.stack([predicted[number] for number in range(len(held))])[None],
                null=null.predict(np.zeros((len(held), 1)))[None],
            )
            for protocol in answer.protocols:
                by_name[f"{protocol} {answer.model}"].append(one)
        return {name: Read(predictions=parts, shown=float(np.mean(shown))) for name, parts in by_name.items()}

    def _answers(
        self,
        learned: Sequence[Labelled],
        asked: Sequence[Labelled],
        *,
        units: npt.NDArray[np.int64],
        values: Floats,
        question: Question,
        at: tuple[str, str],
    ) -> Iterator[_Answer]:
        """Let each network learn with each seed from the labels that the seed draws, and ask it."""
        for seed in range(SEEDS):
            rng = np.random.default_rng([seed, self.fold])
            shown = drawn(values, AMOUNT, groups=question.groups, rng=rng)
            for model, protocols, network, mode in learners(self.predictor, seed=seed):
                started = time.process_time()
                predict = learn(network, learned, units[shown].tolist(), mode=mode, question=question, seed=seed)
                of = [predict(part) for part in asked]
                self.seconds[(*at, f"{model} {protocols[0]}")] += time.process_time() - started
                yield _Answer(model=model, protocols=protocols, seed=seed, shown=shown, of=of)

    def _states(self, windows: Windows, target: str) -> Labelled:
        """Windows of which all is in one state."""
        state, known = known_states(windows, target)
        kept = windows.take(np.flatnonzero(known))
        return Labelled(
            seen=seen_of(self.predictor, windows.view, kept.z),
            unit=np.arange(len(kept)),
            values=state[known].astype(np.float64)[:, None, None],
            counted=np.ones((len(kept), 1), dtype=np.bool_),
        )

    def _person(self, view: RecordingView, number: int, unit: Unit) -> Labelled:
        """Windows of a recording, evenly over it, which all have the value of whose it is."""
        windows = cut(view, view.roles.calibration, window_samples=self.window.window_samples)
        kept = windows.take(spread_rows(len(windows)))
        return Labelled(
            seen=seen_of(self.predictor, view, kept.z),
            unit=np.full(len(kept), number),
            values=np.full((len(kept), 1, 1), unit.value),
            counted=np.ones((len(kept), 1), dtype=np.bool_),
        )


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What one network says after it has learned."""

    model: str
    protocols: tuple[Protocol, ...]
    seed: int
    shown: Sequence[int]
    of: Sequence[Floats]
    """[window, place, column] of each recording asked."""

    def points(self, scores: Sequence[TileScores]) -> list[Point]:
        """Return scores as points of a curve."""
        return [
            Point(model=self.model, protocol=protocol, amount=AMOUNT, seed=self.seed, shown=len(self.shown), score=one)
            for protocol in self.protocols
            for one in scores
        ]
