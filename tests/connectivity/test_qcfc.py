"""QC-FC where the answer is known: real edges, to which motion is added by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import pearsonr, spearmanr

from neurofm.connectivity.qcfc import DISTANCE, MEDIAN, NULL_BINS, SHARE, change, qc_fc
from neurofm.connectivity.settings import ConnectivitySettings
from tests.movers import FOLDER

Floats = npt.NDArray[np.float64]
RUNS = 30


@pytest.fixture(scope="module")
def edges(shared_data: Path) -> Floats:
    """[recording, edge] real correlations between 40 parcels."""
    files = sorted((shared_data / FOLDER / "timeseries").glob("*BASC064_timeseries.npy"))[:RUNS]
    below = np.tril_indices(40, k=-1)
    return np.stack([np.corrcoef(np.load(file)[:, :40], rowvar=False)[below] for file in files])


@pytest.fixture(scope="module")
def fd() -> Floats:
    """[recording] in an order that no subject is asked for."""
    return np.random.default_rng(5).permutation(np.linspace(0.05, 0.6, RUNS))


@pytest.fixture(scope="module")
def distance(edges: Floats) -> Floats:
    return np.linspace(5.0, 120.0, edges.shape[1])


@pytest.fixture(scope="module")
def moved(edges: Floats, fd: Floats) -> Floats:
    """Every fourth edge follows motion."""
    slope = np.where(np.arange(edges.shape[1]) % 4 == 0, 3.0, 0.0)
    return np.asarray(edges + slope * (fd - fd.mean())[:, None], dtype=np.float64)


def test_r_is_pearsons_over_the_recordings_that_have_the_edge(
    edges: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings
) -> None:
    holed = edges.copy()
    holed[:7, 1] = np.nan
    holed[: RUNS - settings.min_recordings_qcfc + 1, 2] = np.nan  # One too few.
    far = distance.copy()
    far[5] = np.nan
    found = qc_fc(holed, fd, distance=far, settings=settings)
    expected = np.array([pearsonr(fd[np.isfinite(e)], e[np.isfinite(e)]) for e in holed.T])
    kept = np.arange(len(far)) != 2
    np.testing.assert_allclose(found.r[kept], expected[kept, 0], atol=1e-10)
    assert np.isnan(found.r[2])
    assert found.estimates[MEDIAN].value == pytest.approx(np.median(np.abs(expected[kept, 0])))
    assert found.estimates[SHARE].value == pytest.approx(np.mean(expected[kept, 1] < 0.05))
    near = kept & np.isfinite(far)
    assert found.estimates[DISTANCE].value == pytest.approx(spearmanr(expected[near, 0], far[near]).statistic)


def test_edges_that_follow_motion_are_found_and_others_not(
    moved: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings
) -> None:
    found = qc_fc(moved, fd, distance=distance, settings=settings)
    follows = np.arange(moved.shape[1]) % 4 == 0
    assert (found.r[follows] > 0.5).all()
    assert np.median(found.r[follows]) > 0.85
    assert np.median(np.abs(found.r[~follows])) < 0.25
    share = found.estimates[SHARE]
    assert share.value > 0.25
    assert share.null_high < share.value
    assert share.p < 0.05
    assert share.ci_low < share.value < share.ci_high


def test_without_motion_the_value_lies_in_its_null(
    edges: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings
) -> None:
    found = qc_fc(edges, fd, distance=distance, settings=settings)
    for name in (MEDIAN, SHARE):
        estimate = found.estimates[name]
        assert estimate.null_low <= estimate.value <= estimate.null_high
        assert estimate.p > 0.05
    assert 0.03 < found.estimates[SHARE].null < 0.07, "5 % of edges are significant by chance"
    assert found.null_counts.sum() == pytest.approx(edges.shape[1])
    assert len(found.null_counts) == len(NULL_BINS) - 1


def test_what_cleaning_does_is_told_with_an_interval(
    edges: Floats, moved: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings
) -> None:
    after, before = (qc_fc(x, fd, distance=distance, settings=settings) for x in (edges, moved))
    value, low, high = change(after, before)
    assert low < value < high < 0
    assert value == pytest.approx(after.estimates[MEDIAN].value - before.estimates[MEDIAN].value)
    assert change(after, after) == (0.0, 0.0, 0.0)


def test_dependence_on_distance_is_found(
    edges: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings
) -> None:
    """Motion adds to short edges and takes from long ones (Power 2012)."""
    short = edges + (1 - distance / 60.0) * (fd - fd.mean())[:, None]
    found = qc_fc(short, fd, distance=distance, settings=settings).estimates[DISTANCE]
    assert found.value < -0.8
    assert found.p == 1 / (settings.permutations + 1)
    unknown = qc_fc(short, fd, distance=np.full_like(distance, np.nan), settings=settings)
    assert DISTANCE not in unknown.estimates


def test_the_same_twice_and_otherwise_with_another_seed(
    edges: Floats, fd: Floats, distance: Floats, settings: ConnectivitySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = qc_fc(edges, fd, distance=distance, settings=settings).estimates
    assert qc_fc(edges, fd, distance=distance, settings=settings).estimates == first
    other = settings.model_copy(update={"seed": settings.seed + 1})
    assert qc_fc(edges, fd, distance=distance, settings=other).estimates != first
    monkeypatch.setattr("neurofm.connectivity.qcfc._AT_ONCE", 3 * edges.shape[1])
    rounds = qc_fc(edges, fd, distance=distance, settings=settings).estimates
    assert rounds[MEDIAN].null == pytest.approx(first[MEDIAN].null, rel=1e-9), "rounds are for memory only"
