"""Quality of real recordings: what is known of them is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import as_state
from neurofm.eeg.quality import noise_before, spectrum_after
from neurofm.recording import Recording
from tests.eeg.recordings import eegbci, eegmat

BAND_HZ = (1.0, 50.0)


def _spectrum(recording: Recording, *, nameless: bool = False) -> dict[str, float | None]:
    assert recording.signal is not None
    values = np.asarray(recording.signal.values - recording.signal.values.mean(axis=0), dtype=np.float64)
    names, position = recording.channels.id, np.asarray(recording.channels.position, dtype=np.float64)
    if nameless:
        names = tuple(f"c{i}" for i in range(len(names)))
    found = spectrum_after(
        values, rate_hz=recording.signal.sampling_rate_hz, names=names, position=position, band_hz=BAND_HZ
    )
    return {name: None if value is None else float(str(value)) for name, value in found.items()}


def test_closed_eyes_have_more_alpha(shared_data: Path) -> None:
    opened, closed = (_spectrum(eegbci(shared_data, run)) for run in (1, 2))
    assert opened["occipital_relative_alpha"] is not None
    assert closed["occipital_relative_alpha"] is not None
    assert closed["occipital_relative_alpha"] > 2 * opened["occipital_relative_alpha"]
    assert 8 < (closed["alpha_peak_hz"] or 0) < 13
    assert (closed["alpha_peak_db"] or 0) > 10
    # 1/f: between the line and twice as steep as pink noise.
    assert -3 < (closed["spectral_slope"] or 0) < -0.5


def test_places_stand_in_for_names(shared_data: Path) -> None:
    closed = eegbci(shared_data, 2)
    by_name, by_place = _spectrum(closed), _spectrum(closed, nameless=True)
    assert by_place["occipital_relative_alpha"] == pytest.approx(by_name["occipital_relative_alpha"], abs=0.1)


def test_slope_of_a_known_spectrum() -> None:
    # White noise over f has power 1/f^2; nothing rises above it at alpha by much.
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(rng.standard_normal((60_000, 2)), axis=0)
    frequency = np.fft.rfftfreq(60_000, 1 / 250)
    values = np.fft.irfft(spectrum / np.maximum(frequency, 0.1)[:, None], axis=0)
    found = spectrum_after(values, rate_hz=250.0, names=("a", "b"), position=np.full((2, 3), np.nan), band_hz=BAND_HZ)
    assert found["spectral_slope"] == pytest.approx(-2.0, abs=0.1)
    assert found["occipital_relative_alpha"] is None
    assert float(str(found["alpha_peak_db"] or 0.0)) < 1.5


def test_blinks_are_those_of_open_eyes(shared_data: Path) -> None:
    opened, closed = (noise_before(as_state(eegbci(shared_data, run)))["blink_fraction"] for run in (1, 2))
    assert float(str(opened)) > 0.02
    assert float(str(opened)) > 3 * float(str(closed))
    # EEGMAT's authors took the blinks out.
    assert float(str(noise_before(as_state(eegmat(shared_data, "00_1")))["blink_fraction"])) < 0.02


def test_muscle_of_known_length(shared_data: Path) -> None:
    native = eegmat(shared_data, "00_1")
    assert native.signal is not None
    values = np.array(native.signal.values, dtype=np.float64)
    before = noise_before(as_state(native))["muscle_fraction"]
    # 6 s of 40 uV, half of it between 30 and 100 Hz, on six channels of 19.
    rng = np.random.default_rng(4)
    values[5000:8000, :6] += 40e-6 * rng.standard_normal((3000, 6))
    after = noise_before(as_state(replace(native, signal=replace(native.signal, values=values))))["muscle_fraction"]
    assert before == 0.0
    assert float(str(after)) == pytest.approx(6 / (len(values) // 500), abs=1 / (len(values) // 500))


def test_what_a_short_recording_cannot_tell(shared_data: Path) -> None:
    native = eegmat(shared_data, "00_1")
    assert native.signal is not None
    short = replace(native, signal=replace(native.signal, values=native.signal.values[:300]))
    assert set(noise_before(as_state(short)).values()) == {None}
    assert set(_spectrum(short).values()) == {None}
