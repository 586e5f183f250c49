from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg import State, tiers
from neurofm.eeg.components import ComponentSettings, step
from neurofm.eeg.filters import Band
from neurofm.eeg.interpolate import InterpolateSettings
from neurofm.eeg.interpolate import step as interpolate
from neurofm.eeg.resample import Rate
from neurofm.eeg.tiers import Artefacts, Clean
from neurofm.errors import UserError
from neurofm.recording import Unreadable
from tests.eeg.real import averaged, blinks, eegbci, eegmat, muscle, rms, uv, with_values

SETTINGS = ComponentSettings(max_components=30, max_iterations=200, tolerance=1e-5, min_probability=0.8, seed=0)


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> State:
    return eegmat(shared_data, "00_1")


@pytest.fixture(scope="module")
def blinking(clean: State) -> State:
    artefact, _ = blinks(clean, onsets_s=np.arange(2.0, 38.0, 3.3), peak_uv=200.0)
    return averaged(with_values(clean, uv(clean) + artefact))


def test_nothing_is_taken_out_of_what_was_cleaned_before(clean: State) -> None:
    left = step(averaged(clean), settings=SETTINGS)
    assert left.quality["ica_removed"] == 0
    np.testing.assert_allclose(uv(left), uv(averaged(clean)), atol=1e-9)
    # The average reference makes the 19 channels sum to 0.
    assert left.quality["ica_components"] == 18
    assert int(str(left.quality["ica_iterations"])) < SETTINGS.max_iterations


def test_blinks_are_taken_out_as_eye(clean: State, blinking: State) -> None:
    _, when = blinks(clean, onsets_s=np.arange(2.0, 38.0, 3.3), peak_uv=200.0)
    true = uv(averaged(clean))
    cleaned = step(blinking, settings=SETTINGS)
    assert (cleaned.quality["ica_removed"], cleaned.quality["ica_removed_eye"]) == (1, 1)
    error = uv(cleaned) - true
    laid_over = uv(blinking) - true
    assert rms(error[:, when]) < 0.1 * rms(laid_over[:, when])
    assert rms(error[:, ~when]) < 0.15 * rms(true[:, ~when])
    removed = float(np.sum(laid_over**2) / np.sum(uv(blinking) ** 2))
    assert cleaned.quality["ica_removed_variance_fraction"] == pytest.approx(removed, abs=0.1)


def test_muscle_is_taken_out_as_muscle(clean: State) -> None:
    artefact, when = muscle(clean, "T3", onset_s=5.0, duration_s=30.0, rms_uv=20.0)
    true, spoiled = uv(averaged(clean)), averaged(with_values(clean, uv(clean) + artefact))
    cleaned = step(spoiled, settings=SETTINGS)
    assert (cleaned.quality["ica_removed"], cleaned.quality["ica_removed_muscle"]) == (1, 1)
    error, laid_over = uv(cleaned) - true, uv(spoiled) - true
    # With burst and EEG in one component, its EEG goes as well.
    assert rms(error[:, when]) < 0.3 * rms(laid_over[:, when])
    assert rms(error) < 0.15 * rms(true)


def test_an_unlikely_label_takes_nothing_out(blinking: State) -> None:
    left = step(blinking, settings=SETTINGS.model_copy(update={"min_probability": 1.0}))
    assert left.quality["ica_removed"] == 0


def test_interpolated_channels_and_the_reference_lower_the_number_of_components(blinking: State) -> None:
    raw = blinking.raw.copy()
    raw.info["bads"] = ["C3", "P4"]
    filled = interpolate(State(raw=raw, bad=frozenset({"C3", "P4"})), settings=InterpolateSettings(min_good_channels=8))
    cleaned = step(averaged(filled), settings=SETTINGS)
    assert cleaned.quality["ica_components"] == 19 - 2 - 1
    assert cleaned.quality["ica_removed_eye"] == 1


def test_bad_channels_are_left_as_they_are(blinking: State) -> None:
    values = uv(blinking)
    row = blinking.raw.ch_names.index("Pz")
    values[row] = 1e4 * np.random.default_rng(0).standard_normal(values.shape[1])
    spoiled = with_values(blinking, values)
    spoiled.raw.info["bads"] = ["Pz"]
    cleaned = step(replace(spoiled, bad=frozenset({"Pz"})), settings=SETTINGS)
    assert cleaned.quality["ica_removed_eye"] == 1
    np.testing.assert_allclose(uv(cleaned)[row], values[row], rtol=1e-12)


def test_two_runs_give_the_same_bytes_with_any_number_of_threads(blinking: State) -> None:
    first = step(blinking, settings=SETTINGS)
    with threadpool_limits(2):
        second = step(blinking, settings=SETTINGS)
    assert uv(first).tobytes() == uv(second).tobytes()
    assert first.quality == second.quality


def test_what_labels_need_is_named(shared_data: Path, clean: State) -> None:
    with pytest.raises(Unreadable, match="sampled at 160 Hz"):
        step(averaged(eegbci(shared_data, 1)), settings=SETTINGS)
    with pytest.raises(Unreadable, match="average reference"):
        step(clean, settings=SETTINGS)
    nowhere = averaged(clean)
    for channel in nowhere.raw.info["chs"]:
        channel["loc"][:3] = np.nan
    with pytest.raises(Unreadable, match="0 good channels with a position"):
        step(nowhere, settings=SETTINGS)


def test_without_torch_it_is_said_before_anything_is_done(clean: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurofm.eeg.components.find_spec", lambda name: None if name == "torch" else find_spec(name))
    settings = Clean(artefacts=Artefacts.ICA)
    with pytest.raises(UserError, match="`artefacts: ica` needs torch"):
        tiers.clean(clean, settings=settings, band=Band(highpass_hz=1.0, lowpass_hz=40.0), rate=Rate(rate_hz=100.0))
