"""Trials on one clock: nothing crosses from one to the next."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.preprocess import preprocess_recording
from neurofm.preprocess.calcium import ModalitySettings as CalciumSettings
from neurofm.preprocess.common import Common, resample
from neurofm.preprocess.miniscope import ModalitySettings as MiniscopeSettings
from neurofm.preprocess.spikes import ModalitySettings as SpikeSettings
from neurofm.readers.shared.trial_clock import end_to_end
from neurofm.recording import Channels, Clock, Modality, Recording, Signal, Target, Unreadable
from neurofm.settings import Settings

COMMON = Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5)
SPIKES = SpikeSettings(bin_ms=20, isi_violation_ms=1.5, presence_block_s=60.0)
CALCIUM = CalciumSettings(neuropil_coefficient=0.7, rate_hz=10.0)
MINISCOPE = MiniscopeSettings(rate_hz=10.0)


def _recording(trials: list[np.ndarray], *, period_s: float, modality: Modality, units: str) -> Recording:
    clock = end_to_end([len(trial) for trial in trials], period_s=period_s, gap_s=0.2)
    n = trials[0].shape[1]
    fill = 0 if modality is Modality.SPIKES else np.nan
    values = np.full((clock.samples, n), fill, dtype=trials[0].dtype)
    values[clock.rows()] = np.concatenate(trials)
    number = np.repeat(np.arange(len(trials)), clock.length)[:, None].astype(np.float64)
    return Recording(
        dataset="made",
        subject="made:01",
        session="",
        run="",
        task="",
        species="Mus musculus",
        modality=modality,
        channels=Channels(id=tuple(map(str, range(n))), position=np.full((n, 3), np.nan), position_unit=""),
        clock=Clock(id="made/rec"),
        signal=Signal(values=values, sampling_rate_hz=1 / period_s, units=units),
        stretches=clock.stretches,
        targets={
            "trial": Target(
                values=number, unit="", columns=("0",), time_s=np.asarray(clock.rows() * period_s, dtype=np.float64)
            )
        },
    )


@pytest.mark.parametrize(("modality", "settings"), [(Modality.CALCIUM, CALCIUM), (Modality.MINISCOPE, MINISCOPE)])
def test_traces_keep_to_their_trial(modality: Modality, settings: Settings) -> None:
    # Each trial at a level of its own: anything carried over would show as another level.
    wiggle = 1e-3 * np.sin(np.arange(49))[:, None]
    trials = [np.full((49, 2), level) + wiggle for level in (0.0, 100.0, -50.0, 3.0)]
    recording = _recording(trials, period_s=0.0625, modality=modality, units="dF/F")
    clean = preprocess_recording(recording, settings=settings, common=COMMON)
    assert clean.signal is not None
    assert clean.valid is not None
    assert clean.signal.sampling_rate_hz == 10
    assert clean.stretches is None
    assert recording.stretches is not None
    level = np.array([0.0, 100.0, -50.0, 3.0])
    of = clean.targets["trial"].values[:, 0]
    for number, (start, stop) in enumerate(recording.stretches):
        inside = (clean.signal.time_s >= start) & (clean.signal.time_s < stop) & clean.valid
        assert inside.sum() in {30, 31}
        # The filter's own ripple is a quarter of a thousandth.
        np.testing.assert_allclose(clean.signal.values[inside], level[number], atol=0.03)
        np.testing.assert_array_equal(of[inside], number)
    gap = ~np.any([(clean.signal.time_s >= a) & (clean.signal.time_s < b) for a, b in recording.stretches], axis=0)
    assert gap.sum() >= 6
    assert not clean.valid[gap].any()
    assert np.isnan(of[gap]).all()
    # Gaps are no fault of the recording.
    assert float(clean.quality["valid_fraction"] or 0) > 0.95
    assert "excluded_reason" not in clean.quality


def test_a_trial_is_filtered_as_if_alone_and_stays_on_the_common_grid() -> None:
    rng = np.random.default_rng(0)
    values, recorded = rng.standard_normal((400, 3)), np.ones(400, dtype=bool)
    recorded[[*range(95, 112), *range(240, 243)]] = False
    lower, valid, rate = resample(values, recorded, from_hz=16, to_hz=10, recorded=recorded)
    alone, _, _ = resample(values[112:240], recorded[112:240], from_hz=16, to_hz=10)
    # Sample 112 is new sample 70, so the two grids agree.
    np.testing.assert_allclose(lower[70:150], alone[:80], atol=1e-12)
    other = values.copy()
    other[~recorded] = 1e6
    other[:95] *= 50
    again, _, _ = resample(other, recorded, from_hz=16, to_hz=10, recorded=recorded)
    np.testing.assert_array_equal(again[70:150], lower[70:150])
    assert not valid[(np.arange(len(valid)) * 1.6 > 94.9) & (np.arange(len(valid)) * 1.6 < 111.1)].any()
    assert rate == 10
    whole, _, _ = resample(values, np.ones(400, dtype=bool), from_hz=16, to_hz=10)
    one_piece, _, _ = resample(
        values, np.ones(400, dtype=bool), from_hz=16, to_hz=10, recorded=np.ones(400, dtype=bool)
    )
    np.testing.assert_allclose(one_piece, whole, atol=1e-12)


def test_counts_are_added_up_within_their_trial() -> None:
    rng = np.random.default_rng(0)
    trials = [rng.poisson(2.0, (n, 3)).astype(np.int64) for n in (40, 40, 41, 7)]
    recording = _recording(trials, period_s=0.01, modality=Modality.SPIKES, units="count")
    clean = preprocess_recording(recording, settings=SPIKES, common=COMMON)
    assert clean.signal is not None
    assert clean.valid is not None
    assert recording.stretches is not None
    assert clean.signal.sampling_rate_hz == 50
    for trial, (start, stop) in zip(trials, recording.stretches, strict=True):
        inside = (clean.signal.time_s >= start - 1e-9) & (clean.signal.time_s < stop - 1e-9) & clean.valid
        whole = len(trial) // 2
        expected = trial[: whole * 2].reshape(whole, 2, 3).sum(axis=1)
        np.testing.assert_array_equal(clean.signal.values[inside], expected)
    # A bin that reaches beyond its trial has not been counted to its end.
    assert clean.valid.sum() == 20 + 20 + 20 + 3
    counted = sum(trial[: len(trial) // 2 * 2].sum(axis=0) for trial in trials)
    np.testing.assert_allclose(clean.channels.quality["rate_hz"], counted / (63 * 0.02))
    assert clean.quality["duration_s"] == pytest.approx(63 * 0.02)


def test_wider_bins_stay_and_odd_ones_are_refused() -> None:
    wide = _recording([np.ones((11, 2), dtype=np.int64)], period_s=0.1, modality=Modality.SPIKES, units="count")
    clean = preprocess_recording(wide, settings=SPIKES, common=COMMON)
    assert clean.signal is not None
    assert clean.signal.sampling_rate_hz == pytest.approx(10)
    assert clean.quality["bin_ms"] == pytest.approx(100)
    odd = _recording([np.ones((11, 2), dtype=np.int64)], period_s=0.015, modality=Modality.SPIKES, units="count")
    with pytest.raises(Unreadable, match=r"bins of 15 ms do not make whole bins of 20 ms"):
        preprocess_recording(odd, settings=SPIKES, common=COMMON)
    rates = _recording([np.ones((11, 2))], period_s=0.01, modality=Modality.SPIKES, units="Hz")
    with pytest.raises(Unreadable, match=r"counts per bin; this signal is in 'Hz'"):
        preprocess_recording(rates, settings=SPIKES, common=COMMON)
