"""Windows with few labels: all models see the same ones, and a network that knows more is ahead of one from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.classification import Encode
from neurofm.evaluation.few_shot_row import SCRATCH
from neurofm.evaluation.few_shot_task import FewShotTask
from neurofm.evaluation.few_shot_windows import Encoders, by_curve, classification_points, decoding_points
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView
from tests.evaluation.conftest import SETTINGS, WINDOW, view_of

PATCH, SEEDS = 5, 3


def _view(*, swap: bool = False) -> RecordingView:
    """Units tuned to a direction that turns slowly; eyes are closed where it points up."""
    rng = np.random.default_rng(0)
    angle = np.cumsum(0.08 * rng.normal(size=7000))
    drive = np.cos(angle[:, None] - np.linspace(0, 2 * np.pi, 12, endpoint=False))
    counts = rng.poisson(np.exp(drive - 0.5)).astype(np.float64)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    if swap:
        direction[5020:] = direction[5020:][::-1]
    eyes = (direction[:, :1] > 0).astype(np.float32)
    return view_of(
        counts,
        modality=Modality.SPIKES,
        targets={"head_direction": direction, "eyes_closed": eyes},
        train=[(0, 4000)],
        validation=[(4020, 5000)],
        test=[(5020, 7000)],
    )


def _knows(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    averaged: npt.NDArray[np.float32] = z.reshape(len(z), WINDOW // PATCH, PATCH, -1).mean(axis=2)
    return averaged


def _knows_nothing(seed: int) -> Encode:
    def encode(view: RecordingView, z: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.random.default_rng(seed).normal(size=(len(z), WINDOW // PATCH, 8)).astype(np.float32)

    return encode


ENCODERS = Encoders(pretrained={"neurofm": _knows}, scratch=[_knows_nothing(seed) for seed in range(SEEDS)])


@pytest.fixture(scope="module")
def task() -> FewShotTask:
    settings = EvaluateSettings.parse(SETTINGS, where="evaluate", mend="")
    made, view = FewShotTask(settings=settings, seeds=SEEDS), _view()
    sizes = {"encoders": ENCODERS, "window_samples": WINDOW, "fold": 0}
    made.points.extend(decoding_points(view, "head_direction", patch_samples=PATCH, **sizes))  # type: ignore[arg-type]
    made.points.extend(classification_points([view], "eyes_closed", **sizes))  # type: ignore[arg-type]
    return made


def test_what_is_known_is_ahead_of_scratch_with_the_same_labels(task: FewShotTask) -> None:
    rows = task.rows()
    found = {(row.task, row.model, row.protocol, row.labels): row for row in rows}
    for name, protocol in (("decoding:head_direction", "linear_probe"), ("classification:eyes_closed", "knn")):
        ours, rival = (found[name, model, protocol, "100 %"] for model in ("neurofm", SCRATCH))
        assert ours.difference_ci_low is not None
        assert ours.difference_ci_low > 0
        assert ours.difference_to_scratch == pytest.approx(ours.value - rival.value, abs=1e-4)
        assert rival.difference_to_scratch is None
        assert (ours.shown, ours.n, ours.seeds) == (rival.shown, rival.n, SEEDS)
        few = found[name, "neurofm", protocol, "1 %"]
        assert few.shown == 2
        assert few.value < ours.value
    # Examples per group are asked for where there are groups.
    assert {row.task for row in rows if row.examples} == {"classification:eyes_closed"}
    assert {row.model for row in rows} == {"neurofm", SCRATCH, "counts", "power"}


def test_seeds_draw_other_labels_and_all_labels_are_the_same(task: FewShotTask) -> None:
    def gains(labels: str) -> Sequence[npt.NDArray[np.float64]]:
        (seeds,) = (
            seeds
            for (_, name, _, protocol, amount, model), seeds in by_curve(task.points).items()
            if (name, protocol, amount.labels, model) == ("decoding:head_direction", "knn", labels, "neurofm")
        )
        return [points[0].score.gain for points in seeds]

    first, second, _ = gains("10 %")
    assert not np.array_equal(first, second)
    first, second, _ = gains("100 %")
    np.testing.assert_array_equal(first, second)


def test_labels_of_what_is_scored_are_not_learned_from(task: FewShotTask) -> None:
    swapped = decoding_points(
        _view(swap=True), "head_direction", encoders=ENCODERS, window_samples=WINDOW, patch_samples=PATCH, fold=0
    )
    # Errors follow the labels, predictions do not: nothing that is predicted finds the labels turned about.
    worse = [point for point in swapped if point.model == "neurofm" and point.amount.is_all]
    assert all(point.score.gain.sum() < 0.2 * point.score.total.sum() for point in worse)
