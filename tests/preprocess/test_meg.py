"""MEG keeps what the file's field was, each kind of sensor in its own unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mne
import numpy as np
import pytest

from neurofm.preprocess import Common
from neurofm.preprocess.meg import ModalitySettings, preprocess
from neurofm.recording import Modality, Recording, Unreadable
from tests.at_once import thinned
from tests.preprocess.conftest import MakeRecording

SETTINGS = ModalitySettings()
FS = 600.0


@pytest.fixture(scope="module")
def sample(sample_recording: Callable[..., Recording]) -> Recording:
    return sample_recording("mne-sample-meg")


@pytest.fixture(scope="module")
def few(sample: Recording) -> Recording:
    return thinned(sample)


def test_each_kind_of_sensor_is_in_its_own_unit(sample: Recording, common: Common) -> None:
    done = preprocess(sample, settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.signal.units == "fT, fT/cm"
    assert done.signal.values.shape == (2398, 306)
    gradiometer = done.channels.quality["gradiometer"] > 0
    assert int(gradiometer.sum()) == done.quality["gradiometers"] == 204
    # The last digit of a Vectorview sensor's name says its kind: 1 is a magnetometer.
    assert [name.endswith("1") for name in done.channels.id] == (~gradiometer).tolist()
    fields = {
        kind: np.median(done.signal.values[:, chosen].std(axis=0))
        for kind, chosen in (("fT", ~gradiometer), ("fT/cm", gradiometer))
    }
    assert 50 < fields["fT"] < 1000
    assert 10 < fields["fT/cm"] < 200


def test_the_band_is_that_of_mne(few: Recording, common: Common, sample_raw: Callable[..., object]) -> None:
    done = preprocess(few, settings=SETTINGS, common=common)
    assert done.signal is not None
    raw = mne.io.read_raw_fif(f"{sample_raw('mne-sample-meg')}/test_raw.fif", verbose="error")
    raw = raw.pick(list(done.channels.id[:4])).load_data(verbose="error")
    theirs = raw.filter(1.0, 40.0, verbose="error").get_data()
    chosen = [done.channels.id.index(name) for name in raw.ch_names]
    assert 0 < done.channels.quality["gradiometer"][chosen].mean() < 1
    units = np.where(done.channels.quality["gradiometer"][chosen] > 0, 1e13, 1e15)
    for expected, ours in zip(theirs, (done.signal.values[:, chosen] / units).T, strict=True):
        at = np.interp(done.signal.time_s, raw.times, expected)
        np.testing.assert_allclose(ours[200:-200], at[200:-200], atol=0.1 * at.std())


def test_the_limit_of_each_kind_marks_its_own(few: Recording, common: Common) -> None:
    def valid_fraction(**limits: float) -> float:
        done = preprocess(few, settings=ModalitySettings(**limits), common=common)
        assert done.valid is not None
        return float(done.valid.mean())

    assert valid_fraction() == 1.0
    assert valid_fraction(magnetometer_limit_ft=600.0) < 1.0
    assert valid_fraction(gradiometer_limit_ft_per_cm=300.0) < 1.0


@pytest.mark.parametrize(("unit", "made", "factor"), [("T", "fT", 1e15), ("T/m", "fT/cm", 1e13)])
def test_one_kind_alone(unit: str, made: str, factor: float, make_recording: MakeRecording, common: Common) -> None:
    wave = np.sin(2 * np.pi * 10 * np.arange(12000) / FS)
    values = np.stack([wave, -wave], axis=1) * 200 / factor
    done = preprocess(make_recording(Modality.MEG, values, rate_hz=FS, units=unit), settings=SETTINGS, common=common)
    assert done.signal is not None
    assert done.signal.units == made
    expected = 200 * np.sin(2 * np.pi * 10 * done.signal.time_s)
    np.testing.assert_allclose(done.signal.values[300:-300, 0], expected[300:-300], atol=4.0)


@pytest.mark.parametrize(("units", "rate_hz", "told"), [("V", FS, "MEG in 'V'"), ("T", 60.0, "too slow for a band")])
def test_what_is_no_field_is_refused(
    units: str, rate_hz: float, told: str, make_recording: MakeRecording, common: Common
) -> None:
    recording = make_recording(Modality.MEG, np.zeros((600, 2)), rate_hz=rate_hz, units=units)
    with pytest.raises(Unreadable, match=told):
        preprocess(recording, settings=SETTINGS, common=common)


def test_both_units_without_the_column_are_refused(few: Recording, common: Common) -> None:
    bare = replace(few, channels=replace(few.channels, quality={}))
    with pytest.raises(Unreadable, match="MEG in 'T, T/m'"):
        preprocess(bare, settings=SETTINGS, common=common)
