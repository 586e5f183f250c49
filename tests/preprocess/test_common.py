"""Missing samples, resampling, and targets on the signal's times, where the truth is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.preprocess import Common
from neurofm.preprocess.calcium import ModalitySettings, preprocess
from neurofm.preprocess.common import (
    align_target,
    check_channels,
    resample,
    resampling_support_s,
    robust_centre_scale,
)
from neurofm.recording import Modality, Target
from tests.preprocess.conftest import MakeRecording

NAN = float("nan")


def test_gap_in_a_usable_channel_is_filled_and_marked() -> None:
    values = np.array([[0.0, 5.0], [NAN, 6.0], [2.0, 5.0], [3.0, 7.0], [np.inf, 5.0]])
    checked = check_channels(values, max_nan_fraction=0.5)
    np.testing.assert_array_equal(checked.values[:, 0], [0, 1, 2, 3, 3])
    np.testing.assert_array_equal(checked.valid, [True, False, True, True, False])
    assert checked.usable.all()


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param([4.0, 4.0, 4.0, 4.0], id="constant"),
        pytest.param([NAN, NAN, NAN, NAN], id="missing"),
        pytest.param([NAN, NAN, 1.0, 2.0], id="half missing"),
        pytest.param([4.0, NAN, 4.0, 4.0], id="constant where it is not missing"),
    ],
)
def test_dead_channel_is_unusable_and_spoils_no_sample(dead: list[float]) -> None:
    values = np.stack([np.array(dead), np.array([1.0, 2.0, 3.0, 5.0])], axis=1)
    checked = check_channels(values, max_nan_fraction=0.3)
    np.testing.assert_array_equal(checked.usable, [False, True])
    np.testing.assert_array_equal(checked.values, [[0, 1], [0, 2], [0, 3], [0, 5]])
    assert checked.valid.all()


def test_samples_lost_by_all_speak_against_no_channel() -> None:
    values = np.array([[0.0], [NAN], [NAN], [3.0], [1.0]])
    lost = np.array([False, True, True, False, False])
    assert not check_channels(values, max_nan_fraction=0.1).usable.any()
    checked = check_channels(values, max_nan_fraction=0.1, lost=lost)
    assert checked.usable.all()
    np.testing.assert_array_equal(checked.valid, ~lost)


def test_known_bad_channel_stays_bad() -> None:
    values = np.random.default_rng(1).normal(size=(9, 2))
    checked = check_channels(values, max_nan_fraction=0.1, bad=np.array([True, False]))
    np.testing.assert_array_equal(checked.usable, [False, True])


@pytest.mark.parametrize(("from_hz", "to_hz"), [(30.0, 10.0), (600.614990234375, 100.0), (160.0, 100.0)])
def test_resampling_keeps_slow_waves_and_their_time(from_hz: float, to_hz: float) -> None:
    time = np.arange(round(20 * from_hz)) / from_hz
    lower, valid, rate = resample(_wave(time), np.ones(len(time), dtype=bool), from_hz=from_hz, to_hz=to_hz)
    assert rate == pytest.approx(to_hz, rel=1e-5)
    assert valid.all()
    inner = slice(len(lower) // 10, -len(lower) // 10)
    np.testing.assert_allclose(lower[inner], _wave(np.arange(len(lower)) / rate)[inner], atol=2e-3)


def _wave(time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (7 + np.sin(2 * np.pi * 0.5 * time_s))[:, None]


def test_rate_that_is_not_higher_is_left_alone() -> None:
    values, valid = np.ones((5, 1)), np.array([True, False, True, True, True])
    same, still, rate = resample(values, valid, from_hz=10.0, to_hz=10.0)
    assert rate == 10.0
    np.testing.assert_array_equal(same, values)
    np.testing.assert_array_equal(still, valid)
    assert resampling_support_s(from_hz=10.0, to_hz=10.0) == 0


def test_baseline_does_not_sag_at_the_ends() -> None:
    lower, _, _ = resample(np.full((300, 1), 1000.0), np.ones(300, dtype=bool), from_hz=30.0, to_hz=10.0)
    np.testing.assert_allclose(lower, 1000, rtol=1e-3)


def test_invalid_sample_marks_the_resampled_one_around_it() -> None:
    valid = np.ones(30, dtype=bool)
    valid[13] = False
    _, after, _ = resample(np.zeros((30, 1)), valid, from_hz=30.0, to_hz=10.0)
    # New samples lie at old 0, 3, 6, ...; each covers one and a half old ones to either side.
    np.testing.assert_array_equal(np.flatnonzero(~after), [4])


def test_stated_support_covers_the_filter() -> None:
    impulse = np.zeros((900, 1))
    impulse[450] = 1
    lower, _, rate = resample(impulse, np.ones(900, dtype=bool), from_hz=30.0, to_hz=10.0)
    touched = np.flatnonzero(np.abs(lower[:, 0]) > 0)
    assert (touched[-1] - touched[0]) / rate <= resampling_support_s(from_hz=30.0, to_hz=10.0)


def test_robust_scale() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=(20_000, 1))
    values[:100] = 1e6
    silent = np.zeros((20_000, 1))
    silent[:200] = 1.0
    centre, scale = robust_centre_scale(np.hstack([values, silent]), np.ones(20_000, dtype=bool))
    np.testing.assert_allclose([centre[0], scale[0]], [3, 2], rtol=0.05)
    assert centre[1] == 0
    assert scale[1] == pytest.approx(silent.std())


def _line(time_s: list[float], values: list[float]) -> Target:
    return Target(values=np.array(values)[:, None], unit="m", columns=("x",), time_s=np.array(time_s))


@pytest.mark.parametrize("offset_s", [0.0, 0.01])
def test_target_takes_the_value_at_the_middle_of_the_bin(offset_s: float) -> None:
    target = _line([0.0, 1.0, 2.0], [0.0, 10.0, 20.0])
    time = np.array([0.5, 1.25])
    aligned = align_target(target, time, max_gap_s=2.0, centre_offset_s=offset_s)
    np.testing.assert_allclose(aligned.values[:, 0], (time + offset_s) * 10, rtol=1e-6)
    assert aligned.values.dtype == np.float32
    np.testing.assert_array_equal(aligned.time_s, time)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0.0, 1.0, 2.0, 7.0, 8.0], [NAN, 0.5, NAN, 7.5, NAN], id="gap in the times"),
        pytest.param([NAN, 1.0, 2.0, 7.0, 8.0], [NAN, NAN, NAN, 7.5, NAN], id="NaN at the start"),
        pytest.param([0.0, NAN, 2.0, 7.0, 8.0], [NAN, NAN, NAN, 7.5, NAN], id="NaN makes a gap"),
        pytest.param([NAN] * 5, [NAN] * 5, id="never measured"),
        pytest.param([NAN, NAN, 2.0, NAN, NAN], [NAN] * 5, id="measured once"),
    ],
)
def test_targets_are_not_invented(values: list[float], expected: list[float]) -> None:
    target = _line([0.0, 1.0, 2.0, 7.0, 8.0], values)
    aligned = align_target(target, np.array([-0.5, 0.5, 4.0, 7.5, 8.5]), max_gap_s=1.5)
    np.testing.assert_array_equal(aligned.values[:, 0], np.array(expected, dtype=np.float32))


def test_angle_goes_over_zero_and_keeps_length_one() -> None:
    angle = np.deg2rad([359.0, 1.0, 181.0])
    values = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    target = Target(values=values, unit="1", columns=("cos", "sin"), time_s=np.array([0.0, 1.0, 2.0]))
    aligned = align_target(target, np.array([0.25, 0.5, 1.5]), max_gap_s=2.0).values
    np.testing.assert_allclose(aligned[1], [1, 0], atol=1e-6)
    assert np.hypot(*aligned[0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.ones((50, 2)), "no usable channel"), (np.where(np.arange(50)[:, None] % 5 < 4, np.nan, 1.0), "no usable")],
)
def test_nothing_usable_is_kept_out_not_fatal(
    make_recording: MakeRecording,
    common: Common,
    values: npt.NDArray[np.float64],
    said: str,
) -> None:
    settings = ModalitySettings(neuropil_coefficient=0.7, rate_hz=10.0)
    done = preprocess(make_recording(Modality.CALCIUM, values, rate_hz=10.0), settings=settings, common=common)
    assert said in str(done.quality["excluded_reason"])


def test_too_few_valid_samples_are_kept_out(make_recording: MakeRecording, common: Common) -> None:
    # Each channel misses a fifth, which is allowed, but never together.
    values = np.random.default_rng(2).normal(size=(100, 4))
    for channel in range(4):
        values[20 * channel : 20 * (channel + 1), channel] = np.nan
    settings = ModalitySettings(neuropil_coefficient=0.7, rate_hz=10.0)
    done = preprocess(make_recording(Modality.CALCIUM, values, rate_hz=10.0), settings=settings, common=common)
    assert done.quality["n_usable"] == 4
    assert done.quality["valid_fraction"] == pytest.approx(0.2)
    assert "20% of the samples are valid" in str(done.quality["excluded_reason"])
