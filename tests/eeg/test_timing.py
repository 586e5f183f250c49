"""No tier moves a recording in time, and the measure of that notices one that does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from neurofm.eeg import State, as_state, resample, tiers
from neurofm.eeg.filters import Band
from neurofm.eeg.resample import Rate
from neurofm.eeg.tiers import Clean
from neurofm.eeg.timing import time_shift_s
from neurofm.preprocess import Common
from neurofm.preprocess.eeg import ModalitySettings, preprocess
from tests.eeg.recordings import eegbci, eegmat, tiled

BAND_HZ = (1.0, 40.0)
HALF_SAMPLE_S = 0.5 / 100
SETTINGS = ModalitySettings(highpass_hz=1.0, lowpass_hz=40.0, rate_hz=100.0, amplitude_limit_uv=None)
LIMITS = Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5)


@pytest.mark.parametrize("late_ms", [-12.0, 0.0, 0.3, 5.0, 30.0])
def test_a_known_delay_is_measured(shared_data: Path, late_ms: float) -> None:
    before = as_state(eegmat(shared_data, "00_1"))
    lower = resample.step(before, settings=Rate(rate_hz=100.0))
    # The same samples, said to lie later.
    after = replace(lower, start_s=late_ms / 1000)
    measured = time_shift_s(before, after, band_hz=BAND_HZ)
    assert measured == pytest.approx(late_ms / 1000, abs=2e-5)


def test_mne_stretches_ten_minutes_and_we_do_not(shared_data: Path) -> None:
    # 300,002 samples at 500 Hz are 60,000.4 at 100 Hz: MNE's FFT makes them 60,000, and the last one lies elsewhere.
    before = as_state(tiled(eegmat(shared_data, "00_1"), samples=300_002))
    ours = resample.step(before, settings=Rate(rate_hz=100.0))
    theirs = replace(ours, raw=before.raw.copy().resample(100.0, verbose="error"))
    assert abs(time_shift_s(before, ours, band_hz=BAND_HZ) or 1.0) < 5e-5
    assert abs(time_shift_s(before, theirs, band_hz=BAND_HZ) or 0.0) > 2e-3


def _chain(state: State, tier: str) -> State:
    band, rate = Band(highpass_hz=1.0, lowpass_hz=40.0), Rate(rate_hz=100.0)
    if tier == "challenge":
        return tiers.challenge(state, band=band, rate=rate)
    return tiers.clean(state, settings=Clean(), band=band, rate=rate)


@pytest.mark.parametrize("tier", ["challenge", "clean"])
@pytest.mark.parametrize("source", ["eegmat", "eegbci"])
def test_tier_says_that_it_moved_nothing(shared_data: Path, tier: str, source: str) -> None:
    native = eegmat(shared_data, "00_1") if source == "eegmat" else eegbci(shared_data, 1)
    done = _chain(as_state(native), tier)
    assert abs(float(str(done.quality["time_shift_ms"]))) < 1000 * HALF_SAMPLE_S / 10


@pytest.mark.parametrize("tier", ["filter", "challenge", "clean"])
def test_an_impulse_stays_where_it_is(shared_data: Path, tier: str) -> None:
    # Laid over real EEG, for all that a tier estimates from the recording; the difference of the two is its answer.
    native = eegmat(shared_data, "00_1")
    assert native.signal is not None
    at = [4003, 10001, 16502]
    knock = np.zeros_like(native.signal.values, dtype=np.float64)
    # Small enough for ASR to let it pass, of another size in each channel for the average reference to leave some.
    knock[at] = 1e-5 * np.linspace(1.0, 2.0, knock.shape[1])
    with_it = replace(native, signal=replace(native.signal, values=native.signal.values + knock))
    settings = SETTINGS.model_copy(update={"tier": tiers.Tier(tier)})
    bare, struck = (preprocess(one, settings=settings, common=LIMITS).signal for one in (native, with_it))
    assert bare is not None
    assert struck is not None
    answer = (struck.values - bare.values)[:, -1].astype(np.float64)
    fine = mne.filter.resample(answer, up=20, verbose="error")
    for sample in at:
        expected_s = sample / 500
        near = slice(round((expected_s - 0.2) * 2000), round((expected_s + 0.2) * 2000))
        peak_s = (near.start + int(np.argmax(np.abs(fine[near])))) / 2000
        assert abs(peak_s - expected_s) < HALF_SAMPLE_S


def test_too_short_to_measure(shared_data: Path) -> None:
    short = as_state(tiled(eegmat(shared_data, "00_1"), samples=900))
    assert time_shift_s(short, short, band_hz=BAND_HZ) is None
