"""Matrices of one recording against numpy and nilearn."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from pydantic import ValidationError
from scipy.stats import zscore

from neurofm.connectivity.matrices import BEFORE, CORRELATION, connect
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.recording import Signal, Unreadable
from neurofm.shards import Shard, read_shard
from tests.movers import mover, write_movers


@pytest.fixture
def shard(shards: Path) -> Shard:
    """A run of which some volumes are scrubbed and parcel 3 is not usable."""
    found = read_shard(shards / "moved" / "sub-03.zarr.zip", extra=True)
    assert 0 < (~found.valid).sum() < 100
    assert np.flatnonzero(~found.usable).tolist() == [3]
    return found


def test_correlation_is_pearsons_over_usable_parcels_and_valid_volumes(
    shard: Shard, settings: ConnectivitySettings
) -> None:
    made = connect(shard, settings=settings, where="run")
    assert made.volumes == shard.valid.sum()
    assert made.parcels == shard.recording.channels.id
    for name, values in (
        (CORRELATION, shard.values()),
        (BEFORE, shard.recording.extra_signals["uncleaned"].values),
    ):
        matrix = made.matrices[name]
        assert matrix.dtype == np.float32
        known = np.ix_(shard.usable, shard.usable)
        expected = np.corrcoef(values[shard.valid][:, shard.usable], rowvar=False)
        np.testing.assert_allclose(matrix[known], expected, atol=2e-6)
        assert np.isnan(matrix[3]).all()
        assert np.isnan(matrix[:, 3]).all()
        np.testing.assert_array_equal(matrix, matrix.T)
    assert not np.allclose(made.matrices[CORRELATION], made.matrices[BEFORE], atol=0.1, equal_nan=True)


def test_partial_correlation_is_nilearns(shard: Shard, settings: ConnectivitySettings) -> None:
    matrix = connect(shard, settings=settings, where="run").matrices["partial_correlation"]
    z = zscore(shard.values()[shard.valid][:, shard.usable].astype(np.float64), ddof=1)
    (expected,) = ConnectivityMeasure(kind="partial correlation", standardize=False).fit_transform([z])
    np.testing.assert_allclose(matrix[np.ix_(shard.usable, shard.usable)], expected, atol=1e-5)


def test_a_parcel_that_never_changes_has_no_edges(shard: Shard, settings: ConnectivitySettings) -> None:
    stored = shard.stored.copy()
    stored[shard.valid, 7] = stored[shard.valid, 7][0]  # What is scrubbed still changes.
    matrix = connect(replace(shard, stored=stored), settings=settings, where="run").matrices[CORRELATION]
    assert np.flatnonzero(np.isnan(matrix).all(axis=0)).tolist() == [3, 7]


def test_without_confounds_there_is_no_matrix_before(shards: Path, settings: ConnectivitySettings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = connect(read_shard(shards / "plain" / "sub-00.zarr.zip"), settings=settings, where="run")
    assert set(made.matrices) == {CORRELATION, "partial_correlation"}


def test_too_little_is_refused_with_the_files_name(shard: Shard, settings: ConnectivitySettings) -> None:
    few = np.arange(len(shard.valid)) < settings.min_volumes - 1
    with pytest.raises(Unreadable, match=r"run\.zip: 49 valid volumes, connectivity needs 50"):
        connect(replace(shard, valid=few), settings=settings, where="run.zip")
    channels = shard.recording.channels
    one = replace(channels, quality={"usable": (np.arange(len(channels)) == 1).astype(np.float32)})
    lonely = replace(shard, recording=replace(shard.recording, channels=one))
    with pytest.raises(Unreadable, match=r"run\.zip: 1 usable parcels"):
        connect(lonely, settings=settings, where="run.zip")


def test_unit_of_a_parcel_does_not_matter(tmp_path: Path, shared_data: Path, settings: ConnectivitySettings) -> None:
    """The shrunk covariance depends on the units of what it shrinks."""
    recording = mover(shared_data, 3)
    assert recording.signal is not None
    factor = np.where(np.arange(len(recording.channels)) % 2, 1.0, 50.0)
    values = (recording.signal.values * factor).astype(np.float32)
    scaled = replace(recording, signal=Signal(values=values, sampling_rate_hz=0.5, units="a.u."))
    write_movers(tmp_path, {"one": recording, "scaled": scaled})
    one, other = (
        connect(read_shard(tmp_path / f"{name}.zarr.zip"), settings=settings, where=name) for name in ("one", "scaled")
    )
    for name, matrix in one.matrices.items():
        np.testing.assert_allclose(matrix, other.matrices[name], atol=2e-3)


@pytest.mark.parametrize("kinds", [["tangent", "correlation"], ["partial correlation"], ["correlation", "correlation"]])
def test_kinds_that_cannot_be_are_refused(settings: ConnectivitySettings, kinds: list[str]) -> None:
    with pytest.raises(ValidationError):
        ConnectivitySettings.model_validate(settings.model_dump() | {"kinds": kinds})
