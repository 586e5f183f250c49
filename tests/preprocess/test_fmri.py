"""Slow drifts of BOLD."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import detrend

from neurofm.preprocess import Common
from neurofm.preprocess.fmri import ModalitySettings, preprocess
from neurofm.recording import Modality, Recording
from tests.preprocess.conftest import MakeRecording

SETTINGS = ModalitySettings(highpass_hz=0.008)


@pytest.mark.parametrize("dataset", ["hcp-rest", "ds205-bold"])
def test_real_runs_lose_their_mean_and_drift(
    sample_recording: Callable[..., Recording], common: Common, dataset: str
) -> None:
    native = sample_recording(dataset)
    done = preprocess(native, settings=SETTINGS, common=common)
    assert native.signal is not None
    assert done.signal is not None
    np.testing.assert_allclose(done.signal.values.mean(axis=0), 0, atol=1e-2)
    frequency = np.fft.rfftfreq(len(done.signal.values), 1 / native.signal.sampling_rate_hz)
    before = np.abs(np.fft.rfft(detrend(native.signal.values, axis=0), axis=0)) ** 2
    after = np.abs(np.fft.rfft(done.signal.values, axis=0)) ** 2
    slow, fast = (frequency > 0) & (frequency < 0.007), frequency > 0.05
    assert after[slow].sum() < 0.1 * before[slow].sum()
    assert after[fast].sum() == pytest.approx(before[fast].sum(), rel=0.05)
    assert float(str(done.quality["tsnr_median"])) > 50
    assert done.steps[-1].support_s == pytest.approx(len(done.signal.values) / native.signal.sampling_rate_hz)


def test_known_drift_is_removed_and_known_signal_kept(make_recording: MakeRecording, common: Common) -> None:
    time = np.arange(400) * 2.0
    wanted = np.cos(2 * np.pi * 0.05 * (time + 1))
    drift = 1000 + 0.02 * time + 5 * np.cos(np.pi * 3 * (time + 1) / 800)
    recording = make_recording(Modality.FMRI, (wanted + drift)[:, None], rate_hz=0.5)
    done = preprocess(recording, settings=SETTINGS, common=common)
    assert done.signal is not None
    np.testing.assert_allclose(done.signal.values[:, 0], wanted, atol=1e-5)


def test_white_noise_has_the_dvars_it_must_have(make_recording: MakeRecording, common: Common) -> None:
    noise = np.random.default_rng(6).normal(1000, 1, size=(500, 200))
    noise[250] += 20
    done = preprocess(make_recording(Modality.FMRI, noise, rate_hz=0.5), settings=SETTINGS, common=common)
    assert float(str(done.quality["dvars_median"])) == pytest.approx(np.sqrt(2) / 1.35, rel=0.1)
    # One displaced volume makes two steps.
    assert float(str(done.quality["dvars_outlier_fraction"])) >= 2 / 499


def test_volumes_that_are_filled_in_do_not_bear_on_dvars(make_recording: MakeRecording, common: Common) -> None:
    noise = np.random.default_rng(6).normal(1000, 1, size=(500, 200))
    noise[100:190] = np.nan
    done = preprocess(make_recording(Modality.FMRI, noise, rate_hz=0.5), settings=SETTINGS, common=common)
    assert float(str(done.quality["dvars_median"])) == pytest.approx(np.sqrt(2), rel=0.03)


def test_dead_parcels_and_missing_volumes(
    sample_recording: Callable[..., Recording], make_recording: MakeRecording, common: Common
) -> None:
    native = sample_recording("ds205-bold").signal
    assert native is not None
    values = native.values[:, :20].astype(np.float64)
    values[:, 3] = 0.0
    values[:, 4] = np.nan
    values[10:12] = np.nan
    recording = make_recording(Modality.FMRI, values, rate_hz=native.sampling_rate_hz)
    done = preprocess(recording, settings=SETTINGS, common=common)
    assert done.valid is not None
    assert done.signal is not None
    assert np.flatnonzero(done.channels.quality["usable"] == 0).tolist() == [3, 4]
    assert np.flatnonzero(~done.valid).tolist() == [10, 11]
    assert not done.signal.values[:, [3, 4]].any()
    assert done.quality["usable_minutes"] == pytest.approx(80 * 2.2 / 60)


def test_series_that_came_centred_has_no_tsnr(make_recording: MakeRecording, common: Common) -> None:
    values = np.random.default_rng(7).normal(size=(100, 3))
    done = preprocess(make_recording(Modality.FMRI, values, rate_hz=0.5), settings=SETTINGS, common=common)
    assert done.quality["tsnr_median"] is None
    assert np.isnan(done.channels.quality["tsnr"]).all()


@pytest.mark.parametrize("volumes", [1, 2, 5])
def test_very_short_runs_do_not_crash(make_recording: MakeRecording, common: Common, volumes: int) -> None:
    values = np.random.default_rng(8).normal(1000, 1, size=(volumes, 3))
    done = preprocess(make_recording(Modality.FMRI, values, rate_hz=0.5), settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.signal.values.shape == (volumes, 3)
    assert np.isfinite(done.signal.values).all()
