"""Two-photon and miniscope traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from neurofm.preprocess import Common, calcium, miniscope
from neurofm.recording import Modality, Recording, Signal, Unreadable
from tests.preprocess.conftest import MakeRecording

CALCIUM = calcium.ModalitySettings(neuropil_coefficient=0.7, rate_hz=10.0)
MINISCOPE = miniscope.ModalitySettings(rate_hz=10.0)


def test_neuropil_is_subtracted_and_dead_rois_stay_dead(
    sample_recording: Callable[..., Recording], common: Common
) -> None:
    native = sample_recording("a0662-2p")
    assert native.signal is not None
    fluorescence, neuropil = native.signal.values, native.extra_signals["neuropil"].values
    dead = np.ptp(fluorescence, axis=0) == 0
    # The trap: the neuropil around a dead ROI varies, and so would the difference.
    assert np.ptp(neuropil[:, dead], axis=0).min() > 0
    done = calcium.preprocess(native, settings=CALCIUM, common=common)
    assert done.signal is not None
    np.testing.assert_array_equal(done.channels.quality["usable"] == 0, dead)
    assert (done.quality["constant_channels"], dead.sum()) == (47, 47)
    expected = (fluorescence - 0.7 * neuropil)[:, ~dead]
    np.testing.assert_allclose(done.signal.values[:, ~dead], expected, rtol=1e-5, atol=1e-4)
    assert [step.name for step in done.steps] == ["check", "subtract_neuropil", "resample"]


def test_without_neuropil_nothing_is_subtracted(make_recording: MakeRecording, common: Common) -> None:
    values = np.random.default_rng(3).normal(100, 1, size=(200, 2))
    done = calcium.preprocess(make_recording(Modality.CALCIUM, values, rate_hz=10.0), settings=CALCIUM, common=common)
    assert done.signal is not None
    np.testing.assert_array_equal(done.signal.values, values.astype(np.float32))
    assert done.quality["neuropil_subtracted"] is False


def test_hole_in_the_neuropil_is_not_valid(make_recording: MakeRecording, common: Common) -> None:
    values = np.random.default_rng(4).normal(size=(100, 1))
    neuropil = values.copy()
    neuropil[40] = np.nan
    extra = {"neuropil": Signal(values=neuropil, sampling_rate_hz=10.0, units="a.u.")}
    recording = make_recording(Modality.CALCIUM, values, rate_hz=10.0, extra_signals=extra)
    done = calcium.preprocess(recording, settings=CALCIUM, common=common)
    assert done.valid is not None
    assert np.flatnonzero(~done.valid).tolist() == [40]


def test_faster_recording_is_resampled(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("cnmfe-miniscope")
    assert native.signal is not None
    done = miniscope.preprocess(native, settings=MINISCOPE, common=common)
    assert done.signal is not None
    assert done.signal.values.shape == (11_915, 10)
    assert done.signal.sampling_rate_hz == 10
    assert done.quality["dropped_frames"] == 0
    for before, after in zip(native.signal.values.T, done.signal.values.T, strict=True):
        # Each new sample lies at the middle one of three frames, and is close to their mean.
        around = np.convolve(before, np.ones(3) / 3, mode="valid")[2::3]
        assert np.corrcoef(around, after[1 : len(around) + 1])[0, 1] > 0.98


def test_lost_frames_are_marked_and_time_is_kept(sample_recording: Callable[..., Recording], common: Common) -> None:
    native = sample_recording("cnmfe-miniscope")
    assert native.signal is not None
    assert native.sample_time_s is not None
    kept = np.ones(len(native.signal.values), dtype=bool)
    kept[3000:3060] = False
    kept[9000] = False
    jitter = np.random.default_rng(5).uniform(-0.004, 0.004, size=kept.sum())
    shorter = replace(
        native,
        signal=replace(native.signal, values=native.signal.values[kept]),
        sample_time_s=native.sample_time_s[kept] + jitter,
    )
    whole = miniscope.preprocess(native, settings=MINISCOPE, common=common)
    done = miniscope.preprocess(shorter, settings=MINISCOPE, common=common)
    assert done.quality["dropped_frames"] == 61
    assert done.signal is not None
    assert whole.signal is not None
    assert done.valid is not None
    assert done.signal.values.shape == whole.signal.values.shape
    assert not done.valid[1000:1020].any()
    assert not done.valid[3000]
    assert done.valid.sum() >= len(done.valid) - 24
    # Away from the holes (the filter reaches 1 s) nothing changed, nothing moved.
    np.testing.assert_allclose(done.signal.values[1100:2900], whole.signal.values[1100:2900], rtol=1e-5)
    np.testing.assert_allclose(done.signal.values[3100:], whole.signal.values[3100:], rtol=1e-5)


@pytest.mark.parametrize(
    ("times", "expected_dropped"),
    [
        ([0.0, 1.0, 2.0, 3.0], []),
        ([0.0, 1.3, 2.0, 3.1], []),
        ([0.0, 1.0, 3.0, 4.0, 5.0], [2]),
        ([0.0, 1.0, 2.0, 5.0, 6.0], [3, 4]),
        ([0.0], []),
    ],
)
def test_regular_grid(times: list[float], expected_dropped: list[int]) -> None:
    frames = np.arange(len(times), dtype=np.float64)[:, None]
    grid, dropped = miniscope.to_regular_grid(frames, np.array(times))
    assert np.flatnonzero(dropped).tolist() == expected_dropped
    np.testing.assert_array_equal(grid[~dropped], frames)
    assert np.isnan(grid[dropped]).all()


def test_recording_without_signal(make_recording: MakeRecording, common: Common) -> None:
    with pytest.raises(Unreadable, match=r"made/rec: .*no signal"):
        calcium.preprocess(make_recording(Modality.CALCIUM, None), settings=CALCIUM, common=common)
    with pytest.raises(Unreadable, match=r"made/rec: .*no signal"):
        miniscope.preprocess(make_recording(Modality.MINISCOPE, None), settings=MINISCOPE, common=common)
