"""What follows is foretold from what was, and from nothing else: of latents with known rates, noise, and a mouse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neurofm.errors import UserError
from neurofm.evaluation.baselines.forecasts import OwnAutoregression, forecasts_for, looked_at
from neurofm.evaluation.forward import OurForecast, cut_forward, foretell_set, learning_forward
from neurofm.evaluation.scoreboard import make_rows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.model.forecast import shrunk_mean, stretches
from neurofm.recording import Modality
from neurofm.training.forecasts import learning_starts
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.settings import WindowSettings
from tests.evaluation.conftest import SETTINGS, Roles, poison, view_of
from tests.evaluation.references.mouse import awake_mouse
from tests.evaluation.test_evaluate import PRETRAIN

LENGTH, CHANNELS = 6000, 12
WINDOW = WindowSettings(window_samples=40, patch_samples=5)
Floats = npt.NDArray[np.float64]
SPANS: Roles = {"train": [(0, 4000)], "validation": [(4000, 5000)], "test": [(5000, 6000)]}
MODELS = ["autoregression", "autoregression_own", "neurofm-core", "null", "recent_mean"]
CHOSEN = EvaluateSettings.parse(SETTINGS | {"forward_patches": 1}, where="", mend="")


def log_rates(*, latents: int) -> npt.NDArray[np.float64]:
    """[time, channel] of slow latents shared by all units."""
    rng = np.random.default_rng(5)
    x = np.zeros((LENGTH, latents))
    for t in range(1, LENGTH):
        x[t] = 0.97 * x[t - 1] + np.sqrt(1 - 0.97**2) * rng.standard_normal(latents)
    rates: npt.NDArray[np.float64] = np.log(0.3) + 0.8 * x @ rng.standard_normal((latents, CHANNELS)) / np.sqrt(latents)
    return rates


@pytest.fixture(scope="module")
def shared() -> RecordingView:
    counts = np.random.default_rng(6).poisson(np.exp(log_rates(latents=2))).astype(float)
    return view_of(counts, modality=Modality.SPIKES, **SPANS)


@pytest.fixture(scope="module")
def predictor(shared: RecordingView, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """An untrained network; forecasts need none."""
    at = tmp_path_factory.mktemp("forward")
    sections = {str(m): WINDOW.model_dump() for m in Modality}
    pretrain(
        [shared],
        settings=PRETRAIN.model_copy(update={"steps": 0, "validation_windows": 1}),
        windows=WindowsSettings.parse(sections, where="", mend=""),
        fold=0,
        run_dir=at / "run",
        out_dir=at / "out",
    )
    return Predictor.load(at / "out", strict=False)


def values_of(view: RecordingView, predictor: Predictor, metric: str = "bits_per_spike") -> dict[str, float]:
    scores, seconds = foretell_set([view], predictor, settings=CHOSEN, window=WINDOW)
    assert set(seconds) == {(view.dataset, "hidden_forward", model) for model in MODELS}
    rows = make_rows(scores, folds=1, settings=CHOSEN)
    return {row.model: row.value for row in rows if row.metric == metric}


def test_rivals_look_at_the_units_that_ours_does() -> None:
    """A spike counts once, however many of the windows that are learned from it lies in."""
    counts = np.random.default_rng(7).poisson(0.3, size=(LENGTH, 3)).astype(float)
    counts[:, 0] = 0.0
    counts[100:4000:260, 0] = 1.0
    view = view_of(counts, modality=Modality.SPIKES, **SPANS)
    fit, _, _ = learning_forward(view, window=WINDOW, future=5)
    assert looked_at(fit).tolist() == [False, True, True]
    assert view.usable.all()


def test_shared_latents_are_foretold(shared: RecordingView, predictor: Predictor) -> None:
    values = values_of(shared, predictor)
    assert sorted(values) == MODELS
    assert values["null"] == 0
    assert min(values["autoregression"], values["recent_mean"]) > 0.05
    assert values["autoregression_own"] > values["autoregression"] - 0.02
    assert values["neurofm-core"] > values["recent_mean"] + 0.02
    # What who knows the rates of the whole future would reach.
    test = cut_forward(shared, shared.roles.test, window=WINDOW, future=5, stride=40)
    rates = np.stack([np.exp(log_rates(latents=2))[start + 35 : start + 40] for start in test.start])
    counts, mean = test.values()[:, -5:], shared.normaliser.mean
    known = float(np.sum(counts * np.log(rates / mean) - (rates - mean)) / np.log(2) / counts.sum())
    assert 0.4 * known < values["neurofm-core"] < known


def test_of_noise_nothing_is_foretold(predictor: Predictor) -> None:
    counts = np.random.default_rng(7).poisson(0.3, size=(LENGTH, CHANNELS)).astype(float)
    values = values_of(view_of(counts, modality=Modality.SPIKES, name="noise", **SPANS), predictor)
    assert max(abs(value) for value in values.values()) < 0.02


def test_calcium_is_scored_by_its_variance(predictor: Predictor) -> None:
    rng = np.random.default_rng(8)
    traces = log_rates(latents=2) + 0.3 * rng.standard_normal((LENGTH, CHANNELS))
    values = values_of(view_of(traces, modality=Modality.CALCIUM, **SPANS), predictor, "R2")
    assert values["neurofm-core"] > max(values["recent_mean"], 0.5)
    assert values["null"] <= 0


def test_what_only_a_channels_own_past_tells_is_foretold_by_a_rival_too(predictor: Predictor) -> None:
    """Half of the channels are slow and half go up and down, each by itself, so that few components say little."""
    rng = np.random.default_rng(9)
    x = rng.standard_normal((LENGTH, CHANNELS))
    turn = np.where(np.arange(CHANNELS) < CHANNELS // 2, 0.97, -0.97)
    for t in range(1, LENGTH):
        x[t] = turn * x[t - 1] + np.sqrt(1 - turn**2) * x[t]
    view = view_of(x, modality=Modality.CALCIUM, name="own", **SPANS)
    values = values_of(view, predictor, "R2")
    # Who knows the process reaches the mean of .97 ** 2, 4, 6, 8 and 10.
    assert 0.75 < values["autoregression_own"] < 0.9
    assert values["autoregression_own"] > max(values["autoregression"], values["recent_mean"]) + 0.2


def test_components_are_partialled_out_as_in_one_table_of_all_predictors(shared: RecordingView) -> None:
    fit, tuning, _ = learning_forward(shared, window=WINDOW, future=5)
    own = OwnAutoregression(CHOSEN)
    # Of equals the first is chosen: one component, and the least penalties.
    own.fit(fit, tuning, fit, future=5, judge=lambda one: 1.0)
    known, later = fit.z[:, :-5].astype(np.float64), fit.z[:, -5:].astype(np.float64)
    past, mean = stretches(torch.from_numpy(known)).numpy(), shrunk_mean(torch.from_numpy(later)).numpy()
    flat = known.reshape(-1, CHANNELS)
    component = past @ np.linalg.eigh(flat.T @ flat)[1][:, -1]
    lags, least = past.shape[1], CHOSEN.ridge_penalties[0]
    # [channel and window, channel and lag]: the component's past, and what weighs as much in all channels or in one.
    of_component = np.kron(np.eye(CHANNELS), component)
    of_all = past.transpose(2, 0, 1).reshape(-1, lags)
    of_one = np.concatenate([np.kron(np.eye(CHANNELS)[:, [c]], past[..., c]) for c in range(CHANNELS)], axis=1)
    penalties = [least * np.square(one).sum() / one.shape[1] for one in (of_component, of_one)]

    def solved(others: Floats, penalty: float, targets: Floats) -> tuple[Floats, Floats]:
        table = np.concatenate([of_component, others], axis=1)
        amount = np.repeat([penalties[0], penalty], [of_component.shape[1], others.shape[1]])
        weights = np.linalg.solve(table.T @ table + np.diag(amount), table.T @ targets)
        return table @ weights, weights[of_component.shape[1] :]

    targets = (later - mean).transpose(2, 0, 1).reshape(len(of_all), -1)
    common = of_all @ solved(of_all, 0.0, targets)[1]
    expected = common + solved(of_one, penalties[1], targets - common)[0]
    expected = expected.reshape(CHANNELS, len(past), -1).transpose(1, 2, 0) + mean
    np.testing.assert_allclose(own.predict(fit.z[:, :-5]), expected, atol=1e-4)


def test_what_is_hidden_or_scored_changes_nothing(shared: RecordingView, predictor: Predictor) -> None:
    other = poison(shared)
    predicted = []
    for view, model in ((shared, predictor), (other, Predictor(predictor.checkpoint, strict=False))):
        fit, tuning, everything = learning_forward(view, window=WINDOW, future=5)
        test = cut_forward(shared, shared.roles.test, window=WINDOW, future=5, stride=40)
        # The hidden end of every window is another one, the past is that of the recording.
        z = test.z.copy()
        if view is other:
            z[:, -5:] = 100.0
        for forecaster in (*forecasts_for(CHOSEN), OurForecast(model, view)):
            forecaster.fit(fit, tuning, everything, future=5, judge=lambda one: -float(np.square(one).sum()))
            predicted.append(forecaster.predict(z[:, :-5]))
    half = len(predicted) // 2
    for once, again in zip(predicted[:half], predicted[half:], strict=True):
        np.testing.assert_array_equal(once, again)
    assert np.ptp(predicted[half - 1]) > 0


def test_scores_read_no_more_than_windows_say(shared: RecordingView, predictor: Predictor) -> None:
    """Poisoned, the future is scored anew, so that nobody scores what they were given."""
    scores = foretell_set([shared], predictor, settings=CHOSEN, window=WINDOW)[0]
    again = foretell_set([poison(shared)], predictor, settings=CHOSEN, window=WINDOW)[0]
    assert any((one.gain != two.gain).any() for one, two in zip(scores, again, strict=True))


def test_of_trials_the_end_is_foretold(shared: RecordingView) -> None:
    valid = np.arange(LENGTH) % 60 < 20  # Trials of 20 samples with gaps of 40.
    view = replace(shared, valid=valid)
    test = cut_forward(view, view.roles.test, window=WINDOW, future=10, stride=40)
    assert len(test) > 10
    assert set((test.start + 40) % 60) == {20}
    assert all(valid[start + 20 : start + 40].all() for start in test.start)
    assert len(cut_forward(view, view.roles.test, window=WINDOW, future=15, stride=40)) == 0


def test_large_populations_are_learned_from_fewer_windows(
    shared: RecordingView, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"window_samples": 40, "future": 5, "stride": 5}
    every = learning_starts(shared, shared.roles.train, **size)
    monkeypatch.setattr("neurofm.training.forecasts.MOST_VALUES", 40 * CHANNELS * 100)
    some = learning_starts(shared, shared.roles.train, **size)
    assert len(every) > 700
    assert 50 < len(some) <= 100
    assert set(some) < set(every)


def test_off_and_other_modalities_give_nothing(shared: RecordingView, predictor: Predictor) -> None:
    off = CHOSEN.model_copy(update={"forward_patches": 0})
    assert foretell_set([shared], predictor, settings=off, window=WINDOW) == ([], {})
    eeg = view_of(log_rates(latents=2), modality=Modality.EEG, **SPANS)
    assert foretell_set([eeg], predictor, settings=CHOSEN, window=WINDOW) == ([], {})
    too_much = CHOSEN.model_copy(update={"forward_patches": 5})
    with pytest.raises(UserError, match="5 of the 8 patches") as refused:
        foretell_set([shared], predictor, settings=too_much, window=WINDOW)
    assert "half of a window" in str(refused.value.mend)


def test_too_few_windows_are_foretold_as_the_mean(shared: RecordingView, predictor: Predictor) -> None:
    short = replace(shared, roles=shared.roles.model_copy(update={"calibration": ()}), recording="short")
    foretold = predictor.predict_forward(short, shared.z(5000, 5035)[None], future=5)
    # The bend that keeps rates positive lifts them a little.
    assert np.abs(foretold * shared.normaliser.sd / shared.normaliser.mean).max() < 0.01
    assert torch.isfinite(torch.from_numpy(foretold)).all()


def test_a_real_mouse_is_foretold(shared_data: Path, predictor: Predictor) -> None:
    values = values_of(awake_mouse(shared_data), predictor)
    assert values["neurofm-core"] > values["autoregression"] > 0.5
    assert values["autoregression_own"] > values["autoregression"]
    # It turns its head slowly: of the next 100 ms what it did of late says as much (1.431 against 1.446).
    assert values["neurofm-core"] > values["recent_mean"] - 0.05
