"""CaImAn: recorded traces in the program's own layout (see ophys_layouts.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurofm.recording import Modality, Unreadable
from tests.readers.ophys_layouts import FRAMES, Miniscope, write_caiman, write_stamps
from tests.readers.ophys_reading import Source, read, shard_of, values_of


def test_caiman_components(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=[1, 4, 7])
    recording = read("caiman", source_of, path, Modality.MINISCOPE)
    np.testing.assert_array_equal(values_of(recording), miniscope.traces[[1, 4, 7]].T)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids[[1, 4, 7]])
    assert recording.channels.id == ("component-1", "component-4", "component-7")
    np.testing.assert_allclose(recording.channels.quality["snr"], np.linspace(2, 12, 10)[[1, 4, 7]])
    assert set(recording.channels.quality) == {"snr", "spatial_correlation"}
    assert recording.signal is not None
    assert (recording.signal.sampling_rate_hz, recording.signal.units) == (30, "a.u.")
    assert recording.sample_time_s is None
    assert len(read("caiman", source_of, path, Modality.MINISCOPE, accepted_only=False).channels) == 10


def test_caiman_without_evaluation_takes_all(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=None)
    assert len(read("caiman", source_of, path, Modality.MINISCOPE).channels) == 10
    with pytest.raises(Unreadable, match=r"estimates/F_dff was not computed"):
        read("caiman", source_of, path, Modality.MINISCOPE, signal="F_dff")


def test_caiman_lost_frames_are_marked_in_the_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=None)
    times = np.arange(FRAMES) / 30.0
    times[1500:] += 2.0  # the camera was away for two seconds
    write_stamps(tmp_path / "timeStamps.csv", times)
    recording = read("caiman", source_of, path, Modality.MINISCOPE)
    assert recording.sample_time_s is not None
    assert np.diff(recording.sample_time_s).max() == pytest.approx(2.033, abs=0.002)
    shard = shard_of(recording, tmp_path / "a.zarr.zip")
    # Whole milliseconds (33, 33, 34) make it a frame more or less.
    assert shard.recording.quality["dropped_frames"] == pytest.approx(60, abs=1)
    gap = (shard.time_s > 50.1) & (shard.time_s < 51.9)
    assert not shard.valid[gap].any()
    assert shard.valid[shard.time_s < 49.5].all()


def _set(path: Path, name: str, values: Any) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: _set(p, "estimates/idx_components", np.zeros(0, dtype=int)), "none of 10 components was accepted"),
        (lambda p: _set(p, "estimates/idx_components", np.array([10])), "names component 10, but there are 10"),
        (lambda p: _set(p, "estimates/C", np.zeros((FRAMES, 10))), r"estimates/C: has shape 3000 x 10.*transposed"),
        (lambda p: _set(p, "estimates/C", np.full((10, 5), np.nan)), "every trace is NaN"),
        (lambda p: _set(p, "params/data/fr", "NoneType"), "is no frame rate"),
        (lambda p: _set(p, "estimates", np.zeros(3)), "not a result of CaImAn"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "not readable"),
        (lambda p: write_stamps(p.with_name("timeStamps.csv"), np.arange(FRAMES - 1) / 30), "3000 frames, but .* 2999"),
        (lambda p: write_stamps(p.with_name("timeStamps.csv"), np.arange(10.0)), "10 timestamps.*transposed"),
        (
            lambda p: write_stamps(p.with_name("timeStamps.csv"), np.arange(FRAMES)[::-1] / 30.0),
            r"timeStamps\.csv: timestamps go back or stand still at row 2",
        ),
    ],
)
def test_caiman_bad_input(
    miniscope: Miniscope, source_of: Source, tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=[0])
    damage(path)
    with pytest.raises(Unreadable, match=said):
        read("caiman", source_of, path, Modality.MINISCOPE)
