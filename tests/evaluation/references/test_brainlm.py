"""BrainLM's autoencoder nears what can be known of parcels and patches, and learns nothing from what is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.evaluation.masked import reconstruct
from neurofm.evaluation.references.brainlm import BrainLMReference
from neurofm.evaluation.samples import cut, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.windows import RecordingView
from tests.evaluation.conftest import poison
from tests.evaluation.pixar import people
from tests.evaluation.references.parcels import PARCELS, PATCH, WINDOW, smooth_parcels

Floats = npt.NDArray[np.float64]


def _trained(views: list[RecordingView], settings: EvaluateSettings, *, steps: int) -> BrainLMReference:
    made = BrainLMReference(steps=steps, settings=settings, window_samples=WINDOW, patch_samples=PATCH)
    made.fit(views)
    return made


def _explained(truth: Floats, predicted: Floats) -> float:
    return float(1 - ((truth - predicted) ** 2).sum() / (truth**2).sum())


@pytest.mark.parametrize(
    ("steps", "share", "patches"), [(60, 0.3, 0.1), pytest.param(600, 0.8, 0.4, marks=pytest.mark.long)]
)
def test_parcels_of_known_covariance_are_filled_in(
    steps: int, share: float, patches: float, settings: EvaluateSettings
) -> None:
    """Of whole parcels a Gaussian that knows their covariance explains 0.67, which no other can exceed by much."""
    views, covariance = smooth_parcels()
    made = _trained(views, settings, steps=steps)
    tests = [cut(view, view.roles.test, window_samples=WINDOW) for view in views if view.roles.test]
    truth = np.concatenate([test.z for test in tests]).astype(np.float64)
    known = np.zeros_like(truth)
    for visible, asked in masks(views[0], settings):
        weights = np.linalg.solve(covariance[np.ix_(visible, visible)], covariance[np.ix_(visible, asked)])
        known[..., asked] = truth[..., visible] @ weights
    predicted = np.concatenate([reconstruct(made, test, settings=settings) for test in tests])
    assert _explained(truth, predicted) > share * _explained(truth, known)
    shown = np.random.default_rng(0).random((len(truth), WINDOW // PATCH, PARCELS)) > 0.5
    hidden = ~np.repeat(shown, PATCH, axis=1)
    filled = _filled(made, views[0], truth, shown)
    assert _explained(truth[hidden], filled[hidden]) > max(patches, _explained(truth[hidden], _joined(truth, hidden)))


def _filled(made: BrainLMReference, view: RecordingView, truth: Floats, shown: npt.NDArray[np.bool_]) -> Floats:
    hidden = ~np.repeat(shown, PATCH, axis=1)
    z, valid = truth.astype(np.float32), np.ones(truth.shape[:2], dtype=np.bool_)
    filled = made.fill(view, np.where(hidden, np.float32(0), z), shown, valid)
    np.testing.assert_array_equal(filled[~hidden], z[~hidden])
    # What is hidden is not read.
    assert made.fill(view, np.where(hidden, np.float32(7), z), shown, valid).tobytes() == filled.tobytes()
    return filled


def _joined(truth: Floats, hidden: npt.NDArray[np.bool_]) -> Floats:
    """Join what is visible of each parcel by straight lines; the mean where nothing is. Returns the hidden samples."""
    joined, time = np.zeros_like(truth), np.arange(truth.shape[1])
    for window, parcel in np.argwhere(~hidden.all(axis=1)):
        seen = ~hidden[window, :, parcel]
        joined[window, :, parcel] = np.interp(time, time[seen], truth[window, seen, parcel])
    return joined[hidden]


def test_training_is_blind_to_what_is_scored_and_gives_the_same_bytes(
    settings: EvaluateSettings, shared_data: Path
) -> None:
    views, _ = people(shared_data, each=3)
    changed = [poison(view) for view in views]
    view = next(view for view in views if view.roles.test)
    visible, hidden = masks(view, settings)[0]
    seen = np.random.default_rng(0).normal(size=(2, WINDOW, len(visible))).astype(np.float32)
    found = [
        _trained(some, settings, steps=2).predict(view, seen, visible, hidden).tobytes()
        for some in (views, changed, views[2:])
    ]
    assert found[0] == found[1] != found[2]
