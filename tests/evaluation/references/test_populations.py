"""NDT and LFADS find rates that are known, learn nothing from what is scored, and give the same bytes again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.masked import reconstruct
from neurofm.evaluation.references import References
from neurofm.evaluation.samples import cut, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.recording import Modality
from neurofm.windows import RecordingView, WindowSettings
from tests.evaluation.conftest import Roles, poison, view_of
from tests.evaluation.references.lorenz import UNITS, WINDOW, Floats, lorenz_spikes
from tests.evaluation.references.mouse import awake_mouse

SIZES = WindowSettings(window_samples=WINDOW, patch_samples=5)
SMOOTHING = (1.0, 2.0, 3.0, 4.0, 6.0)
TRAINED = ("train", "validation", "test")
NAMES = ["ndt", "lfads"]
STEPS = [("ndt", 40), pytest.param("lfads", 150, marks=pytest.mark.long)]
"""LFADS starts slowly: in fewer steps validation keeps the untrained network, which knows the mean rates."""


def _made(name: str, view: RecordingView, settings: EvaluateSettings, *, steps: int) -> Estimator:
    chosen = settings.model_copy(update={"references": {name: steps}})
    (made,) = References.of([view], settings=chosen, window=SIZES).estimators
    made.fit([view])
    return made


def _explained(view: RecordingView, rates: Floats, predicted: Floats) -> float:
    """R2 of [window, time, unit] rates, averaged over units."""
    test = cut(view, view.roles.test, window_samples=WINDOW)
    truth = np.stack([rates[start : start + WINDOW] for start in test.start.tolist()])
    error = ((truth - predicted) ** 2).sum(axis=(0, 1))
    return float(np.mean(1 - error / ((truth - truth.mean(axis=(0, 1))) ** 2).sum(axis=(0, 1))))


@pytest.mark.long
@pytest.mark.parametrize(("name", "steps", "ahead"), [("ndt", 400, 0.15), ("lfads", 300, 0.3)])
def test_rates_of_a_lorenz_system_are_recovered(
    name: str, steps: int, ahead: float, settings: EvaluateSettings
) -> None:
    """Smoothing reaches 0.53 of the variance of the rates; NDT 0.77 and LFADS 0.91 in these few steps."""
    view, rates = lorenz_spikes()
    made = _made(name, view, settings, steps=steps)
    test = cut(view, view.roles.test, window_samples=WINDOW)
    counts = test.values().astype(np.float64)
    smoothed = max(_explained(view, rates, smooth(counts, sd_samples=sd)) for sd in SMOOTHING)
    every = np.arange(UNITS)
    normaliser = view.normaliser
    found = normaliser.rate(made.predict(view, test.z, every, every), every)
    assert _explained(view, rates, found) > smoothed + ahead
    # And those of units that it does not see, which is what the scoreboard asks for.
    unseen = normaliser.rate(reconstruct(made, test, settings=settings), every)
    assert _explained(view, rates, unseen) > smoothed


@pytest.mark.parametrize(("name", "steps"), STEPS)
def test_units_of_a_mouse_are_predicted_above_their_mean(
    name: str, steps: int, settings: EvaluateSettings, shared_data: Path
) -> None:
    view = awake_mouse(shared_data)
    made = _made(name, view, settings, steps=steps)
    test = cut(view, view.roles.test, window_samples=WINDOW)
    error = (test.z - reconstruct(made, test, settings=settings))[test.counted][:, view.usable]
    null = test.z[test.counted][:, view.usable]
    assert (error**2).sum() < 0.98 * ((null - null.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize(("name", "steps"), [("ndt", 4), pytest.param("lfads", 100, marks=pytest.mark.long)])
def test_training_is_blind_to_what_is_scored_and_gives_the_same_bytes(
    name: str, steps: int, settings: EvaluateSettings, shared_data: Path
) -> None:
    view = awake_mouse(shared_data)
    changed = poison(view)
    assert (changed.stored[:] != view.stored[:]).any()
    first, second = (_made(name, one, settings, steps=steps) for one in (view, changed))
    visible, hidden = masks(view, settings)[0]
    seen = np.random.default_rng(0).normal(size=(3, WINDOW, len(visible))).astype(np.float32)
    found = first.predict(view, seen, visible, hidden)
    assert found.tobytes() == second.predict(changed, seen, visible, hidden).tobytes()
    longer = _made(name, view, settings, steps=steps + 20).predict(view, seen, visible, hidden)
    assert found.tobytes() != longer.tobytes()


def test_calcium_is_predicted_as_a_mean(settings: EvaluateSettings, shared_data: Path) -> None:
    """A2929's counts, smoothed as slowly as calcium, stand for a signal that falls below its mean."""
    mouse = awake_mouse(shared_data)
    counts = mouse.values(0, len(mouse.valid)).astype(np.float64).reshape(-1, 10 * WINDOW, len(mouse.channel_ids))
    slow = smooth(counts, sd_samples=10.0).reshape(len(mouse.valid), -1)
    roles: Roles = {role: [(part[0].start, part[0].stop)] for role, part in mouse.roles if role in TRAINED}
    view = view_of(slow, modality=Modality.CALCIUM, **roles)
    made = _made("ndt", view, settings, steps=40)
    test = cut(view, view.roles.test, window_samples=WINDOW)
    found = reconstruct(made, test, settings=settings)
    assert ((test.z - found) ** 2).sum() < 0.95 * (test.z**2).sum()
    assert (found < -0.1).any()


def _names(view: RecordingView, settings: EvaluateSettings) -> dict[str, list[str]]:
    made = References.of([view], settings=settings, window=SIZES)
    return {field.name: [one.name for one in getattr(made, field.name)] for field in fields(made)}


def test_no_reference_is_trained_unless_it_is_asked_for_there(settings: EvaluateSettings) -> None:
    spikes, fmri = (
        view_of(np.ones((9, 4)), modality=modality, train=[(0, 9)]) for modality in (Modality.SPIKES, Modality.FMRI)
    )
    none: dict[str, list[str]] = {field.name: [] for field in fields(References)}
    asked = settings.model_copy(update={"references": dict.fromkeys(["brainlm", "poyo", "cebra", *NAMES], 1)})
    assert settings.references == {}
    assert _names(spikes, settings) == _names(fmri, settings) == none
    assert _names(spikes, asked) == none | {"estimators": NAMES, "embeddings": ["cebra"], "decoders": ["poyo"]}
    assert _names(fmri, asked) == none | {"estimators": ["brainlm"], "fillers": ["brainlm"], "embeddings": ["cebra"]}
    elsewhere = asked.model_copy(update={"references_in": (fmri.dataset,)})
    assert _names(spikes, elsewhere) == none
    assert _names(fmri, elsewhere) == _names(fmri, asked)
