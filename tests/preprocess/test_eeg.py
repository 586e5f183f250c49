"""EEG: filter, reference, rate, and what is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mne
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from scipy.signal import welch

from neurofm.preprocess import Common
from neurofm.preprocess.eeg import ModalitySettings, preprocess
from neurofm.recording import Modality, Recording, Unreadable
from tests.preprocess.conftest import MakeRecording

BAND: dict[str, Any] = {"highpass_hz": 1.0, "lowpass_hz": 40.0, "rate_hz": 100.0, "amplitude_limit_uv": 500.0}
SETTINGS = ModalitySettings(**BAND)
FS = 600.614990234375


def test_equals_filter_and_reference_by_mne(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("mne-sample-eeg")
    assert native.signal is not None
    info = mne.create_info(list(native.channels.id), native.signal.sampling_rate_hz, "eeg")
    raw = mne.io.RawArray(native.signal.values.T.copy(), info, verbose="error")
    raw.filter(1.0, 40.0, verbose="error").set_eeg_reference(verbose="error")
    done = preprocess(native, settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.signal.units == "uV"
    # Against the filtered signal at the native rate: MNE's own resampling would shift it by up to half a sample,
    # because it makes the length whole at exactly 100 Hz.
    inner = slice(100, -100)
    for channel, by_hand in enumerate(raw.get_data() * 1e6):
        expected = np.interp(done.signal.time_s, native.signal.time_s, by_hand)
        assert np.corrcoef(done.signal.values[inner, channel], expected[inner])[0, 1] > 0.9999


def test_band_of_a_real_recording(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("mne-sample-eeg")
    done = preprocess(native, settings=SETTINGS, common=common)
    assert native.signal is not None
    assert done.signal is not None
    # Spectra with the same resolution of 1/8 Hz, in uV^2/Hz.
    f_native, p_native = welch(native.signal.values * 1e6, fs=FS, nperseg=round(8 * FS), axis=0)
    frequency, power = welch(done.signal.values, fs=done.signal.sampling_rate_hz, nperseg=800, axis=0)
    assert power[frequency < 0.3].mean() < 1e-2 * p_native[f_native < 0.3].mean()
    assert power[frequency > 48].mean() < 1e-3 * power[(frequency > 2) & (frequency < 38)].mean()
    np.testing.assert_allclose(done.signal.values.mean(axis=1), 0, atol=1e-3)
    # The edges are told, not cut.
    assert float(str(done.quality["edge_s"])) == pytest.approx(1.65, abs=0.01)


def test_impulse_does_not_move(make_recording: MakeRecording, common: Common) -> None:
    values = np.zeros((14_400, 2))
    # Two channels of opposite sign: the average is zero and leaves them alone.
    at = 7203
    values[at] = [1e-4, -1e-4]
    done = preprocess(make_recording(Modality.EEG, values, rate_hz=FS, units="V"), settings=SETTINGS, common=common)
    assert done.signal is not None
    fine = mne.filter.resample(done.signal.values.T.astype(float), up=20, verbose="error")[0]
    peak_s = np.argmax(np.abs(fine)) / (20 * done.signal.sampling_rate_hz)
    assert abs(peak_s - at / FS) < 0.5 / done.signal.sampling_rate_hz


def test_band_passes_what_it_should(make_recording: MakeRecording, common: Common) -> None:
    time = np.arange(30 * 500) / 500
    slow, alpha, fast = (np.sin(2 * np.pi * f * time) for f in (0.1, 10.0, 60.0))
    mixed = 20e-6 * np.stack([alpha + 5 * slow + fast, -alpha + 5 * slow + fast], axis=1)
    done = preprocess(make_recording(Modality.EEG, mixed, rate_hz=500.0, units="V"), settings=SETTINGS, common=common)
    assert done.signal is not None
    expected = 20 * np.sin(2 * np.pi * 10 * done.signal.time_s)
    np.testing.assert_allclose(done.signal.values[300:-300, 0], expected[300:-300], atol=0.5)


def _noise(*, seconds: float = 20.0, channels: int = 4) -> npt.NDArray[np.float64]:
    return np.random.default_rng(9).normal(0, 20e-6, size=(round(seconds * 250), channels))


def test_bad_channels_play_no_part(make_recording: MakeRecording, common: Common) -> None:
    clean = _noise(channels=3)
    flat, missing = np.zeros((len(clean), 1)), np.full((len(clean), 1), np.nan)
    alone = make_recording(Modality.EEG, clean, rate_hz=250.0, units="V")
    beside = make_recording(Modality.EEG, np.hstack([clean, flat, missing]), rate_hz=250.0, units="V")
    first = preprocess(alone, settings=SETTINGS, common=common).signal
    done = preprocess(beside, settings=SETTINGS, common=common)
    assert first is not None
    assert done.signal is not None
    np.testing.assert_allclose(done.signal.values[:, :3], first.values, atol=1e-4)
    assert done.channels.quality["usable"].tolist() == [1, 1, 1, 0, 0]


def test_channels_called_bad_by_the_file_are_not_used(
    sample_recording: Callable[..., Recording], common: Common
) -> None:
    done = preprocess(sample_recording("tiny-bids-eeg"), settings=SETTINGS, common=common)
    unusable = [c for c, usable in zip(done.channels.id, done.channels.quality["usable"], strict=True) if not usable]
    assert unusable == ["PO10"]


def test_missing_samples_and_large_artefacts_are_marked(make_recording: MakeRecording, common: Common) -> None:
    values = _noise()
    values[1000:1050, 0] = np.nan
    values[2500:2525, 1] = 5e-3
    done = preprocess(make_recording(Modality.EEG, values, rate_hz=250.0, units="V"), settings=SETTINGS, common=common)
    assert done.valid is not None
    marked = np.flatnonzero(~done.valid)
    assert set(range(400, 420)) <= set(marked)
    assert set(range(1001, 1009)) <= set(marked)
    assert done.valid.mean() > 0.9


@pytest.mark.parametrize(("lowpass_hz", "present"), [(40.0, False), (90.0, True)])
def test_power_line_is_notched_where_the_band_lets_it_through(
    make_recording: MakeRecording, common: Common, lowpass_hz: float, *, present: bool
) -> None:
    values = _noise()
    values += 1e-4 * np.outer(np.sin(2 * np.pi * 50 * np.arange(len(values)) / 250), [1, -1, 0.5, -0.5])
    recording = make_recording(Modality.EEG, values, rate_hz=250.0, units="V", scalars={"line_freq_hz": 50.0})
    settings = ModalitySettings(**{**BAND, "lowpass_hz": lowpass_hz, "rate_hz": 250.0})
    done = preprocess(recording, settings=settings, common=common)
    assert done.signal is not None
    assert ("notch" in [step.name for step in done.steps]) == present
    frequency, power = welch(done.signal.values, fs=done.signal.sampling_rate_hz, nperseg=500, axis=0)
    assert power[np.abs(frequency - 50) < 0.3].max() < power[np.abs(frequency - 20) < 5].max()


@pytest.mark.parametrize("seconds", [0.02, 0.5, 3.0])
def test_shorter_than_the_filter(make_recording: MakeRecording, common: Common, seconds: float) -> None:
    recording = make_recording(Modality.EEG, _noise(seconds=seconds), rate_hz=250.0, units="V")
    done = preprocess(recording, settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.quality["shorter_than_filter"] is True
    assert np.isfinite(done.signal.values).all()


@pytest.mark.parametrize(("rate_hz", "units", "said"), [(250.0, "T", "EEG in 'T'"), (64.0, "V", "64 Hz, too slow")])
def test_impossible_eeg(make_recording: MakeRecording, common: Common, rate_hz: float, units: str, said: str) -> None:
    recording = make_recording(Modality.EEG, _noise(), rate_hz=rate_hz, units=units)
    with pytest.raises(Unreadable, match=said):
        preprocess(recording, settings=SETTINGS, common=common)


@pytest.mark.parametrize("change", [{"highpass_hz": 50.0}, {"rate_hz": 80.0}])
def test_contradicting_settings(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="highpass_hz < lowpass_hz < rate_hz / 2"):
        ModalitySettings(**{**BAND, **change})
