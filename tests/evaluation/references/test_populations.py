"""NDT and LFADS find rates that are known, learn nothing from what is scored, and give the same bytes again."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.masked import reconstruct
from neurofm.evaluation.references import References
from neurofm.evaluation.references.lfads import LEARNING_RATE, Lfads, divergence
from neurofm.evaluation.references.populations import PopulationReference
from neurofm.evaluation.samples import cut, masks
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth
from neurofm.recording import Modality
from neurofm.windows import RecordingView, WindowSettings
from tests.evaluation.conftest import Roles, poison, view_of
from tests.evaluation.references.circle import tuned_units
from tests.evaluation.references.lorenz import UNITS, WINDOW, Floats, lorenz_spikes
from tests.evaluation.references.mouse import awake_mouse

SIZES = WindowSettings(window_samples=WINDOW, patch_samples=5)
SMOOTHING = (1.0, 2.0, 3.0, 4.0, 6.0)
TRAINED = ("train", "validation", "test")
NAMES = ["ndt", "lfads"]
STEPS = [("ndt", 40), ("lfads", 60)]


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


@pytest.mark.long
def test_a_direction_that_jumps_needs_inputs(settings: EvaluateSettings) -> None:
    """Three jumps in a window are too many to foretell from its start."""
    view = tuned_units(jumps=0.06)
    test = cut(view, view.roles.test, window_samples=WINDOW)
    explained = {}
    for inputs in (0, 2):
        made = PopulationReference(
            "lfads",
            build=partial(Lfads, inputs=inputs),
            steps=100,
            learning_rate=LEARNING_RATE,
            settings=settings,
            window_samples=WINDOW,
            readout_gain=1.0,
        )
        made.fit([view])
        missed = (test.z - reconstruct(made, test, settings=settings)) ** 2
        explained[inputs] = 1 - missed.sum() / ((test.z - test.z.mean(axis=(0, 1))) ** 2).sum()
    assert explained[2] > explained[0] + 0.1, explained


def test_divergence_of_inputs_is_from_a_process_that_drifts() -> None:
    torch.manual_seed(0)
    mean, log_sd, expected, log_variance = torch.randn(4, 7)
    found = divergence(mean, log_sd, expected=expected, log_variance=log_variance)
    prior = Normal(expected, (0.5 * log_variance).exp())
    torch.testing.assert_close(found, kl_divergence(Normal(mean, log_sd.exp()), prior))

    controller = Lfads(3, samples=5, inputs=1).controller
    assert controller is not None
    # What was drawn fades by exp(-1 / 10) from bin to bin; the posterior that is this prior costs nothing.
    drawn = torch.randn(2, 5, 1)
    kept = float(np.exp(-0.1))
    drifting = torch.cat([torch.zeros(2, 1, 1), kept * drawn[:, :-1]], dim=1)
    first, later = 0.5 * np.log(0.1 / (1 - kept**2)), 0.5 * np.log(0.1)
    sds = torch.tensor([first, *[later] * 4], dtype=torch.float32)[None, :, None].expand(2, 5, 1)
    assert controller.divergence(drifting, sds, drawn=drawn).item() == pytest.approx(0, abs=1e-4)
    assert controller.divergence(-drifting, sds, drawn=drawn).item() > 1


def test_channels_that_are_of_no_use_do_not_scale_what_is_seen(settings: EvaluateSettings) -> None:
    """In training they are hidden no more often than others, so that prediction counts none of them as hidden."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, size=(12 * WINDOW, 6)).astype(np.float64)
    counts[:, 3:] = 0.0
    view = view_of(counts, modality=Modality.SPIKES, train=[(0, 8 * WINDOW)], validation=[(8 * WINDOW, 12 * WINDOW)])
    assert view.usable.sum() == 3
    told: list[torch.Tensor] = []

    class Listener(torch.nn.Module):
        def __init__(self, channels: int, *, samples: int) -> None:
            super().__init__()
            self.readout = torch.nn.Linear(channels, channels)

        def forward(self, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            told.append(visible)
            return self.readout(visible), visible.new_zeros(())

    made = PopulationReference(
        "listener", build=Listener, steps=1, learning_rate=0.1, settings=settings, window_samples=WINDOW
    )
    made.fit([view])
    seen = np.ones((1, WINDOW, 2), dtype=np.float32)
    made.predict(view, seen, np.array([0, 1]), np.array([2]))
    # 5 of 6 channels are not hidden.
    np.testing.assert_allclose(told[-1][0, 0].numpy(), [1.2, 1.2, 0, 0, 0, 0], rtol=1e-6)


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


@pytest.mark.parametrize(("name", "steps"), [("ndt", 4), pytest.param("lfads", 60, marks=pytest.mark.long)])
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
