"""Polyphase resampling: the same as for other modalities, and no drift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.eeg import as_state, resample
from neurofm.eeg.resample import Rate
from neurofm.preprocess import common
from tests.eeg.recordings import eegbci, eegmat


@pytest.mark.parametrize(("recording", "rate_hz"), [("eegmat", 100.0), ("eegmat", 250.0), ("eegbci", 100.0)])
def test_is_that_of_all_modalities(shared_data: Path, recording: str, rate_hz: float) -> None:
    state = as_state(eegmat(shared_data, "00_1") if recording == "eegmat" else eegbci(shared_data, 1))
    masked = np.zeros(len(state.raw.times), dtype=bool)
    masked[[0, 1003, 1004, 5000]] = True
    state = replace(state, masked=masked)
    after = resample.step(state, settings=Rate(rate_hz=rate_hz))
    values, valid, rate = common.resample(
        state.raw.get_data().T, ~masked, from_hz=state.raw.info["sfreq"], to_hz=rate_hz
    )
    np.testing.assert_array_equal(after.raw.get_data().T, values)
    np.testing.assert_array_equal(~after.masked, valid)
    assert after.raw.info["sfreq"] == rate
    assert after.steps[-1].support_s == common.resampling_support_s(from_hz=state.raw.info["sfreq"], to_hz=rate_hz)


def test_a_slower_recording_keeps_its_rate(shared_data: Path) -> None:
    state = as_state(eegbci(shared_data, 1))
    after = resample.step(state, settings=Rate(rate_hz=250.0))
    assert after.raw is state.raw
    assert [step.name for step in after.steps] == ["resample"]
