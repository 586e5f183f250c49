"""The tiers on real recordings: what each does, what it says of it, and what is kept out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import resample_poly

from neurofm.preprocess import Common
from neurofm.preprocess.eeg import ModalitySettings, preprocess
from neurofm.recording import Recording, Unreadable
from tests.eeg.recordings import eegbci, eegmat, hbn_events, tiled

BAND: dict[str, Any] = {"highpass_hz": 0.5, "lowpass_hz": 50.0, "rate_hz": 100.0, "amplitude_limit_uv": None}


def _settings(tier: str, **change: Any) -> ModalitySettings:
    return ModalitySettings.parse({"tier": tier} | BAND | change, where="the test", mend="mend it")


def _with(recording: Recording, *, column: int, values: Any) -> Recording:
    assert recording.signal is not None
    changed = np.array(recording.signal.values, dtype=np.float64)
    changed[:, column] = values
    return replace(recording, signal=replace(recording.signal, values=changed))


def test_challenge_is_filter_and_polyphase_alone(shared_data: Path, common: Common) -> None:
    native = eegmat(shared_data, "00_1")
    done = preprocess(native, settings=_settings("challenge"), common=common)
    assert native.signal is not None
    assert done.signal is not None
    by_hand = mne.filter.filter_data(native.signal.values.T.copy(), 500.0, 0.5, 50.0, verbose="error")
    expected = resample_poly(by_hand * 1e6, 1, 5, axis=1, padtype="edge")
    np.testing.assert_allclose(done.signal.values.T, expected, atol=1e-3)
    assert [step.name for step in done.steps] == ["check", "band_pass", "resample", "amplitude_limit"]
    assert done.quality["tier"] == "challenge"


def test_challenge_keeps_a_silent_reference(shared_data: Path, common: Common) -> None:
    native = eegmat(shared_data, "00_1")
    done = preprocess(
        _with(native, column=native.channels.id.index("Cz"), values=0.0), settings=_settings("challenge"), common=common
    )
    assert done.signal is not None
    assert done.channels.id == native.channels.id
    at = done.channels.id.index("Cz")
    assert not done.signal.values[:, at].any()
    assert [float(v) for v in done.channels.quality["usable"]] == [float(i != at) for i in range(19)]


def test_crop_moves_the_beginning_and_marks_what_lies_between(shared_data: Path, common: Common) -> None:
    native = replace(
        tiled(eegmat(shared_data, "00_1"), samples=405 * 500), events=hbn_events(shared_data, "sub-NDARAC904DMU")
    )
    crop = {"starts": ["instructed_toCloseEyes"], "ends": ["instructed_toOpenEyes", "break cnt"]}
    done = preprocess(native, settings=_settings("challenge", crop=crop), common=common)
    assert done.signal is not None
    assert done.valid is not None
    assert done.signal.start_s == 67.84
    time = done.signal.time_s
    assert done.valid[(time > 68) & (time < 107.5)].all()
    assert not done.valid[(time > 108) & (time < 127.5)].any()
    assert done.quality["usable_s"] == pytest.approx(200, abs=0.5)
    assert str(done.quality["kept_spans_s"]).startswith("67.840-107.840 ")
    # The same waveform lies at the same time of the recording's clock as without cropping.
    whole = preprocess(native, settings=_settings("challenge"), common=common).signal
    assert whole is not None
    at = np.interp(time[1000:3000], whole.time_s, whole.values[:, 3])
    assert np.corrcoef(at, done.signal.values[1000:3000, 3])[0, 1] > 0.99


def test_no_event_to_crop_at_names_the_recording(shared_data: Path, common: Common) -> None:
    with pytest.raises(Unreadable, match=r"^real/01: no event 'rest'"):
        preprocess(
            eegmat(shared_data, "00_1"), settings=_settings("challenge", crop={"starts": ["rest"]}), common=common
        )


@pytest.fixture(scope="module")
def cleaned(shared_data: Path, common: Common) -> Recording:
    """EEGBCI with one channel that carries noise of 500 uV instead of EEG, and one that is silent."""
    native = eegbci(shared_data, 1)
    noise = 5e-4 * np.random.default_rng(5).standard_normal(len(native.signal.values))  # type: ignore[union-attr]
    native = _with(native, column=native.channels.id.index("C3"), values=noise)
    native = _with(native, column=native.channels.id.index("Cz"), values=0.0)
    return preprocess(native, settings=_settings("clean", lowpass_hz=40.0), common=common)


def test_clean_finds_fills_and_tells(cleaned: Recording) -> None:
    assert cleaned.signal is not None
    names = cleaned.channels.id
    interpolated = {name for name, is_so in zip(names, cleaned.channels.quality["interpolated"], strict=True) if is_so}
    assert "C3" in interpolated
    assert "Cz" not in interpolated
    assert interpolated == set(str(cleaned.quality["interpolated_channels"]).split(", "))
    # Made of their neighbours: nothing is shown by predicting them.
    np.testing.assert_array_equal(cleaned.channels.quality["usable"], 1 - cleaned.channels.quality["interpolated"])
    # C3 is what its neighbours are, not noise of 500 uV; Cz carries what the average reference leaves there.
    values = cleaned.signal.values
    neighbour = np.corrcoef(values[:, names.index("C3")], values[:, names.index("C1")])[0, 1]
    assert neighbour > 0.7
    assert 1 < values[:, names.index("Cz")].std() < 50
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-2)


def test_clean_measures_what_it_did(cleaned: Recording) -> None:
    quality = cleaned.quality
    assert 0 < float(str(quality["bad_channel_fraction"])) < 0.25
    assert 0 <= float(str(quality["asr_removed_variance_fraction"])) < 1
    assert 0 <= float(str(quality["rejected_fraction"])) < 0.5
    assert abs(float(str(quality["time_shift_ms"]))) < 1
    assert float(str(quality["line_ratio_after"])) < float(str(quality["line_ratio_before"]))
    assert "excluded_reason" not in quality
    assert [step.name for step in cleaned.steps] == [
        "check",
        "resample",
        "notch",
        "bad_channels",
        "high_pass",
        "interpolate",
        "reference",
        "artefacts",
        "band_pass",
        "resample",
        "reject",
        "amplitude_limit",
    ]


@pytest.mark.parametrize("artefacts", ["none", "ica"])
def test_clean_without_asr(shared_data: Path, common: Common, artefacts: str) -> None:
    done = preprocess(
        eegmat(shared_data, "00_1"), settings=_settings("clean", clean={"artefacts": artefacts}), common=common
    )
    named = {step.name for step in done.steps}
    assert "artefacts" not in named
    assert ("components" in named) == (artefacts == "ica")


def test_limits_keep_out_with_the_value(cleaned: Recording, shared_data: Path, common: Common) -> None:
    exclude = {"min_usable_s": 100.0, "max_muscle_fraction": None}
    done = preprocess(
        eegbci(shared_data, 1), settings=_settings("challenge", lowpass_hz=40.0, exclude=exclude), common=common
    )
    assert done.quality["excluded_reason"] == "usable time 61 s, less than 100 s (min_usable_s)"


def test_missing_samples_of_one_channel_are_filled_and_masked(shared_data: Path, common: Common) -> None:
    native = eegmat(shared_data, "00_1")
    assert native.signal is not None
    values = np.array(native.signal.values, dtype=np.float64)
    values[10_000:10_050, 4] = np.nan
    done = preprocess(
        replace(native, signal=replace(native.signal, values=values)), settings=_settings("challenge"), common=common
    )
    assert done.signal is not None
    assert done.valid is not None
    assert done.channels.quality["usable"].all()
    np.testing.assert_array_equal(np.flatnonzero(~done.valid), np.arange(2000, 2011))


@pytest.mark.parametrize(
    ("tier", "change", "said"),
    [
        ("filter", {}, "highpass_hz < lowpass_hz < rate_hz / 2"),
        ("filter", {"lowpass_hz": 40.0, "crop": {"starts": ["rest"]}}, "the tier filter crops nothing"),
        ("challenge", {"lowpass_hz": 51.0}, "lowpass_hz <= rate_hz / 2"),
    ],
)
def test_contradicting_settings(tier: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModalitySettings.model_validate_json(json.dumps({"tier": tier} | BAND | change))


def test_sample_stays_as_it_was(sample_recording: Callable[..., Recording], common: Common) -> None:
    """The tier that every project has used so far gives the bytes that it gave before there were tiers."""
    settings = ModalitySettings(highpass_hz=1.0, lowpass_hz=40.0, rate_hz=100.0, amplitude_limit_uv=500.0)
    done = preprocess(sample_recording("mne-sample-eeg"), settings=settings, common=common)
    assert done.signal is not None
    assert [step.name for step in done.steps] == [
        "check",
        "band_pass",
        "average_reference",
        "resample",
        "amplitude_limit",
    ]
    assert done.quality["tier"] == "filter"
    # Taken from the code before there were tiers.
    np.testing.assert_allclose(done.signal.values[1000, :4], [-7.0357199, -2.915081, -3.1626024, -4.5016541], rtol=1e-6)
