"""The cross-spectral core mixes spectra as it says, sees nothing hidden, and gains from a calibration span."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.cross_spectrum import (
    CrossSpectralCore,
    CrossSpectrumSettings,
    calibrate,
    lagged_covariance,
)
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums, spectra_of

WINDOW, LAGS, PATCH = 320, 64, 40
CHANNELS = 19
PRIOR = PriorSettings(lags=LAGS, fft_samples=384, shrinkage=0.02)
SETTINGS = CrossSpectrumSettings(lags=LAGS)
KINDS = ("patches", "channels", "block")


@dataclass(frozen=True)
class Run:
    z: Tensor
    """[time, CHANNELS] float64, the whole recording in the calibration's SDs."""
    window: Tensor
    """[WINDOW, CHANNELS], the last of it."""
    sums: LagSums
    """Of what is before it."""


@pytest.fixture(scope="module")
def runs(shared_data: Path) -> list[Run]:
    """Return rest of 8 subjects at 100 Hz, average reference."""
    import mne  # noqa: PLC0415

    found = []
    for file in sorted((shared_data / "eeg/eegmat").glob("*_1.edf"))[:8]:
        raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
        names = [name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name]
        x = resample_poly(raw.get_data(names) * 1e6, 1, 5, axis=1).T
        x = x - x.mean(axis=1, keepdims=True)
        z = torch.from_numpy((x - x[:-WINDOW].mean(axis=0)) / x[:-WINDOW].std(axis=0))
        found.append(Run(z=z, window=z[-WINDOW:], sums=_sums(z[:-WINDOW])))
    return found


def _sums(x: Tensor) -> LagSums:
    return lag_sums([x], valid=[torch.ones(len(x), dtype=torch.bool)], lags=LAGS, channels=x.shape[1])


def _prior(runs: list[Run]) -> StationaryPrior:
    total = LagSums.total([run.sums for run in runs], channels=runs[0].window.shape[1], lags=LAGS)
    return StationaryPrior.fit(total, settings=PRIOR)


def _cut(runs: list[Run], channels: Tensor) -> list[Run]:
    return [
        Run(
            z=run.z[:, channels],
            window=run.window[:, channels],
            sums=LagSums(pairs=run.sums.pairs, products=run.sums.products[:, channels][:, :, channels]),
        )
        for run in runs
    ]


@pytest.fixture(scope="module")
def prior(runs: list[Run]) -> StationaryPrior:
    """From all but the last two subjects."""
    return _prior(runs[:-2])


def _mask(kind: str, channels: int = CHANNELS) -> Tensor:
    """[1, WINDOW, channels] bool"""
    generator = torch.Generator().manual_seed(3)
    visible = torch.ones(WINDOW, channels, dtype=torch.bool)
    match kind:
        case "patches":
            visible = (torch.rand(WINDOW // PATCH, channels, generator=generator) > 0.5).repeat_interleave(PATCH, dim=0)
        case "channels":
            visible[:, torch.randperm(channels, generator=generator)[: channels // 3]] = False
        case "block":
            visible[160 : 160 + PATCH] = False
    return visible[None]


def _r2(filled: Tensor, truth: Tensor, visible: Tensor) -> float:
    return float(1 - (filled - truth)[~visible].square().sum() / truth[~visible].square().sum())


def test_calibration_lies_between_the_prior_and_the_recording(runs: list[Run], prior: StationaryPrior) -> None:
    own = StationaryPrior.fit(runs[-1].sums, settings=PRIOR)
    nothing_of_it = replace(SETTINGS, covariance_samples=1e12, spectrum_samples=1e12, gain_weight=1e12)
    alone = replace(SETTINGS, spectrum_samples=0.0)
    torch.testing.assert_close(calibrate(prior, runs[-1].sums, settings=nothing_of_it).spectra, prior.spectra)
    torch.testing.assert_close(calibrate(prior, runs[-1].sums, settings=alone).spectra, own.spectra)
    between = calibrate(prior, runs[-1].sums, settings=SETTINGS)
    assert between.own_samples == runs[-1].sums.pairs[0]
    assert (between.spectra - own.spectra).norm() < (prior.spectra - own.spectra).norm()
    assert torch.linalg.eigvalsh(between.spectra).min() > 0
    assert calibrate(prior, LagSums.zero(channels=CHANNELS, lags=LAGS), settings=SETTINGS) is prior


def test_lagged_covariances_are_means_over_pairs(runs: list[Run]) -> None:
    x = runs[0].window[:50, :3]
    found = lagged_covariance(x[None], lags=4)[0]
    for lag in range(5):
        torch.testing.assert_close(found[lag], x[lag:].T @ x[: 50 - lag] / (50 - lag))


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_a_dense_solve_and_one_round_of_em(runs: list[Run], kind: str) -> None:
    runs = _cut(runs, torch.arange(3))
    calibrated = calibrate(_prior(runs[:-2]), runs[-1].sums, settings=SETTINGS)
    values, visible = runs[-1].window[None], _mask(kind, 3)
    lagged_to = WINDOW + LAGS
    exact = replace(SETTINGS, iterations=2000, tolerance=1e-10, rounds=0)

    def dense(spectra: Tensor) -> Tensor:
        lagged = torch.fft.irfft(spectra, n=lagged_to, dim=0).numpy()
        time = np.arange(WINDOW)
        matrix = lagged[(time[:, None] - time[None, :]) % lagged_to].transpose(0, 2, 1, 3).reshape(3 * WINDOW, -1)
        v, h = np.flatnonzero(visible), np.flatnonzero(~visible)
        among = matrix[np.ix_(v, v)] + exact.noise * np.eye(len(v))
        filled = values.numpy().copy()
        filled.flat[h] = matrix[np.ix_(h, v)] @ np.linalg.solve(among, values.numpy().flat[v])
        return torch.from_numpy(filled)

    with torch.no_grad():
        first = CrossSpectralCore(exact).double()(values, visible, prior=calibrated)
        second = CrossSpectralCore(replace(exact, rounds=1)).double()(values, visible, prior=calibrated)
    expected = dense(calibrated.spectra)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=0)
    own = spectra_of(lagged_covariance(expected, lags=LAGS), fft_samples=PRIOR.fft_samples, shrinkage=0.02)[0]
    weight, samples = exact.spectrum_samples + calibrated.own_samples, float(visible.double().mean() * WINDOW)
    mixed = (weight * calibrated.spectra + samples * own) / (weight + samples)
    torch.testing.assert_close(second, dense(mixed), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_value_moves_not_one_bit(runs: list[Run], prior: StationaryPrior, kind: str) -> None:
    values, visible = runs[-1].window[None], _mask(kind)
    core = CrossSpectralCore(SETTINGS).double()
    calibrated = calibrate(prior, runs[-1].sums, settings=SETTINGS)
    with torch.no_grad():
        for known in (prior, calibrated):
            expected = core(values, visible, prior=known)
            for wrong in (torch.nan, 1e6):
                assert torch.equal(core(torch.where(visible, values, wrong), visible, prior=known), expected)
    everything = torch.ones_like(visible)
    assert torch.equal(core(values, everything, prior=calibrated), values)


def test_few_steps_suffice_where_whole_channels_are_hidden(runs: list[Run], prior: StationaryPrior) -> None:
    values, visible = runs[-1].window[None], _mask("channels")
    calibrated = calibrate(prior, runs[-1].sums, settings=SETTINGS)

    def filled(settings: CrossSpectrumSettings) -> Tensor:
        with torch.no_grad():
            result: Tensor = CrossSpectralCore(settings).double()(values, visible, prior=calibrated)
        return result

    exact = filled(replace(SETTINGS, iterations=1000, tolerance=1e-9))
    assert _r2(filled(replace(SETTINGS, iterations=20)), exact, visible) > 0.9999


def test_what_is_known_of_a_recording_is_of_its_calibration_alone(runs: list[Run], prior: StationaryPrior) -> None:
    changed = runs[-1].z.clone()
    changed[-WINDOW:] *= -1e3
    known, again = (calibrate(prior, _sums(z[:-WINDOW]), settings=SETTINGS) for z in (runs[-1].z, changed))
    assert torch.equal(known.spectra, again.spectra)
    assert torch.equal(known.covariance, again.covariance)


def test_single_precision_is_precise_enough(runs: list[Run], prior: StationaryPrior) -> None:
    visible = _mask("patches")
    values = runs[-1].window[None]
    calibrated = calibrate(prior, runs[-1].sums, settings=SETTINGS)
    with torch.no_grad():
        single = CrossSpectralCore(SETTINGS)(values.float(), visible, prior=calibrated.to(values.float()))
        double = CrossSpectralCore(SETTINGS).double()(values, visible, prior=calibrated)
    assert single.dtype == torch.float32
    assert _r2(single.double(), double, visible) > 0.999


def test_the_order_of_channels_does_not_matter(runs: list[Run]) -> None:
    order = torch.randperm(CHANNELS, generator=torch.Generator().manual_seed(1))
    visible = _mask("patches")
    core = CrossSpectralCore(replace(SETTINGS, iterations=1000, tolerance=1e-9)).double()

    def filled(of: list[Run], shown: Tensor) -> Tensor:
        with torch.no_grad():
            known = calibrate(_prior(of[:-2]), of[-1].sums, settings=SETTINGS)
            result: Tensor = core(of[-1].window[None], shown, prior=known)
        return result

    shuffled = filled(_cut(runs, order), visible[..., order])
    torch.testing.assert_close(shuffled, filled(runs, visible)[..., order], atol=1e-4, rtol=0)


@pytest.mark.parametrize("calibrated", [False, True])
def test_gradients_flow_to_values_and_weights(runs: list[Run], prior: StationaryPrior, *, calibrated: bool) -> None:
    visible = _mask("patches")
    known = calibrate(prior, runs[-1].sums, settings=SETTINGS) if calibrated else prior
    values = runs[-1].window[None].clone().requires_grad_()
    core = CrossSpectralCore(SETTINGS).double()
    filled = core(values, visible, prior=known)
    (filled - values.detach())[~visible].square().mean().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert (values.grad[~visible] == 0).all()
    assert (values.grad[visible] != 0).any()
    moved = {name for name, parameter in core.named_parameters() if parameter.grad is not None and parameter.grad != 0}
    expected = {"log_spectrum_samples", "log_noise"}
    assert moved == expected if calibrated else moved == {*expected, "log_covariance_samples", "log_gain_weight"}


def test_calibration_beats_the_prior_on_unseen_subjects(runs: list[Run], prior: StationaryPrior) -> None:
    core = CrossSpectralCore(SETTINGS).double()
    gains: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with torch.no_grad():
        for run in runs[-2:]:
            calibrated = calibrate(prior, run.sums, settings=SETTINGS)
            values = run.window[None]
            for kind in KINDS:
                visible = _mask(kind)
                fixed = posterior_mean(
                    WindowCovariance(spectra=prior.spectra, fft_samples=PRIOR.fft_samples),
                    values,
                    visible,
                    noise=torch.tensor(SETTINGS.noise),
                    iterations=SETTINGS.iterations,
                    tolerance=SETTINGS.tolerance,
                )
                ours = core(values, visible, prior=calibrated)
                gains[kind].append(_r2(ours, values, visible) - _r2(fixed, values, visible))
    assert np.mean(gains["patches"]) > 0.05
    assert np.mean(gains["channels"]) > 0.03
    assert np.mean(gains["block"]) > 0


def test_bad_input_is_refused(runs: list[Run], prior: StationaryPrior) -> None:
    core = CrossSpectralCore(SETTINGS).double()
    with pytest.raises(UserError, match=f"5 channels, but the core was made for {CHANNELS}"):
        core(runs[0].window[None, :, :5], _mask("patches", 5), prior=prior)
    with pytest.raises(UserError, match="1 of 1 windows have all"):
        core(runs[0].window[None], torch.zeros(1, WINDOW, CHANNELS, dtype=torch.bool), prior=prior)
