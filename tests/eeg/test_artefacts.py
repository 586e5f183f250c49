from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg import State
from neurofm.eeg.artefacts import ArtefactSettings, step
from neurofm.recording import Unreadable
from tests.eeg.real import averaged, blinks, eegbci, eegmat, muscle, rms, uv, with_values

SETTINGS = ArtefactSettings(cutoff=20.0, min_clean_s=20.0)


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> State:
    return eegmat(shared_data, "00_1")


@pytest.fixture(scope="module")
def blinking(shared_data: Path) -> State:
    """Eyes open, blinking every two seconds or so: 800 uV above the eyes."""
    state = eegbci(shared_data, 1)
    return averaged(State(raw=state.raw.drop_channels(["C4", "CP6", "T8"]).filter(1.0, None, verbose="error")))


@pytest.mark.parametrize(("kind", "residual", "lost"), [("blink", 0.2, 0.06), ("muscle", 0.1, 0.06)])
def test_a_burst_is_taken_out_and_the_rest_is_left(clean: State, kind: str, residual: float, lost: float) -> None:
    if kind == "blink":
        artefact, when = blinks(clean, onsets_s=[5.0, 17.0, 29.0], peak_uv=200.0)
    else:
        artefact, when = muscle(clean, "T3", onset_s=20.0, duration_s=2.0, rms_uv=60.0)
    true, spoiled = averaged(clean), averaged(with_values(clean, uv(clean) + artefact))
    laid_over = uv(spoiled) - uv(true)
    cleaned = step(spoiled, settings=SETTINGS)
    error = uv(cleaned) - uv(true)
    # What is left of the artefact, and what is gone of the EEG under it, over the artefact.
    assert rms(error[:, when]) < residual * rms(laid_over[:, when])
    # What is gone of the EEG elsewhere: half a second around each burst is rebuilt with it.
    assert rms(error[:, ~when]) < lost * rms(uv(true)[:, ~when])
    assert 0 < float(str(cleaned.quality["asr_changed_fraction"])) < 0.2
    removed = float(np.sum(laid_over**2) / np.sum(uv(spoiled) ** 2))
    assert cleaned.quality["asr_removed_variance_fraction"] == pytest.approx(removed, abs=0.1)


def test_a_clean_recording_is_hardly_touched(clean: State) -> None:
    cleaned = step(averaged(clean), settings=SETTINGS)
    assert float(str(cleaned.quality["asr_changed_fraction"])) < 0.01
    assert float(str(cleaned.quality["asr_removed_variance_fraction"])) < 0.005
    same = (np.abs(uv(cleaned) - uv(averaged(clean))) < 1e-9).all(axis=0)
    assert same.mean() > 0.99


def test_real_blinks_are_taken_out_and_calm_seconds_are_left(blinking: State) -> None:
    cleaned = step(blinking, settings=SETTINGS)
    row = blinking.raw.ch_names.index("Fp1")
    before, after = uv(blinking), uv(cleaned)
    assert np.ptp(before[row]) > 700
    assert np.ptp(after[row]) < 350
    assert after[row].std() < 0.35 * before[row].std()
    calm = np.abs(before[row]).reshape(-1, 160).max(axis=1) < 60
    assert calm.sum() > 10
    changed = (before - after).reshape(len(before), -1, 160)
    kept = np.sqrt((changed**2).mean(axis=(0, 2)))[calm]
    assert np.median(kept) < 0.1 * rms(before[:, np.repeat(calm, 160)])


def test_two_runs_give_the_same_bytes_with_any_number_of_threads(blinking: State) -> None:
    first = step(blinking, settings=SETTINGS)
    with threadpool_limits(2):
        second = step(blinking, settings=SETTINGS)
    assert uv(first).tobytes() == uv(second).tobytes()
    assert first.quality == second.quality


def test_bad_and_silent_channels_are_left_and_not_learnt_from(blinking: State) -> None:
    values = uv(blinking)
    names = blinking.raw.ch_names
    values[names.index("P1")] = 1e4 * np.random.default_rng(0).standard_normal(values.shape[1])
    values[names.index("P2")] = 0.0
    spoiled = replace(with_values(blinking, values), silent=frozenset({"P2"}))
    spoiled.raw.info["bads"] = ["P1"]
    cleaned = uv(step(spoiled, settings=SETTINGS))
    for name in ("P1", "P2"):
        np.testing.assert_allclose(cleaned[names.index(name)], values[names.index(name)], rtol=1e-12)
    assert np.ptp(cleaned[names.index("Fp1")]) < 350


def test_too_little_clean_eeg_is_a_reason(clean: State) -> None:
    with pytest.raises(Unreadable, match="10 s of EEG; ASR needs 20 s"):
        step(State(raw=clean.raw.copy().crop(0, 10, include_tmax=False)), settings=SETTINGS)
