"""Lagged products of several sampling intervals: real fMRI of one TR, and of every second volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurofm.model.pooled_lags import PooledLags, interval_of
from neurofm.model.prior import LagSums, PriorSettings, StationaryPrior, lag_sums, spectra_of
from neurofm.model.stationary_core import STATIONARY
from neurofm.recording import Modality

CHANNELS = 6


@pytest.fixture(scope="module")
def series(shared_data: Path) -> list[Tensor]:
    """Three persons of ds000228, six parcels, a volume every two seconds."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[:3]
    raw = [np.load(file).astype(np.float64)[:, :CHANNELS] for file in files]
    return [torch.from_numpy((one - one.mean(axis=0)) / one.std(axis=0)) for one in raw]


def sums_of(x: Tensor, *, lags: int) -> LagSums:
    return lag_sums([x], valid=[torch.ones(len(x), dtype=torch.bool)], lags=lags, channels=CHANNELS)


def pooled(x: Tensor, *, interval_s: float, lags: int) -> PooledLags:
    return PooledLags(by_interval={interval_s: sums_of(x, lags=lags)})


def covariances(sums: LagSums) -> Tensor:
    return sums.products / sums.pairs[:, None, None]


def test_recordings_of_one_interval_are_summed_as_ever(series: list[Tensor]) -> None:
    parts = [pooled(x, interval_s=2.0, lags=16) for x in series]
    found = PooledLags.total(parts).at(2.0, lags=16)
    expected = LagSums.total([sums_of(x, lags=16) for x in series], channels=CHANNELS, lags=16)
    assert torch.equal(found.products, expected.products)
    assert torch.equal(found.pairs, expected.pairs)


def test_a_slower_recording_is_expected_from_the_same_seconds(series: list[Tensor]) -> None:
    fast = pooled(series[0], interval_s=2.0, lags=32)
    found = fast.at(4.0, lags=16)
    torch.testing.assert_close(covariances(found), covariances(sums_of(series[0], lags=32))[::2])
    assert found.pairs[0] == len(series[0])
    in_samples = covariances(sums_of(series[0], lags=16))
    truth = covariances(sums_of(series[0][::2], lags=16))
    assert (covariances(found) - truth).square().mean() < 0.5 * (in_samples - truth).square().mean()


def test_a_faster_one_is_expected_between_lags_and_its_spectra_stay_positive(series: list[Tensor]) -> None:
    every_second = pooled(series[0][::2], interval_s=4.0, lags=16)
    found = covariances(every_second.at(2.0, lags=16))
    known = covariances(sums_of(series[0][::2], lags=16))
    torch.testing.assert_close(found[::2], known[:9])
    torch.testing.assert_close(found[1::2], (known[:8] + known[1:9]) / 2)
    # Exact sums over all lags have spectra that are nowhere negative, before anything is lifted; so has what is read.
    whole = sums_of(series[0][:40:2], lags=20)
    biased = LagSums(pairs=torch.full_like(whole.pairs, float(whole.pairs[0])), products=whole.products)
    read = covariances(PooledLags(by_interval={4.0: biased}).at(2.0, lags=40))
    both = torch.fft.fft(read, n=96, dim=0)
    hermitian = both + both.mH - read[:1]
    assert torch.linalg.eigvalsh(hermitian).min() > -1e-9
    assert torch.linalg.eigvalsh(spectra_of(read, fft_samples=96, shrinkage=0.05)).min() > 0


def test_lags_beyond_what_was_summed_count_for_none(series: list[Tensor]) -> None:
    found = pooled(series[0], interval_s=2.0, lags=16).at(3.0, lags=16)
    assert found.pairs[10] > 0
    assert found.pairs[11:].tolist() == [0] * 6
    assert not found.products[11:].any()
    both = PooledLags.total([pooled(series[0], interval_s=2.0, lags=16), pooled(series[1], interval_s=3.0, lags=16)])
    torch.testing.assert_close(both.at(3.0, lags=16).products[11:], sums_of(series[1], lags=16).products[11:])
    settings = PriorSettings(lags=16, fft_samples=80, shrinkage=0.05)
    assert torch.linalg.eigvalsh(StationaryPrior.fit(found, settings=settings).spectra).min() > 0


def test_a_recording_can_be_taken_out_again(series: list[Tensor]) -> None:
    one, two = pooled(series[0], interval_s=2.0, lags=16), pooled(series[1], interval_s=0.72, lags=44)
    left = PooledLags.total([two, one]) - two
    torch.testing.assert_close(left.at(2.0, lags=16).products, one.at(2.0, lags=16).products)
    assert list(left.by_interval) == [0.72, 2.0]
    assert left.by_interval[0.72].pairs[0] == 0


def test_intervals_are_told_apart_to_three_digits() -> None:
    assert [interval_of(rate) for rate in (0.5, 1 / 0.72, 1 / 0.7200003, 100.0)] == [2.0, 0.72, 0.72, 0.01]


@pytest.mark.parametrize(("interval_s", "lags"), [(0.4, 48), (0.72, 44), (2.0, 16), (3.0, 16)])
def test_as_many_seconds_are_summed_as_a_usual_recording_asks_for(interval_s: float, lags: int) -> None:
    assert STATIONARY[Modality.FMRI].summed_lags(interval_s) == lags
