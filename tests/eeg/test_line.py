"""The power line: found, measured, and taken out without what lies beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import welch

from neurofm.eeg import as_state, line
from neurofm.eeg.line import Line
from tests.eeg.recordings import eegbci, eegmat


def test_line_of_a_real_recording(shared_data: Path) -> None:
    # EEGBCI was recorded with the line in it (60 Hz); its half rate of 80 Hz has no room for a harmonic.
    state = as_state(eegbci(shared_data, 1))
    after = line.step(state, settings=Line())
    assert after.quality["line_freq_hz"] == 60.0
    assert float(str(after.quality["line_ratio_before"])) > 1.5
    assert float(str(after.quality["line_ratio_after"])) < 0.5
    assert after.steps[-1].params["frequencies_hz"] == "60"


def test_a_line_of_known_size_and_its_harmonic_go(shared_data: Path) -> None:
    native = eegmat(shared_data, "00_1")
    assert native.signal is not None
    time = native.signal.time_s
    noise = 20e-6 * np.sin(2 * np.pi * 50 * time) + 5e-6 * np.sin(2 * np.pi * 100 * time)
    signal = replace(native.signal, values=native.signal.values + noise[:, None])
    clean = line.step(as_state(native), settings=Line()).raw.get_data()
    after = line.step(as_state(replace(native, signal=signal)), settings=Line()).raw.get_data()
    # Away from the ends, of the 14.6 uV (root mean square) less than 0.2 % is left.
    inner = slice(2000, -2000)
    left = np.sqrt(np.mean((after - clean)[:, inner] ** 2))
    assert left < 2.9e-8
    # What lies 3 Hz away is as it was.
    frequency, before = welch(native.signal.values.T, fs=500, nperseg=1000)
    _, now = welch(after, fs=500, nperseg=1000)
    alpha = (frequency > 8) & (frequency < 47)
    np.testing.assert_allclose(now[:, alpha], before[:, alpha], rtol=0.02)


def test_only_the_line_itself(shared_data: Path) -> None:
    after = line.step(as_state(eegmat(shared_data, "00_1")), settings=Line(harmonics=False))
    assert after.steps[-1].params["frequencies_hz"] == "50"


@pytest.mark.parametrize(("stated", "asked", "found"), [(None, None, None), (None, 60.0, 60.0), (50.0, 60.0, 60.0)])
def test_whose_word_counts(shared_data: Path, stated: float | None, asked: float | None, found: float | None) -> None:
    native = replace(eegmat(shared_data, "00_1"), scalars={"line_freq_hz": stated})
    state = as_state(native)
    after = line.step(state, settings=Line(frequency_hz=asked))
    assert after.quality["line_freq_hz"] == found
    assert (after.raw is state.raw) == (found is None)
