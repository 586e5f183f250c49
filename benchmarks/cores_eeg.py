"""EEG protocol of `benchmarks.cores`: EEGMAT, 19 channels at 100 Hz, windows of 10 s, subjects that no prior has seen.

Two folds over the 24 shared subjects, of which 12 are tested: a prior comes from the other fold's subjects and those of
this fold that are not tested. The last 10 s of each recording (rest, arithmetic) are the window and what is before
them (20 or 30 s) is its calibration, which also gives mean and SD. Average reference. Hidden are half of the patches of
0.5 s, or 30 % of the channels, or one block of 0.5 s. The average reference fixes the sum of all channels, so as a
control the first channel is never visible and never scored. Nothing was tuned on these subjects but the smoothing and
the prior's weight of the linear core that is in use today.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

from benchmarks import cores_linear
from benchmarks.cores_scores import Scores
from neurofm.model.core import CoreSettings, Moments
from neurofm.model.cross_spectrum import CrossSpectralCore, CrossSpectrumSettings, calibrate
from neurofm.model.posterior import WindowCovariance, posterior_mean
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums

WINDOW, PATCH, LAGS = 1000, 50, 128
FOLDS, TESTED = 2, 6
SETTINGS = PriorSettings(lags=LAGS, fft_samples=1280, shrinkage=0.02)
LINEAR = CoreSettings(smoothing_samples=(0.0, 2.0), ridge=0.001, prior_samples=50.0)
UNIT = "masked R2"
CASES = {
    "patches": "EEG, half of the patches of 0.5 s",
    "channels": "EEG, 30 % of the channels",
    "block": "EEG, one block of 0.5 s",
    "control": "EEG, 30 % of the channels, one more never visible",
}
WHOLE = ("channels", "control")


@dataclass(frozen=True)
class Run:
    """One recording."""

    subject: str
    window: Tensor
    """[WINDOW, channel] float64 in the calibration's SDs."""
    sums: LagSums
    """Of the calibration."""
    moments: Moments
    """The same for the linear core."""


def scores(data: Path) -> Scores:
    """Score every estimator on every tested subject; a subject's score is the mean over its recordings."""
    runs = [_load(file) for file in sorted((data / "eeg/eegmat").glob("*.edf"))]
    channels = runs[0].window.shape[1]
    subjects = np.random.default_rng(0).permutation(sorted({run.subject for run in runs}))
    found: Scores = {(CASES[kind], UNIT): {} for kind in CASES}
    generator = np.random.default_rng(1)
    seconds: dict[str, float] = {}
    for fold in np.array_split(subjects, FOLDS):
        tested = fold[:TESTED]
        others = [run for run in runs if run.subject not in tested]
        pooled = LagSums.total((run.sums for run in others), channels=channels, lags=LAGS)
        prior = StationaryPrior.fit(pooled, settings=SETTINGS)
        linear_prior = cores_linear.total((run.moments for run in others), channels=channels, settings=LINEAR)
        for subject in tested:
            each: dict[tuple[str, str], list[float]] = {}
            for run in (run for run in runs if run.subject == subject):
                known = estimators(prior, linear_prior, run)
                for kind in CASES:
                    shown, asked = _mask(kind, channels, generator)
                    values = torch.where(shown, run.window, 0.0)[None]
                    for who, fill in known.items():
                        if who == cores_linear.WHO and kind not in WHOLE:
                            continue
                        started = time.process_time()
                        filled = fill(values, shown[None])[0]
                        seconds[who] = seconds.get(who, 0.0) + time.process_time() - started
                        error = (filled - run.window)[asked].square().sum() / run.window[asked].square().sum()
                        each.setdefault((kind, who), []).append(1 - float(error))
            for (kind, who), values_of in each.items():
                found[CASES[kind], UNIT].setdefault(who, []).append(float(np.mean(values_of)))
    windows = FOLDS * TESTED * 2 * len(CASES)
    print("EEG, CPU-ms a window:", ", ".join(f"{who} {1000 * spent / windows:.0f}" for who, spent in seconds.items()))
    return found


def estimators(
    prior: StationaryPrior, linear_prior: Moments, run: Run
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return functions of (values, visible), ours last."""
    settings = CrossSpectrumSettings()
    core = CrossSpectralCore(settings).double().requires_grad_(requires_grad=False)
    own = StationaryPrior.fit(run.sums, settings=SETTINGS)
    calibrated = calibrate(prior, run.sums, settings=settings)

    def fixed(spectra: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        covariance = WindowCovariance(spectra=spectra, fft_samples=prior.fft_samples)
        return lambda values, visible: posterior_mean(
            covariance, values, visible, noise=torch.tensor(settings.noise), iterations=200, tolerance=1e-3
        )

    return {
        "full-covariance Gaussian": fixed(prior.covariance.to(prior.spectra).expand_as(prior.spectra)),
        "stationary lagged covariance (STAT)": fixed(prior.spectra),
        "the recording's own STAT": fixed(own.spectra),
        cores_linear.WHO: lambda values, visible: cores_linear.fill(
            values[0], visible[0], own=run.moments, prior=linear_prior, settings=LINEAR
        )[None],
        "neurofm core without calibration": lambda values, visible: core(values, visible, prior=prior),
        "neurofm core": lambda values, visible: core(values, visible, prior=calibrated),
    }


def _load(file: Path) -> Run:
    import mne  # noqa: PLC0415

    raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
    names = [name for name in raw.ch_names if name.startswith("EEG") and "A2" not in name]
    x = resample_poly(raw.get_data(names) * 1e6, 1, round(raw.info["sfreq"] / 100), axis=1).T
    x = x - x.mean(axis=1, keepdims=True)
    calibration = x[:-WINDOW]
    z = torch.from_numpy((x - calibration.mean(axis=0)) / calibration.std(axis=0))
    known = z[:-WINDOW]
    sums = lag_sums([known], valid=[torch.ones(len(known), dtype=torch.bool)], lags=LAGS, channels=z.shape[1])
    return Run(
        subject=file.stem.split("_")[0],
        window=z[-WINDOW:],
        sums=sums,
        moments=cores_linear.moments_of(known, settings=LINEAR),
    )


def _mask(kind: str, channels: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """[WINDOW, channel] bool, twice: what is visible and what is scored."""
    shown = np.ones((WINDOW, channels), dtype=bool)
    match kind:
        case "patches":
            shown = np.repeat(generator.random((WINDOW // PATCH, channels)) > 0.5, PATCH, axis=0)
        case "channels":
            shown[:, generator.permutation(channels)[: round(0.3 * channels)]] = False
        case "block":
            start = PATCH * generator.integers(1, WINDOW // PATCH - 1)
            shown[start : start + PATCH] = False
        case "control":
            shown[:, 1 + generator.permutation(channels - 1)[: round(0.3 * channels)]] = False
    asked = ~shown
    if kind == "control":
        shown[:, 0] = False
    return torch.from_numpy(shown), torch.from_numpy(asked)
