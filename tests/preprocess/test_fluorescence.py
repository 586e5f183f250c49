"""Two-photon and miniscope traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.preprocess import Common, calcium, miniscope
from neurofm.preprocess._fluorescence import Exclude
from neurofm.preprocess._frames import frame_places, on_grid
from neurofm.recording import Modality, Recording, Signal, Target, Unreadable
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
    # The file's background is gone already: half of the cells have no baseline that one could divide by.
    assert done.quality["delta_f"] == "not computed: 80 of 172 cells have no baseline above zero"
    assert done.signal.units == "lumens"
    assert [step.name for step in done.steps] == ["check", "subtract_neuropil", "resample"]


def test_without_neuropil_nothing_is_subtracted(make_recording: MakeRecording, common: Common) -> None:
    values = np.random.default_rng(3).normal(100, 1, size=(200, 2))
    raw = CALCIUM.model_copy(update={"delta_f": None})
    done = calcium.preprocess(make_recording(Modality.CALCIUM, values, rate_hz=10.0), settings=raw, common=common)
    assert done.signal is not None
    np.testing.assert_array_equal(done.signal.values, values.astype(np.float32))
    assert done.quality["neuropil_subtracted"] is False
    assert done.quality["delta_f"] == "off"


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
    grid, dropped = on_grid(frames, frame_places(np.array(times), name="rec"))
    assert np.flatnonzero(dropped).tolist() == expected_dropped
    np.testing.assert_array_equal(grid[~dropped], frames)
    assert np.isnan(grid[dropped]).all()


def test_recording_without_signal(make_recording: MakeRecording, common: Common) -> None:
    with pytest.raises(Unreadable, match=r"made/rec: .*no signal"):
        calcium.preprocess(make_recording(Modality.CALCIUM, None), settings=CALCIUM, common=common)
    with pytest.raises(Unreadable, match=r"made/rec: .*no signal"):
        miniscope.preprocess(make_recording(Modality.MINISCOPE, None), settings=MINISCOPE, common=common)


@pytest.fixture(scope="module")
def camera(sample_recording: Callable[..., Recording]) -> Recording:
    """The two-photon recording as a camera with an offset has it: raw counts of Suite2p's cells, without neuropil."""
    native = sample_recording("a0662-2p")
    assert native.signal is not None
    live = native.channels.quality["iscell"] > 0
    values = native.signal.values[:, live] + 200.0
    ids = tuple(name for name, kept in zip(native.channels.id, live, strict=True) if kept)
    channels = replace(native.channels, id=ids, position=native.channels.position[live], region=(), quality={})
    signal = replace(native.signal, values=values)
    return replace(native, channels=channels, signal=signal, extra_signals={})


def test_raw_fluorescence_becomes_relative_to_its_baseline(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    done = calcium.preprocess(camera, settings=CALCIUM, common=common)
    assert done.signal is not None
    assert done.quality["delta_f"] == "computed"
    assert done.signal.units == "dF/F"
    raw, relative = camera.signal.values.astype(np.float64), done.signal.values
    # The baseline lies below nearly all of a trace, between its minimum and its median.
    implied = raw / (relative + 1)
    assert (implied >= raw.min(axis=0) * 0.999).all()
    assert (np.quantile(implied, 0.5, axis=0) <= 1.001 * np.quantile(raw, 0.5, axis=0)).all()
    # A camera that counts twice as much has seen the same.
    louder = replace(camera, signal=replace(camera.signal, values=2 * raw))
    again = calcium.preprocess(louder, settings=CALCIUM, common=common)
    assert again.signal is not None
    np.testing.assert_allclose(again.signal.values, relative, rtol=1e-4, atol=1e-6)
    assert [step.name for step in done.steps] == ["check", "delta_f_over_f", "resample"]
    assert done.steps[1].support_s == 128


def test_slow_bleaching_leaves_no_trend(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    fading = np.linspace(1.0, 0.7, len(camera.signal.values))[:, None]
    bleached = replace(camera, signal=replace(camera.signal, values=camera.signal.values * fading))
    medians = []
    for recording in (camera, bleached):
        done = calcium.preprocess(recording, settings=CALCIUM, common=common)
        assert done.signal is not None
        values = done.signal.values.astype(np.float64)
        first, last = np.median(values[:667], axis=0), np.median(values[-667:], axis=0)
        medians.append(float(np.median(last - first)))
    assert medians[1] == pytest.approx(medians[0], abs=0.02)


@pytest.mark.parametrize("units", ["dF/F", "df_f", "percent", "% dF/F"])
def test_what_is_relative_already_stays(camera: Recording, common: Common, units: str) -> None:
    assert camera.signal is not None
    relative = replace(camera, signal=replace(camera.signal, units=units))
    done = calcium.preprocess(relative, settings=CALCIUM, common=common)
    assert done.signal is not None
    assert done.quality["delta_f"] == "as recorded"
    np.testing.assert_array_equal(done.signal.values, camera.signal.values.astype(np.float32))


def test_single_cells_without_baseline_are_not_usable(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    values = camera.signal.values.copy()
    values[:, 5] -= np.median(values[:, 5])
    done = calcium.preprocess(
        replace(camera, signal=replace(camera.signal, values=values)), settings=CALCIUM, common=common
    )
    assert np.flatnonzero(done.channels.quality["usable"] == 0).tolist() == [5]
    assert done.quality["cells_without_baseline"] == 1


def test_noise_level_is_that_of_its_definition(camera: Recording, common: Common) -> None:
    done = calcium.preprocess(camera, settings=CALCIUM, common=common)
    assert done.signal is not None
    # At 10 Hz nothing is resampled: the stored trace is the one that was measured.
    change = 100 * np.median(np.abs(np.diff(done.signal.values, axis=0)), axis=0)
    np.testing.assert_allclose(done.channels.quality["noise_level"], change / np.sqrt(10), rtol=1e-3)
    assert done.quality["noise_level_median"] == pytest.approx(np.median(change) / np.sqrt(10), rel=1e-3)
    strict = CALCIUM.model_copy(update={"exclude": Exclude(max_noise_level=0.01, min_snr=1000.0)})
    reason = str(calcium.preprocess(camera, settings=strict, common=common).quality["excluded_reason"])
    assert "less than 1000 (min_snr); median noise level of cells" in reason
    assert "more than 0.01 %/sqrt(Hz) (max_noise_level)" in reason


def test_events_are_taken_where_they_are_wanted(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    events = Signal(
        values=np.maximum(np.diff(camera.signal.values, axis=0, prepend=200.0), 0), sampling_rate_hz=10.0, units="a.u."
    )
    wanted = CALCIUM.model_copy(update={"signal": "events"})
    done = calcium.preprocess(replace(camera, extra_signals={"deconvolved": events}), settings=wanted, common=common)
    assert done.signal is not None
    np.testing.assert_array_equal(done.signal.values, events.values.astype(np.float32))
    assert (done.quality["signal"], done.quality["delta_f"], done.signal.units) == ("events", "off", "a.u.")
    with pytest.raises(Unreadable, match="no deconvolved events"):
        calcium.preprocess(camera, settings=wanted, common=common)


def test_frames_with_motion_are_marked_and_keep_their_values(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    shift = np.zeros((2000, 2))
    shift[700:703] = 9.0, 6.0
    shift[900] = 9.0, 0.0  # within the limit
    motion = Target(values=shift, unit="px", columns=("x", "y"), time_s=camera.signal.time_s)
    done = calcium.preprocess(replace(camera, noise={"motion_px": motion}), settings=CALCIUM, common=common)
    still = calcium.preprocess(camera, settings=CALCIUM, common=common)
    assert done.valid is not None
    assert np.flatnonzero(~done.valid).tolist() == [700, 701, 702]
    assert (done.quality["moved_frames"], still.quality["moved_frames"]) == (3, None)
    assert done.signal is not None
    assert still.signal is not None
    np.testing.assert_array_equal(done.signal.values, still.signal.values)
    np.testing.assert_array_equal(done.noise["motion_px"].values, shift.astype(np.float32))


def test_two_photon_frames_that_were_lost_are_marked(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    kept = np.ones(2000, dtype=bool)
    kept[1000:1600] = False
    gappy = replace(
        camera,
        signal=replace(camera.signal, values=camera.signal.values[kept]),
        sample_time_s=camera.signal.time_s[kept],
    )
    done = calcium.preprocess(gappy, settings=CALCIUM, common=common)
    assert done.valid is not None
    np.testing.assert_array_equal(done.valid, kept)
    assert done.quality["excluded_reason"] == "share of lost frames 0.3, more than 0.2 (max_dropped_fraction)"


def test_cell_of_nothing_but_nan_is_not_usable(camera: Recording, common: Common) -> None:
    assert camera.signal is not None
    values = camera.signal.values.copy()
    values[:, 4] = np.nan
    done = calcium.preprocess(
        replace(camera, signal=replace(camera.signal, values=values)), settings=CALCIUM, common=common
    )
    assert done.quality["nan_channels"] == 1
    assert np.flatnonzero(done.channels.quality["usable"] == 0).tolist() == [4]


def test_timestamps_of_a_real_miniscope_that_go_back_are_refused(
    sample_recording: Callable[..., Recording], shared_data: Path, common: Common
) -> None:
    # The clock of minian's recording jumped there and back 29 times.
    table = shared_data / "calcium" / "minian_placecell_1d" / "neural_timestamp.csv"
    stamps = np.loadtxt(table, delimiter=",", skiprows=1, usecols=1)
    native = sample_recording("cnmfe-miniscope")
    assert native.signal is not None
    shorter = replace(native.signal, values=native.signal.values[: len(stamps)])
    broken = replace(native, signal=shorter, sample_time_s=stamps - stamps[0])
    with pytest.raises(Unreadable, match=r"timestamps of frames go back, from .* \(frame \d+ of 10000\)"):
        miniscope.preprocess(broken, settings=MINISCOPE, common=common)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([0.0, 1.0, np.nan, 3.0], "1 of 4 timestamps of frames are no numbers"),
        ([0.0, 0.0, 0.0, 1.0], "most frames have the timestamp of the frame before"),
        ([0.0, 1.0, 2.0, 1e9], "4 frames every 1 s, but their timestamps go over 1e"),
    ],
)
def test_impossible_timestamps(times: list[float], words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        frame_places(np.array(times), name="rec")
