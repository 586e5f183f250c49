from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg import State
from neurofm.eeg.reject import RejectSettings, step
from neurofm.recording import Unreadable
from tests.eeg.real import averaged, blinks, eegmat, muscle, uv, with_values

SETTINGS = RejectSettings(epoch_s=2.0, seed=0)
RATE = 500


@pytest.fixture(scope="module")
def clean(shared_data: Path) -> State:
    return averaged(eegmat(shared_data, "07_1"))


@pytest.fixture(scope="module")
def spoiled(clean: State) -> State:
    """Blinks in epochs 2 and 11, muscle in epoch 16 of 20."""
    blinked, _ = blinks(clean, onsets_s=[5.0, 22.5], peak_uv=300.0)
    tense, _ = muscle(clean, "T4", onset_s=32.2, duration_s=1.0, rms_uv=100.0)
    return with_values(clean, uv(clean) + blinked + tense)


def masked_epochs(state: State) -> list[int]:
    epochs = state.masked[: state.masked.size // (2 * RATE) * 2 * RATE].reshape(-1, 2 * RATE)
    assert (epochs.all(axis=1) == epochs.any(axis=1)).all()
    return [int(i) for i in np.flatnonzero(epochs.all(axis=1))]


def test_epochs_with_artefacts_are_masked_and_nothing_is_deleted(clean: State, spoiled: State) -> None:
    judged = step(spoiled, settings=SETTINGS)
    assert masked_epochs(judged) == [2, 11, 16]
    assert judged.quality["rejected_fraction"] == pytest.approx(0.15, abs=1e-3)
    np.testing.assert_array_equal(uv(judged), uv(spoiled))
    assert judged.masked.shape == (spoiled.raw.n_times,)
    quiet = np.ptp(uv(clean)[:, : 20 * 2 * RATE].reshape(19, 20, -1), axis=2).max()
    assert 0.999 * quiet < float(str(judged.quality["reject_threshold_uv"])) < 300


def test_what_was_masked_stays_so_and_is_not_learnt_from(spoiled: State) -> None:
    masked = np.zeros(spoiled.raw.n_times, dtype=np.bool_)
    masked[5 * RATE - 50 : 6 * RATE] = True  # The first blink, but not the whole of its epoch.
    judged = step(replace(spoiled, masked=masked), settings=SETTINGS)
    fresh = judged.masked & ~masked
    assert sorted({int(i) // (2 * RATE) for i in np.flatnonzero(fresh)}) == [11, 16]
    assert judged.masked[masked].all()
    assert judged.quality["rejected_fraction"] == pytest.approx(fresh.sum() / (~masked).sum())


def test_the_end_is_judged_too(clean: State) -> None:
    values = uv(clean)[:, : 39 * RATE]
    values[3, -RATE // 2] += 1000.0
    judged = step(with_values(clean, values), settings=SETTINGS)
    assert judged.masked[-RATE:].all()
    assert not judged.masked[-RATE - 1]


def test_bad_channels_reject_nothing(clean: State) -> None:
    values = uv(clean)
    values[clean.raw.ch_names.index("O1")] *= 1000.0
    spoiled = with_values(clean, values)
    spoiled.raw.info["bads"] = ["O1"]
    rest = with_values(clean, uv(clean))
    rest.raw.info["bads"] = ["O1"]
    judged, expected = step(spoiled, settings=SETTINGS), step(rest, settings=SETTINGS)
    np.testing.assert_array_equal(judged.masked, expected.masked)
    assert judged.quality == expected.quality


def test_two_runs_give_the_same_bytes_with_any_number_of_threads(spoiled: State) -> None:
    first = step(spoiled, settings=SETTINGS)
    with threadpool_limits(2):
        second = step(spoiled, settings=SETTINGS)
    assert first.masked.tobytes() == second.masked.tobytes()
    assert first.quality == second.quality


def test_too_few_epochs_are_a_reason(clean: State) -> None:
    with pytest.raises(Unreadable, match="4 whole epochs of 2 s"):
        step(State(raw=clean.raw.copy().crop(0, 9)), settings=SETTINGS)
