"""The spectral core is the Gaussian conditional it says it is, sees nothing hidden, and gains on unseen subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from neurofm.errors import UserError
from neurofm.model.adaptation import covariance_map, log_map, map_covariance, spectral_gain
from neurofm.model.cross_spectrum import CrossSpectrumSettings, calibrate
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums, parzen
from neurofm.model.spectral_core import SpectralCore, SpectralSettings

WINDOW, LAGS, PATCH = 64, 16, 8
ROIS = 40
"""Of 116, to be quick."""
TRAINING, UNSEEN = 24, 6


@pytest.fixture(scope="module")
def subjects(shared_data: Path) -> list[Tensor]:
    """Each [168, ROIS] float64, z-scored, of ds000228."""
    files = sorted((shared_data / "fmri/ds000228_pixar_rois/timeseries").glob("*AAL*.npy"))[: TRAINING + UNSEEN]
    found = [torch.from_numpy(np.load(file)[:, :ROIS]).double() for file in files]
    return [torch.nan_to_num((x - x.mean(dim=0)) / x.std(dim=0)) for x in found]


def _prior(series: list[Tensor], *, channels: int = ROIS, lags: int = LAGS, fft_samples: int = 128) -> StationaryPrior:
    parts = [
        lag_sums([x[:, :channels]], valid=[torch.ones(len(x), dtype=torch.bool)], lags=lags, channels=channels)
        for x in series
    ]
    total = LagSums.total(parts, channels=channels, lags=lags)
    return StationaryPrior.fit(total, settings=PriorSettings(lags=lags, fft_samples=fft_samples, shrinkage=0.05))


@pytest.fixture(scope="module")
def prior(subjects: list[Tensor]) -> StationaryPrior:
    return _prior(subjects[:TRAINING])


@pytest.fixture(scope="module")
def windows(subjects: list[Tensor]) -> Tensor:
    """[window, time, channel] of subjects that the prior has not seen."""
    return torch.stack([x[:WINDOW] for x in subjects[TRAINING:]])


def _mask(kind: str, shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    windows, time, channels = shape
    visible = torch.ones(shape, dtype=torch.bool)
    match kind:
        case "patches":
            shown = torch.rand(windows, time // PATCH, channels, generator=generator) > 0.5
            visible = shown.repeat_interleave(PATCH, dim=1)
        case "channels":
            visible[..., torch.randperm(channels, generator=generator)[: channels * 3 // 10]] = False
        case "block":
            visible[:, 24 : 24 + PATCH] = False
    return visible


KINDS = ("patches", "channels", "block")


def _r2(filled: Tensor, truth: Tensor, visible: Tensor) -> float:
    return float(1 - (filled - truth)[~visible].square().sum() / truth[~visible].square().sum())


def _dense(prior: StationaryPrior, *, time: int) -> npt.NDArray[np.float64]:
    """[time * channel, time * channel] covariance of a window, written out entry by entry."""
    lagged = torch.fft.irfft(prior.spectra, n=prior.fft_samples, dim=0).numpy()
    return np.block([[lagged[(row - column) % prior.fft_samples] for column in range(time)] for row in range(time)])


def test_the_prior_is_the_tapered_lagged_covariance(subjects: list[Tensor]) -> None:
    x = subjects[0][:, :3].numpy()
    prior = _prior([subjects[0]], channels=3, lags=2, fft_samples=32)
    lagged = torch.fft.irfft(prior.spectra, n=32, dim=0).numpy()
    np.testing.assert_allclose(lagged[0], 0.95 * x.T @ x / len(x) + 0.05 * np.eye(3), atol=1e-10)
    one = 0.95 * float(parzen(2)[1]) * x[1:].T @ x[:-1] / (len(x) - 1)
    np.testing.assert_allclose(lagged[1], one, atol=1e-10)
    np.testing.assert_allclose(lagged[-1], one.T, atol=1e-10)
    np.testing.assert_allclose(lagged[3:-2], 0, atol=1e-10)
    np.testing.assert_allclose(prior.covariance, 0.98 * x.T @ x / len(x) + 0.02 * np.eye(3), atol=1e-10)


def test_lag_sums_add_up_and_reach_neither_across_borders_nor_into_invalid_samples(subjects: list[Tensor]) -> None:
    x = subjects[0][:40, :3]
    counts = torch.ones(20, dtype=torch.bool)
    counts[7] = False
    damaged = x[:20].clone()
    damaged[7] = torch.nan
    found = lag_sums([damaged, x[20:]], valid=[counts, torch.ones(20, dtype=torch.bool)], lags=2, channels=3)
    pairs = [t for t in (*range(18), *range(20, 38)) if t not in {5, 7}]
    expected = sum(torch.outer(x[t + 2], x[t]) for t in pairs)
    torch.testing.assert_close(found.products[2], expected)
    assert found.pairs.tolist() == [39, 36, len(pairs)]


def test_every_cross_spectrum_is_positive_definite_even_from_few_samples(subjects: list[Tensor]) -> None:
    prior = _prior([subjects[0][:20]])
    assert torch.linalg.eigvalsh(prior.spectra).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_mean_equals_the_exact_conditional(subjects: list[Tensor], kind: str) -> None:
    channels, time = 5, 32
    prior = _prior(subjects[:6], channels=channels)
    values = torch.stack([x[:time, :channels] for x in subjects[TRAINING:]])
    visible = _mask(kind, values.shape)
    noise = 0.02
    found = posterior_mean(
        WindowCovariance(spectra=prior.spectra, fft_samples=prior.fft_samples),
        values,
        visible,
        noise=torch.tensor(noise),
        iterations=1000,
        tolerance=1e-10,
    )
    dense = _dense(prior, time=time)
    for x, shown, answer in zip(values.numpy(), visible.numpy(), found.numpy(), strict=True):
        v = np.flatnonzero(shown)
        among = dense[np.ix_(v, v)] + noise * np.eye(len(v))
        expected = dense[:, v] @ np.linalg.solve(among, x.flat[v])
        np.testing.assert_allclose(answer.ravel(), expected, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_core_equals_a_dense_solve_with_what_it_adapted_to(subjects: list[Tensor], kind: str) -> None:
    channels, time = 4, 32
    prior = _prior(subjects[:6], channels=channels)
    values = torch.stack([x[:time, :channels] for x in subjects[TRAINING:]])
    visible = _mask(kind, values.shape)
    core = SpectralCore(SpectralSettings(iterations=1000, tolerance=1e-10)).double()
    with torch.no_grad():
        found = core(values, visible, prior=prior)
        adapted = core.adapt(torch.where(visible, values, 0.0), visible, prior=prior)
    for row in range(len(values)):
        change = covariance_map(prior.covariance, adapted.covariance[row])
        spectra = (
            change.to(prior.spectra) @ (adapted.gain[row][:, None, None] * prior.spectra) @ change.T.to(prior.spectra)
        )
        own = StationaryPrior(covariance=prior.covariance, spectra=spectra, fft_samples=prior.fft_samples)
        dense = _dense(own, time=time)
        v, h = (np.flatnonzero(part) for part in (visible[row].numpy(), ~visible[row].numpy()))
        among = dense[np.ix_(v, v)] + 0.02 * np.eye(len(v))
        expected = dense[np.ix_(h, v)] @ np.linalg.solve(among, values[row].numpy().flat[v])
        np.testing.assert_allclose(found[row].numpy().flat[h], expected, atol=1e-5)


def test_with_everything_visible_the_covariance_is_the_empirical_bayes_one_and_nothing_changes(
    prior: StationaryPrior, windows: Tensor
) -> None:
    visible = torch.ones_like(windows, dtype=torch.bool)
    found = map_covariance(windows, visible, prior=prior.covariance, prior_samples=torch.tensor(70.0), steps=1)
    expected = (70 * prior.covariance + windows.mT @ windows) / (70 + WINDOW)
    torch.testing.assert_close(found, expected)
    assert torch.equal(SpectralCore(SpectralSettings())(windows, visible, prior=prior), windows)


def test_each_round_of_em_raises_the_posterior_density(prior: StationaryPrior, windows: Tensor) -> None:
    visible = _mask("patches", windows.shape)
    known = torch.where(visible, windows, 0.0)

    def log_density(steps: int) -> Tensor:
        """[window], of S given what is visible, up to a constant."""
        s = map_covariance(known, visible, prior=prior.covariance, prior_samples=torch.tensor(70.0), steps=steps)
        total: Tensor = (
            -0.5 * 70 * (torch.logdet(s) + (torch.linalg.inv(s) @ prior.covariance).diagonal(dim1=1, dim2=2).sum(1))
        )
        for row, shown in enumerate(visible):
            for time, channels in enumerate(shown):
                block = s[row][channels][:, channels]
                x = known[row, time, channels]
                total[row] -= 0.5 * (torch.logdet(block) + x @ torch.linalg.solve(block, x))
        return total

    densities = torch.stack([log_density(steps) for steps in (0, 1, 2, 5)])
    assert (densities.diff(dim=0) > 0).all()


def test_the_spectral_gain_follows_the_window(prior: StationaryPrior, windows: Tensor) -> None:
    visible = torch.ones_like(windows, dtype=torch.bool)
    slow = torch.nn.functional.avg_pool1d(windows.mT, 5, stride=1, padding=2).mT
    weight = torch.tensor(1.0)
    gains = [spectral_gain(x, visible, prior=prior, lags=48, weight=weight) for x in (slow, windows)]
    assert (gains[0][:, :8].mean(dim=1) > gains[1][:, :8].mean(dim=1)).all()
    assert (gains[0][:, -16:].mean(dim=1) < gains[1][:, -16:].mean(dim=1)).all()
    unmoved = spectral_gain(windows, visible, prior=prior, lags=48, weight=torch.tensor(1e12).double())
    torch.testing.assert_close(unmoved, torch.ones_like(unmoved))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_value_moves_not_one_bit(prior: StationaryPrior, windows: Tensor, kind: str) -> None:
    visible = _mask(kind, windows.shape)
    core = SpectralCore(SpectralSettings()).double()
    with torch.no_grad():
        expected = core(windows, visible, prior=prior)
        for wrong in (torch.nan, 1e6, torch.inf):
            found = core(torch.where(visible, windows, wrong), visible, prior=prior)
            assert torch.equal(found, expected)
        seen = windows.clone()
        seen[:, 0, visible[0, 0]] += 1.0
        assert not torch.equal(core(seen, visible, prior=prior)[~visible], expected[~visible])


def test_a_recording_left_out_of_the_prior_moves_not_one_bit_of_it(subjects: list[Tensor]) -> None:
    changed = [*subjects[: TRAINING - 1], subjects[TRAINING - 1] * 1e3]
    kept, without = (_prior(series[: TRAINING - 1]) for series in (subjects, changed))
    assert torch.equal(kept.spectra, without.spectra)
    assert torch.equal(kept.covariance, without.covariance)
    assert not torch.equal(_prior(changed).covariance, _prior(subjects[:TRAINING]).covariance)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_channels_and_of_windows_does_not_matter(
    subjects: list[Tensor], windows: Tensor, kind: str
) -> None:
    order = torch.randperm(ROIS, generator=torch.Generator().manual_seed(1))
    visible = _mask(kind, windows.shape)
    core = SpectralCore(SpectralSettings(iterations=400, tolerance=1e-9)).double()
    with torch.no_grad():
        expected = core(windows, visible, prior=_prior(subjects[:TRAINING]))
        shuffled = core(
            windows[..., order].flip(0),
            visible[..., order].flip(0),
            prior=_prior([x[:, order] for x in subjects[:TRAINING]]),
        )
        alone = core(windows[:1], visible[:1], prior=_prior(subjects[:TRAINING]))
    torch.testing.assert_close(alone, expected[:1], atol=1e-6, rtol=0)
    torch.testing.assert_close(shuffled.flip(0), expected[..., order], atol=1e-4, rtol=0)


def test_single_precision_is_precise_enough(prior: StationaryPrior, windows: Tensor) -> None:
    visible = _mask("patches", windows.shape)
    core = SpectralCore(SpectralSettings())
    with torch.no_grad():
        single = core(windows.float(), visible, prior=prior.to(windows.float()))
        double = core.double()(windows, visible, prior=prior)
    assert single.dtype == torch.float32
    assert _r2(single.double(), double, visible) > 0.9999


def test_gradients_are_those_of_finite_differences(subjects: list[Tensor]) -> None:
    channels, time = 3, 16
    prior = _prior(subjects[:6], channels=channels)
    values = torch.stack([x[:time, :channels] for x in subjects[TRAINING:][:2]])
    visible = _mask("patches", values.shape)
    core = SpectralCore(SpectralSettings(iterations=500, tolerance=1e-12)).double()
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(of: Tensor) -> Tensor:
        filled: Tensor = core(of, visible, prior=prior)
        return (weights * filled)[~visible].sum()

    watched = values.clone().requires_grad_()
    loss(watched).backward()  # type: ignore[no-untyped-call]
    assert watched.grad is not None
    assert (watched.grad[~visible] == 0).all()
    step = 1e-5
    with torch.no_grad():
        for row, t, channel in visible.nonzero()[::7].tolist():
            moved = torch.zeros_like(values)
            moved[row, t, channel] = step
            slope = (loss(values + moved) - loss(values - moved)) / (2 * step)
            assert float(watched.grad[row, t, channel]) == pytest.approx(float(slope), abs=1e-5)
        for parameter in core.parameters():
            assert parameter.grad is not None
            around = []
            for move in (step, -2 * step, step):
                parameter.add_(move)
                around.append(float(loss(values)))
            rise = (around[0] - around[1]) / (2 * step)
            assert float(parameter.grad) == pytest.approx(rise, abs=1e-5)
            assert rise != 0


def test_it_beats_fixed_gaussians_on_unseen_subjects(prior: StationaryPrior, windows: Tensor) -> None:
    flat = prior.covariance.to(prior.spectra).expand_as(prior.spectra)

    def fixed(spectra: Tensor, visible: Tensor) -> Tensor:
        return posterior_mean(
            WindowCovariance(spectra=spectra, fft_samples=prior.fft_samples),
            windows,
            visible,
            noise=torch.tensor(0.02),
            iterations=100,
            tolerance=1e-3,
        )

    core = SpectralCore(SpectralSettings()).double()
    scores = {}
    with torch.no_grad():
        for kind in KINDS:
            visible = _mask(kind, windows.shape)
            filled = {
                "covariance": fixed(flat, visible),
                "stationary": fixed(prior.spectra, visible),
                "core": core(windows, visible, prior=prior),
            }
            scores[kind] = {name: _r2(values, windows, visible) for name, values in filled.items()}
    assert scores["patches"]["core"] > scores["patches"]["stationary"] + 0.02
    assert scores["patches"]["core"] > scores["patches"]["covariance"] + 0.02
    assert scores["channels"]["core"] > scores["channels"]["stationary"]
    assert scores["block"]["core"] > 0.03
    assert abs(scores["block"]["covariance"]) < 0.01


def test_a_calibration_span_of_the_subject_helps(subjects: list[Tensor], prior: StationaryPrior) -> None:
    core = SpectralCore(SpectralSettings()).double()
    settings = CrossSpectrumSettings(lags=LAGS, shrinkage=0.05, covariance_samples=70.0, spectrum_samples=3000.0)
    gains = []
    with torch.no_grad():
        for x in subjects[TRAINING:]:
            values = x[None, -WINDOW:]
            visible = _mask("channels", values.shape)
            rest = x[:-WINDOW]
            own = lag_sums([rest], valid=[torch.ones(len(rest), dtype=torch.bool)], lags=LAGS, channels=ROIS)
            known, without = (
                _r2(core(values, visible, prior=one), values, visible)
                for one in (calibrate(prior, own, settings=settings), prior)
            )
            gains.append(known - without)
    assert np.mean(gains) > 0.03


def test_the_preconditioner_is_the_inverse_of_a_periodic_window(prior: StationaryPrior, windows: Tensor) -> None:
    covariance = WindowCovariance(
        spectra=prior.spectra,
        fft_samples=prior.fft_samples,
        gain=torch.linspace(0.5, 2.0, prior.spectra.shape[0]).double().expand(len(windows), -1),
        map=covariance_map(prior.covariance, windows.mT @ windows / WINDOW + torch.eye(ROIS).double()),
        precision=prior.precision,
    )
    periodic = torch.cat([windows, windows.flip(1)], dim=1)
    assert periodic.shape[1] == prior.fft_samples
    torch.testing.assert_close(covariance.inverse().times(covariance.times(periodic)), periodic)


def test_the_log_map_keeps_distances_and_is_zero_at_the_prior(prior: StationaryPrior, windows: Tensor) -> None:
    assert log_map(prior.covariance[None], prior=prior.covariance).abs().max() < 1e-9
    core = SpectralCore(SpectralSettings()).double()
    with torch.no_grad():
        covariance = core.adapt(windows, torch.ones_like(windows, dtype=torch.bool), prior=prior).covariance
    described = log_map(covariance, prior=prior.covariance)
    assert described.shape == (len(windows), ROIS * (ROIS + 1) // 2)
    ratios = torch.linalg.eigvals(torch.linalg.solve(prior.covariance, covariance)).real
    torch.testing.assert_close(described.norm(dim=1), ratios.log().norm(dim=1))


def test_bad_input_is_refused_with_both_values(prior: StationaryPrior, windows: Tensor) -> None:
    core = SpectralCore(SpectralSettings()).double()
    visible = _mask("patches", windows.shape)
    dark = visible.clone()
    dark[1] = False
    with pytest.raises(UserError, match=rf"1 of {len(windows)} windows have all of their {ROIS} channels masked"):
        core(windows, dark, prior=prior)
    with pytest.raises(UserError, match=f"7 channels, but the core was made for {ROIS}"):
        core(windows[..., :7], visible[..., :7], prior=prior)
    damaged = windows.clone()
    damaged[0, 0, visible[0, 0].nonzero()[0]] = torch.nan
    with pytest.raises(UserError, match=rf"1 of {int(visible.sum())} visible values"):
        core(damaged, visible, prior=prior)
    with pytest.raises(UserError, match=r"shape .*64, 40.* visible mask of shape .*63, 40"):
        core(windows, visible[:, 1:], prior=prior)
    longer = torch.cat([windows, windows, windows], dim=1)
    with pytest.raises(UserError, match="window of 192 samples is longer than the 128"):
        core(longer, torch.cat([visible, visible, visible], dim=1), prior=prior)
    with pytest.raises(UserError, match="is empty"):
        core(windows[:0], visible[:0], prior=prior)
    with pytest.raises(UserError, match="there are 0"):
        _prior([])
    with pytest.raises(UserError, match="20 lags cannot come from sums up to lag 16"):
        StationaryPrior.fit(
            LagSums.zero(channels=2, lags=16), settings=PriorSettings(lags=20, fft_samples=64, shrinkage=0.05)
        )
