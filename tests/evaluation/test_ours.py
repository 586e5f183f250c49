"""Ours looks at no unit that seldom fires, and keeps less of what too little calibration makes too large."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurofm.evaluation.ours import Neurofm
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView
from tests.evaluation.conftest import WINDOW, poison, view_of


class _Loud:
    """Predicts the mean of what is visible, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.seen: set[int] = set()
        self.asked = 0
        sized = SimpleNamespace(of=lambda _: SimpleNamespace(window_samples=WINDOW))
        self.checkpoint = SimpleNamespace(windows=sized)

    def prepare(self, view: RecordingView) -> None:
        """Nothing to describe."""

    def predict(
        self, _view: RecordingView, visible: npt.NDArray[Any], seen: npt.NDArray[Any], hidden: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        self.asked += 1
        self.seen |= set(seen.tolist())
        mean = visible.mean(axis=-1, keepdims=True).astype(np.float64)
        return self.factor * np.repeat(mean, len(hidden), axis=-1)


def _stranger() -> RecordingView:
    rng = np.random.default_rng(5)
    drive = rng.normal(size=(1000, 1))
    counts = rng.poisson(np.exp(0.7 * drive - 0.5) * np.ones(9)).astype(np.float64)
    counts[:, 8] = 0
    counts[[3, 40, 70, 650], 8] = 5
    return view_of(counts, modality=Modality.SPIKES, kind="subject", calibration=[(0, 600)], test=[(620, 1000)])


def _fitted(factor: float, view: RecordingView, settings: EvaluateSettings) -> tuple[Neurofm, _Loud]:
    loud = _Loud(factor)
    ours = Neurofm(cast("Predictor", loud), settings=settings)
    ours.fit([view])
    return ours, loud


def test_how_much_is_kept_follows_from_calibration_alone(settings: EvaluateSettings) -> None:
    view = _stranger()
    fair, once = _fitted(0.5, view, settings)
    loud, _ = _fitted(4.0, view, settings)
    assert fair.shares[view.name] == 1
    assert loud.shares[view.name] <= 0.25
    assert _fitted(4.0, poison(view), settings)[0].shares == loud.shares
    assert once.asked == settings.mask_groups  # Every share scales the same prediction.


def test_a_unit_of_a_few_spikes_is_predicted_and_not_looked_at(settings: EvaluateSettings) -> None:
    view = _stranger()
    assert view.usable[8]
    ours, loud = _fitted(1.0, view, settings)
    everyone = np.arange(9)
    predicted = ours.predict(view, np.ones((2, WINDOW, 8), dtype=np.float32), everyone[1:], everyone[:1])
    assert predicted.shape == (2, WINDOW, 1)
    assert loud.seen == set(range(8))
