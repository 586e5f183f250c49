"""fMRI protocol of `benchmarks.cores`: ds000228, 116 AAL ROIs, windows of 64 TR, subjects that no prior has seen.

Three folds over the 117 shared subjects, of which 30 are tested: a prior comes from the other folds. Two windows a
subject, z-scored over the run. ROIs without variance and exact duplicates are neither shown nor scored. Hidden are
half of the patches of 8 TR, or 30 % of the ROIs, or one block of 8 TR. Nothing was tuned on these subjects. With
calibration the core also knows the 100 TR of the run before or after the window, all ROIs visible; so does the linear
core that is in use today, whose settings are the best of a grid on ten of these subjects.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import cores_linear
from benchmarks.cores_scores import Scores
from neurofm.model.core import CoreSettings, Moments
from neurofm.model.cross_spectrum import CrossSpectrumSettings, calibrate
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums
from neurofm.model.spectral_core import SpectralCore, SpectralSettings

WINDOW, PATCH, LAGS = 64, 8, 16
STARTS = (0, 100)
FOLDS, TESTED = 3, 10
SETTINGS = PriorSettings(lags=LAGS, fft_samples=128, shrinkage=0.05)
CALIBRATION = CrossSpectrumSettings(lags=LAGS, shrinkage=0.05, covariance_samples=70.0, spectrum_samples=3000.0)
LINEAR = CoreSettings(smoothing_samples=(0.0,), ridge=0.03, prior_samples=100.0)
NOISE = 0.02
UNIT = "masked R2"
CASES = {
    "patches": "fMRI, half of the patches of 8 TR",
    "rois": "fMRI, 30 % of the ROIs",
    "block": "fMRI, one block of 8 TR",
}


def scores(data: Path) -> Scores:
    """Score every estimator on every tested subject."""
    files = sorted((data / "fmri/ds000228_pixar_rois/timeseries").glob("*AAL*.npy"))
    series = [_standardised(torch.from_numpy(np.load(file)).double()) for file in files]
    sums = [lag_sums([x], valid=[torch.ones(len(x), dtype=torch.bool)], lags=LAGS, channels=x.shape[1]) for x in series]
    order = np.random.default_rng(0).permutation(len(series))
    found: Scores = {(CASES[kind], UNIT): {} for kind in CASES}
    generator = np.random.default_rng(1)
    started = time.process_time()
    for fold in np.array_split(order, FOLDS):
        others = [sums[index] for index in order if index not in fold]
        total = LagSums.total(others, channels=series[0].shape[1], lags=LAGS)
        prior = StationaryPrior.fit(total, settings=SETTINGS)
        parts = [cores_linear.moments_of(series[index], settings=LINEAR) for index in order if index not in fold]
        linear_prior = cores_linear.total(parts, channels=series[0].shape[1], settings=LINEAR)
        for index in fold[:TESTED]:
            x = series[index]
            windows = torch.stack([x[start : start + WINDOW] for start in STARTS])
            fit = _fit_for_use(x)
            for kind in CASES:
                shown = torch.stack([_mask(kind, x.shape[1], generator) for _ in STARTS])
                visible, asked = shown & fit, ~shown & fit
                values = torch.where(visible, windows, 0.0)
                filled_in = {who: fill(values, visible) for who, fill in estimators(prior).items()}
                if kind == "rois":
                    filled_in[cores_linear.WHO] = _linear(linear_prior, x, values, visible)
                filled_in["neurofm core with calibration"] = _calibrated(prior, x, values, visible)
                filled_in["neurofm core"] = filled_in.pop("neurofm core")
                for who, filled in filled_in.items():
                    error = (filled - windows)[asked].square().sum() / windows[asked].square().sum()
                    found[CASES[kind], UNIT].setdefault(who, []).append(1 - float(error))
    windows_scored = FOLDS * TESTED * len(STARTS) * len(CASES)
    print(f"fMRI: {1000 * (time.process_time() - started) / windows_scored:.0f} CPU-ms a window, all estimators")
    return found


def estimators(prior: StationaryPrior) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return functions of (values, visible), ours last."""
    flat = prior.covariance.to(prior.spectra).expand_as(prior.spectra)
    core = SpectralCore(SpectralSettings()).double().requires_grad_(requires_grad=False)

    def fixed(spectra: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        covariance = WindowCovariance(spectra=spectra, fft_samples=prior.fft_samples)
        return lambda values, visible: posterior_mean(
            covariance, values, visible, noise=torch.tensor(NOISE), iterations=100, tolerance=1e-3
        )

    return {
        "full-covariance Gaussian": fixed(flat),
        "stationary lagged covariance (STAT)": fixed(prior.spectra),
        "neurofm core": lambda values, visible: core(values, visible, prior=prior),
    }


def _calibrated(prior: StationaryPrior, x: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """[window, time, roi]: each window with the rest of its run for calibration."""
    core = SpectralCore(SpectralSettings()).double().requires_grad_(requires_grad=False)
    filled = []
    for start, window, shown in zip(STARTS, values, visible, strict=True):
        adapted = calibrate(prior, _sums(_rest(x, start)), settings=CALIBRATION)
        filled.append(core(window[None], shown[None], prior=adapted)[0])
    return torch.stack(filled)


def _linear(prior: Moments, x: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """[window, time, roi]: the same by the linear core."""
    filled = []
    for start, window, shown in zip(STARTS, values, visible, strict=True):
        own = cores_linear.moments_of(_rest(x, start), settings=LINEAR)
        filled.append(cores_linear.fill(window, shown, own=own, prior=prior, settings=LINEAR))
    return torch.stack(filled)


def _rest(x: Tensor, start: int) -> Tensor:
    return x[:start] if start else x[WINDOW:]


def _sums(x: Tensor) -> LagSums:
    return lag_sums([x], valid=[torch.ones(len(x), dtype=torch.bool)], lags=LAGS, channels=x.shape[1])


def _standardised(x: Tensor) -> Tensor:
    return torch.nan_to_num((x - x.mean(dim=0)) / x.std(dim=0))


def _fit_for_use(x: Tensor) -> Tensor:
    """[channel] bool: neither constant nor an exact copy of another ROI."""
    same = (x.T @ x / len(x)).abs() > 1 - 1 / len(x) - 1e-6
    same.fill_diagonal_(fill_value=False)
    return (x.std(dim=0) > 0) & ~same.any(dim=0)


def _mask(kind: str, rois: int, generator: np.random.Generator) -> Tensor:
    """[WINDOW, rois] bool: what is visible."""
    shown = np.ones((WINDOW, rois), dtype=bool)
    match kind:
        case "patches":
            shown = np.repeat(generator.random((WINDOW // PATCH, rois)) > 0.5, PATCH, axis=0)
        case "rois":
            shown[:, generator.permutation(rois)[: round(0.3 * rois)]] = False
        case "block":
            start = PATCH * generator.integers(1, WINDOW // PATCH - 1)
            shown[start : start + PATCH] = False
    return torch.from_numpy(shown)
