"""CNMF-E: recorded traces in the program's own layout (see ophys_layouts.py)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from neurofm.recording import Modality, Unreadable
from tests.readers.ophys_layouts import FRAMES, Miniscope, cnmfe_struct, write_cnmfe_v5, write_cnmfe_v73
from tests.readers.ophys_reading import Source, read, shard_of, values_of


@pytest.mark.parametrize("write", [write_cnmfe_v5, write_cnmfe_v73])
def test_cnmfe_struct_of_either_version(
    miniscope: Miniscope, source_of: Source, tmp_path: Path, write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "results.mat", miniscope)
    recording = read("cnmfe", source_of, path, Modality.MINISCOPE)
    np.testing.assert_array_equal(values_of(recording), miniscope.traces.T)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids)
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == 30
    raw = read("cnmfe", source_of, path, Modality.MINISCOPE, signal="C_raw")
    np.testing.assert_array_equal(values_of(raw), miniscope.traces.T + 0.5)
    deconvolved = read("cnmfe", source_of, path, Modality.MINISCOPE, signal="S")
    np.testing.assert_allclose(values_of(deconvolved), np.maximum(np.diff(miniscope.traces, axis=1, prepend=0), 0).T)


def test_cnmfe_to_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    recording = read("cnmfe", source_of, write_cnmfe_v73(tmp_path / "r.mat", miniscope), Modality.MINISCOPE)
    shard = shard_of(recording, tmp_path / "r.zarr.zip")
    assert shard.stored.shape[1] == 10
    assert shard.recording.channels.position_unit == "px"


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def _opaque_v5(path: Path) -> Path:
    """Write the bytes that ``save('x.mat', 'neuron')`` makes of an object of class Sources2D, shortened."""
    numbers = _element(6, struct.pack("<II", 13, 0)) + _element(5, struct.pack("<ii", 1, 1)) + _element(1, b"")
    handle = _element(14, numbers + _element(6, struct.pack("<I", 0xDD000000)))
    names = _element(1, b"neuron") + _element(1, b"MCOS") + _element(1, b"Sources2D")
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    path.write_bytes(header + _element(14, _element(6, struct.pack("<II", 17, 0)) + names + handle))
    return path


def _object_v73(path: Path) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["neuron"] = np.array([[0xDD000000, 2, 1, 1, 1, 1]], dtype=np.uint32)
        file["neuron"].attrs["MATLAB_class"] = np.bytes_("Sources2D")
        file["neuron"].attrs["MATLAB_object_decode"] = np.int32(3)
    return path


@pytest.mark.parametrize("write", [_opaque_v5, _object_v73])
def test_cnmfe_objects_are_refused_with_the_mend(
    source_of: Source, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    with pytest.raises(Unreadable, match=r"neuron\.mat: holds an object of MATLAB's class Sources2D.*obj2struct"):
        read("cnmfe", source_of, write(tmp_path / "neuron.mat"), Modality.MINISCOPE)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"C": np.zeros((FRAMES, 10))}, r"C: has shape 3000 x 10, but A lists 10 cells: it is transposed"),
        ({"C": np.zeros((9, FRAMES))}, r"C: has shape 9 x 3000, but A lists 10 cells"),
        ({"C": np.full((10, 9), np.nan)}, "every trace is NaN"),
        ({"C": np.zeros((0, 0))}, "no field C"),
        ({"A": np.zeros((0, 0))}, "A lists 0 cells"),
        ({"Fs": np.nan}, "Fs is no frame rate"),
    ],
)
def test_cnmfe_bad_input(
    miniscope: Miniscope, source_of: Source, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = write_cnmfe_v5(tmp_path / "r.mat", miniscope, **changed)
    with pytest.raises(Unreadable, match=said):
        read("cnmfe", source_of, path, Modality.MINISCOPE)


def test_cnmfe_other_names(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    scipy.io.savemat(path, {"day1": cnmfe_struct(miniscope), "x": 1.0})
    with pytest.raises(Unreadable, match=r"r\.mat: no struct results or neuron; it has day1, x"):
        read("cnmfe", source_of, path, Modality.MINISCOPE)
    assert len(read("cnmfe", source_of, path, Modality.MINISCOPE, variable="day1").channels) == 10
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(Unreadable, match=r"r\.mat: not readable"):
        read("cnmfe", source_of, path, Modality.MINISCOPE, variable="day1")
