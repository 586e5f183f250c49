"""Channel statistics find what is known of made-up signals, and stay finite for broken ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.model.identity import IDENTITY_FEATURES, identity_features
from neurofm.model.statistics import STATISTICS, channel_statistics


def _column(name: str) -> int:
    return STATISTICS.index(name)


def test_autocorrelation_of_an_autoregressive_signal() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((20_000, 1), dtype=np.float32)
    for now in range(1, len(x)):
        x[now] = 0.8 * x[now - 1] + rng.normal()
    found = channel_statistics([x[:9000], x[9000:]], counts=False, sampling_rate_hz=10.0)[0]
    assert found[_column("autocorrelation_1")] == pytest.approx(0.8, abs=0.03)
    assert found[_column("autocorrelation_4")] == pytest.approx(0.8**4, abs=0.05)


def test_rate_and_fano_of_poisson_counts() -> None:
    counts = np.random.default_rng(1).poisson(0.2, size=(50_000, 3)).astype(np.float32)
    found = channel_statistics([counts], counts=True, sampling_rate_hz=50.0)
    np.testing.assert_allclose(found[:, _column("level")], np.log10(10.0), atol=0.02)
    np.testing.assert_allclose(found[:, _column("fano")], 0.0, atol=0.03)


def test_population_correlation_leaves_the_channel_itself_out() -> None:
    x = np.random.default_rng(2).normal(size=(20_000, 4)).astype(np.float32)
    x[:, 1] = x[:, 0]
    found = channel_statistics([x], counts=False, sampling_rate_hz=10.0)[:, _column("population_correlation")]
    np.testing.assert_allclose(found[:2], 1 / np.sqrt(3), atol=0.02)
    np.testing.assert_allclose(found[2:], 0.0, atol=0.02)


@pytest.mark.parametrize("counts", [True, False])
def test_constant_and_empty_channels_stay_finite(*, counts: bool) -> None:
    for parts in ([np.full((40, 3), 2.0, dtype=np.float32)], [np.zeros((3, 3), dtype=np.float32)]):
        found = channel_statistics(parts, counts=counts, sampling_rate_hz=10.0)
        assert found.shape == (3, len(STATISTICS))
        assert np.abs(found).max() <= 4.0


def test_position_is_scaled_by_the_recording_and_unknown_ones_are_flagged() -> None:
    position: npt.NDArray[np.float32] = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)
    position[4] = np.nan
    statistics = np.zeros((20, len(STATISTICS)), dtype=np.float32)
    millimetres, metres = (
        identity_features(position, statistics),
        identity_features(position / np.float32(1000), statistics),
    )
    assert millimetres.shape == (20, IDENTITY_FEATURES)
    np.testing.assert_allclose(millimetres.numpy(), metres.numpy(), atol=1e-5)
    assert millimetres[4, :4].tolist() == [0, 0, 0, 0]
    assert millimetres[5, 3] == 1
