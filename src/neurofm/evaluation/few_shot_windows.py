"""Few-shot curves of windows: targets that are decoded from patches, and states that windows are classified by.

What is labelled is a window, of the train segments; where a target is decoded, all of its patches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.classification import (
    Encode,
    band_power,
    has_both_states,
    labelled_windows,
    latent_statistics,
    log_power,
    state_scores,
)
from neurofm.evaluation.decoding import averaged_signal, target_patches
from neurofm.evaluation.few_shot import Amount, amounts_of, drawn
from neurofm.evaluation.few_shot_row import SCRATCH
from neurofm.evaluation.protocols import PROTOCOLS, Protocol, fit_protocol
from neurofm.evaluation.samples import Windows, cut, learning_windows
from neurofm.evaluation.scores import Floats, TileScores, squares
from neurofm.recording import Modality
from neurofm.windows import RecordingView

_Made = TypeVar("_Made")
Key = tuple[str, str, str, Protocol, Amount, str]
"""Dataset, task, metric, protocol, amount and model."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one model scored with one protocol and one amount of labels, in one fold and with one seed."""

    model: str
    protocol: Protocol
    amount: Amount
    seed: int
    shown: int
    """Windows."""
    score: TileScores


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """Frozen networks whose features are read out."""

    pretrained: Mapping[str, Encode]
    """By the model's name."""
    scratch: Sequence[Encode]
    """[seed] of `SCRATCH`."""

    def each(self, make: Callable[[Encode], _Made]) -> dict[str, list[_Made]]:
        """Make something of each model: [seed] of it, once where it knows of no seed."""
        made = {name: [make(encode)] * len(self.scratch) for name, encode in self.pretrained.items()}
        return {**made, SCRATCH: [make(encode) for encode in self.scratch]}


def decoding_points(
    view: RecordingView,
    target: str,
    *,
    encoders: Encoders,
    window_samples: int,
    patch_samples: int,
    fold: int,
) -> list[Point]:
    """Decode a target of a recording that is split in time, with few to all of its windows labelled.

    Parameters
    ----------
    view, target
        The recording, and one of its targets.
    encoders
        Networks.
    window_samples, patch_samples
        A patch gives one decoded value.
    fold
        Its number; it and the seed decide what is labelled.
    """
    (fit,), _ = learning_windows([view], window_samples=window_samples)
    test = cut(view, view.roles.test, window_samples=window_samples)
    known, truth = (target_patches(part, target, patch_samples=patch_samples) for part in (fit, test))
    window, _ = np.nonzero(known.counted)
    labelled = np.unique(window)
    if len(labelled) < 2 or not truth.counted.any():
        return []

    def features(of: Callable[[Windows], npt.NDArray[np.floating]]) -> tuple[Floats, Floats]:
        return of(fit).astype(np.float64)[known.counted], of(test).astype(np.float64)

    plain = partial(averaged_signal, sd_samples=0.0, patch_samples=patch_samples)
    name = "counts" if view.modality is Modality.SPIKES else "signal"
    models = {
        name: [features(plain)] * len(encoders.scratch),
        **encoders.each(lambda encode: features(lambda part: encode(part.view, part.z))),
    }
    values = known.values[known.counted]
    points = []
    for model, protocol, amount, seed in _asked(models, groups=0):
        learned, asked = models[model][seed]
        rng = np.random.default_rng([seed, fold])
        chosen = labelled[drawn(labelled.astype(np.float64), amount, groups=0, rng=rng)]
        rows = np.isin(window, chosen)
        predict = fit_protocol(
            protocol,
            learned[rows],
            values[rows],
            units=[str(one) for one in window[rows]],
            groups=0,
            unlabelled=learned,
        )
        predicted = predict(asked.reshape(-1, asked.shape[-1])).reshape(truth.values.shape)
        gain, total = squares(truth.values, predicted, truth.counted)
        score = TileScores(
            roles=view.roles, task=f"decoding:{target}", metric="R2", model=model, gain=gain, total=total
        )
        points.append(Point(model=model, protocol=protocol, amount=amount, seed=seed, shown=len(chosen), score=score))
    return points


def classification_points(
    views: Sequence[RecordingView], target: str, *, encoders: Encoders, window_samples: int, fold: int
) -> list[Point]:
    """Classify the windows of recordings of a channel set by a state, with few to all training windows labelled."""
    taken = [view for view in views if target in view.targets]
    tests = [cut(view, view.roles.test, window_samples=window_samples) for view in taken]
    tests = [test for test in tests if has_both_states(test, target)]
    if not tests or not any(view.roles.train for view in taken):
        return []
    fit, _ = learning_windows([view for view in taken if view.roles.train], window_samples=window_samples)
    make = [partial(labelled_windows, fit, target), *(partial(labelled_windows, [test], target) for test in tests)]
    first = make[0](log_power)
    if not first.has_both:
        return []
    plain = {"power": log_power} | (
        {"band_power": band_power} if taken[0].modality in (Modality.EEG, Modality.MEG) else {}
    )
    models = {name: [[one(of).features for one in make]] * len(encoders.scratch) for name, of in plain.items()}
    models |= encoders.each(
        lambda encode: [one(lambda part: latent_statistics(encode(part.view, part.z))).features for one in make]
    )
    truths = [one(log_power) for one in make[1:]]
    values = first.state.astype(np.float64)
    points: list[Point] = []
    for model, protocol, amount, seed in _asked(models, groups=2):
        learned, *asked = models[model][seed]
        shown = drawn(values, amount, groups=2, rng=np.random.default_rng([seed, fold]))
        predict = fit_protocol(
            protocol,
            learned[shown],
            values[shown],
            units=[str(row) for row in shown],
            groups=2,
            unlabelled=learned,
        )
        for test, truth, features in zip(tests, truths, asked, strict=True):
            probability = predict(features)[:, 1]
            points.extend(
                Point(model=model, protocol=protocol, amount=amount, seed=seed, shown=len(shown), score=score)
                for score in state_scores(test, truth, probability, task=f"classification:{target}", model=model)
            )
    return points


def _asked(models: Mapping[str, Sequence[object]], *, groups: int) -> Iterator[tuple[str, Protocol, Amount, int]]:
    for model, seeds in models.items():
        for protocol in PROTOCOLS:
            for amount in amounts_of(groups):
                # With all labels and the same features every seed says the same.
                different = 1 if amount.is_all and seeds[0] is seeds[-1] else len(seeds)
                for seed in range(different):
                    yield model, protocol, amount, seed


def by_curve(points: Sequence[Point]) -> dict[Key, list[list[Point]]]:
    """Sort points by dataset, task, metric, protocol, amount and model: [seed][fold and recording]."""
    found: defaultdict[Key, defaultdict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        score = point.score
        key = (score.roles.dataset, score.task, score.metric, point.protocol, point.amount, point.model)
        found[key][point.seed].append(point)
    most = max((len(seeds) for seeds in found.values()), default=0)
    # What was computed once, since no seed makes a difference, stands for each of them.
    return {
        key: [seeds[seed] for seed in sorted(seeds)] * (most if len(seeds) == 1 else 1) for key, seeds in found.items()
    }
