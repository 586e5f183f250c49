"""Suite2p, CaImAn, CNMF-E and Inscopix: recorded traces in the programs' own layouts (see ophys_layouts.py)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.readers import ReaderInput, read_recording
from neurofm.recording import Modality, Recording, Unreadable
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.read import Shard
from tests.readers.ophys_layouts import (
    FRAMES,
    Miniscope,
    beside,
    cnmfe_struct,
    real_miniscope,
    write_caiman,
    write_cnmfe_v5,
    write_cnmfe_v73,
    write_inscopix,
    write_stamps,
    write_suite2p,
)

PROJECT = Path(__file__).resolve().parents[2]
PREPROCESS = load_params(PROJECT).preprocess
PROVENANCE = Provenance(
    archive="local",
    source_id="lab",
    version="local",
    files=(("main", "sha256:00"),),
    licence="MIT",
    citation="Viejo 2023",
    libraries={},
)
Source = Callable[..., ReaderInput]


@pytest.fixture(scope="module")
def miniscope(sample_raw: Callable[[str], Path]) -> Miniscope:
    return real_miniscope(sample_raw("cnmfe-miniscope") / "A0634-210127.nwb")


@pytest.fixture(scope="module")
def two_photon(sample_raw: Callable[[str], Path]) -> Path:
    return sample_raw("a0662-2p") / "2022_08_08.nwb"


@pytest.fixture(scope="module")
def plane(two_photon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite2p(tmp_path_factory.mktemp("lab") / "A0662/suite2p/plane0", two_photon)


@pytest.fixture
def own_plane(plane: Path, tmp_path: Path) -> Path:
    """A plane that a test may damage: links, replaced when written anew."""
    folder = tmp_path / "suite2p" / "plane0"
    folder.mkdir(parents=True)
    for path in plane.parent.iterdir():
        os.link(path, folder / path.name)
    return folder / "F.npy"


def _read(reader: str, source_of: Source, main: Path, modality: Modality, **options: Any) -> Recording:
    source = source_of(main, modality, extra=beside(main, main.parent), root=main.parent)
    return read_recording(reader, source, options)


def _shard(recording: Recording, path: Path) -> Shard:
    settings = PREPROCESS.of(recording.modality)
    clean = preprocess_recording(recording, settings=settings, common=PREPROCESS.common)
    write_shard(clean, provenance=PROVENANCE, path=path)
    return read_shard(path)


def _values(recording: Recording) -> np.ndarray[Any, Any]:
    assert recording.signal is not None
    return recording.signal.values


# Suite2p


def test_suite2p_cells_are_those_of_the_nwb_file(plane: Path, two_photon: Path, source_of: Source) -> None:
    ours = _read("suite2p", source_of, plane, Modality.CALCIUM, cells_only=False)
    theirs = read_recording("nwb", source_of(two_photon, Modality.CALCIUM), {})
    np.testing.assert_allclose(_values(ours), _values(theirs), rtol=1e-6)
    np.testing.assert_allclose(
        ours.extra_signals["neuropil"].values, theirs.extra_signals["neuropil"].values, rtol=1e-6
    )
    for column in ("iscell", "iscell_probability"):
        np.testing.assert_allclose(ours.channels.quality[column], theirs.channels.quality[column], atol=1e-6)
    # The median pixel against the weighted centre: the same place and the same order of the axes.
    assert np.abs(ours.channels.position - theirs.channels.position).max() < 20
    assert np.median(np.abs(ours.channels.position - theirs.channels.position)) < 1
    assert ours.signal is not None
    assert ours.signal.sampling_rate_hz == 10
    assert ours.channels.position_unit == "px"


def test_suite2p_takes_accepted_cells_alone(plane: Path, source_of: Source) -> None:
    iscell = np.load(plane.parent / "iscell.npy")
    cells = _read("suite2p", source_of, plane, Modality.CALCIUM)
    wanted = np.flatnonzero(iscell[:, 0] > 0)
    assert 0 < len(wanted) < len(iscell)
    assert cells.channels.id == tuple(f"roi-{i}" for i in wanted)
    np.testing.assert_array_equal(_values(cells), np.load(plane)[wanted].T.astype(np.float64))
    sure = _read("suite2p", source_of, plane, Modality.CALCIUM, min_probability=0.9)
    assert len(sure.channels) == int(((iscell[:, 0] > 0) & (iscell[:, 1] >= 0.9)).sum())
    spikes = _read("suite2p", source_of, plane, Modality.CALCIUM, signal="spks")
    np.testing.assert_array_equal(_values(spikes), np.load(plane.parent / "spks.npy")[wanted].T.astype(np.float64))
    assert not spikes.extra_signals


def test_suite2p_to_shard_without_neuropil(plane: Path, source_of: Source, tmp_path: Path) -> None:
    recording = _read("suite2p", source_of, plane, Modality.CALCIUM)
    shard = _shard(recording, tmp_path / "plane.zarr.zip")
    assert shard.stored.shape == (2000, len(recording.channels))
    assert shard.recording.quality["neuropil_subtracted"] is True
    assert "iscell_probability" in shard.recording.channels.quality


def _replace(folder: Path, name: str, values: Any) -> None:
    (folder / name).unlink()
    np.save(folder / name, values, allow_pickle=True)


def _remake(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    _replace(folder, name, change(np.load(folder / name)))


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "stat.npy").unlink(), r"stat\.npy: is not among the recording's files"),
        (lambda f: (f / "Fneu.npy").unlink(), r"Fneu\.npy: is not among the recording's files"),
        (lambda f: _remake(f, "F.npy", lambda v: v.T), r"F\.npy: has shape 2000 x 219, but stat\.npy .* transposed"),
        (lambda f: _remake(f, "F.npy", lambda v: v[:200]), r"F\.npy: has shape 200 x 2000, but stat\.npy lists 219"),
        (lambda f: _remake(f, "Fneu.npy", lambda v: v[:, :9]), r"Fneu\.npy: 9 frames, but F\.npy has 2000"),
        (lambda f: _remake(f, "F.npy", lambda v: v * np.nan), r"F\.npy: every trace is NaN"),
        (lambda f: _remake(f, "iscell.npy", lambda v: v * 0), r"iscell\.npy: none of 219 ROIs is accepted"),
        (lambda f: _remake(f, "iscell.npy", lambda v: v[:5]), r"iscell\.npy: has shape \(5, 2\), but stat\.npy lists"),
        (
            lambda f: _replace(f, "ops.npy", np.array({"fs": _Hostile()}, dtype=object)),
            r"ops\.npy: this pickle asks for \w+\.system",
        ),
        (
            lambda f: _replace(f, "stat.npy", np.array([_Hostile()] * 219, dtype=object)),
            r"stat\.npy: this pickle asks for \w+\.system",
        ),
        (lambda f: _replace(f, "F.npy", np.array([_Hostile()], dtype=object)), r"F\.npy: not readable"),
        (lambda f: _replace(f, "ops.npy", np.array({}, dtype=object)), r"ops\.npy: fs is None.*`rate_hz`"),
        (lambda f: _replace(f, "stat.npy", np.zeros(219)), r"stat\.npy: is no array of dictionaries"),
    ],
)
def test_suite2p_bad_input(
    own_plane: Path, source_of: Source, damage: Callable[[Path], Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_plane.parent)
    damage(own_plane.parent)
    with pytest.raises(Unreadable, match=said):
        _read("suite2p", source_of, own_plane, Modality.CALCIUM)
    assert not (own_plane.parent / "ran").exists()


def test_suite2p_cell_of_nan_costs_that_cell(own_plane: Path, source_of: Source, tmp_path: Path) -> None:
    cells = np.flatnonzero(np.load(own_plane.parent / "iscell.npy")[:, 0] > 0)
    traces = np.load(own_plane)
    # Cells that neuropil outshines have no dF/F, with or without it.
    dim = ~_shard(_read("suite2p", source_of, own_plane, Modality.CALCIUM), tmp_path / "all.zarr.zip").usable
    assert not dim[3]
    traces[cells[3]] = np.nan
    _replace(own_plane.parent, "F.npy", traces)
    shard = _shard(_read("suite2p", source_of, own_plane, Modality.CALCIUM), tmp_path / "nan.zarr.zip")
    assert np.flatnonzero(~shard.usable & ~dim).tolist() == [3]
    assert shard.valid.all()


def test_suite2p_combined_is_refused(own_plane: Path, source_of: Source) -> None:
    combined = own_plane.parent.rename(own_plane.parent.with_name("combined"))
    with pytest.raises(Unreadable, match=r"combined/F\.npy: joins planes .* plane0, plane1"):
        _read("suite2p", source_of, combined / "F.npy", Modality.CALCIUM)


# CaImAn


def test_caiman_components(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=[1, 4, 7])
    recording = _read("caiman", source_of, path, Modality.MINISCOPE)
    np.testing.assert_array_equal(_values(recording), miniscope.traces[[1, 4, 7]].T)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids[[1, 4, 7]])
    assert recording.channels.id == ("component-1", "component-4", "component-7")
    np.testing.assert_allclose(recording.channels.quality["snr"], np.linspace(2, 12, 10)[[1, 4, 7]])
    assert set(recording.channels.quality) == {"snr", "spatial_correlation"}
    assert recording.signal is not None
    assert (recording.signal.sampling_rate_hz, recording.signal.units) == (30, "a.u.")
    assert recording.sample_time_s is None
    assert len(_read("caiman", source_of, path, Modality.MINISCOPE, accepted_only=False).channels) == 10


def test_caiman_without_evaluation_takes_all(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=None)
    assert len(_read("caiman", source_of, path, Modality.MINISCOPE).channels) == 10
    with pytest.raises(Unreadable, match=r"estimates/F_dff was not computed"):
        _read("caiman", source_of, path, Modality.MINISCOPE, signal="F_dff")


def test_caiman_lost_frames_are_marked_in_the_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_caiman(tmp_path / "a.hdf5", miniscope, accepted=None)
    times = np.arange(FRAMES) / 30.0
    times[1500:] += 2.0  # the camera was away for two seconds
    write_stamps(tmp_path / "timeStamps.csv", times)
    recording = _read("caiman", source_of, path, Modality.MINISCOPE)
    assert recording.sample_time_s is not None
    assert np.diff(recording.sample_time_s).max() == pytest.approx(2.033, abs=0.002)
    shard = _shard(recording, tmp_path / "a.zarr.zip")
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
        _read("caiman", source_of, path, Modality.MINISCOPE)


# CNMF-E


@pytest.mark.parametrize("write", [write_cnmfe_v5, write_cnmfe_v73])
def test_cnmfe_struct_of_either_version(
    miniscope: Miniscope, source_of: Source, tmp_path: Path, write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "results.mat", miniscope)
    recording = _read("cnmfe", source_of, path, Modality.MINISCOPE)
    np.testing.assert_array_equal(_values(recording), miniscope.traces.T)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids)
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == 30
    raw = _read("cnmfe", source_of, path, Modality.MINISCOPE, signal="C_raw")
    np.testing.assert_array_equal(_values(raw), miniscope.traces.T + 0.5)
    deconvolved = _read("cnmfe", source_of, path, Modality.MINISCOPE, signal="S")
    np.testing.assert_allclose(_values(deconvolved), np.maximum(np.diff(miniscope.traces, axis=1, prepend=0), 0).T)


def test_cnmfe_to_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    recording = _read("cnmfe", source_of, write_cnmfe_v73(tmp_path / "r.mat", miniscope), Modality.MINISCOPE)
    shard = _shard(recording, tmp_path / "r.zarr.zip")
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
        _read("cnmfe", source_of, write(tmp_path / "neuron.mat"), Modality.MINISCOPE)


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
        _read("cnmfe", source_of, path, Modality.MINISCOPE)


def test_cnmfe_other_names(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = tmp_path / "r.mat"
    scipy.io.savemat(path, {"day1": cnmfe_struct(miniscope), "x": 1.0})
    with pytest.raises(Unreadable, match=r"r\.mat: no struct results or neuron; it has day1, x"):
        _read("cnmfe", source_of, path, Modality.MINISCOPE)
    assert len(_read("cnmfe", source_of, path, Modality.MINISCOPE, variable="day1").channels) == 10
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(Unreadable, match=r"r\.mat: not readable"):
        _read("cnmfe", source_of, path, Modality.MINISCOPE, variable="day1")


# Inscopix

STATUSES = ["accepted", "rejected", "undecided", *["accepted"] * 7]
TIMES = np.arange(FRAMES) / 30.0


@pytest.fixture
def inscopix(miniscope: Miniscope, tmp_path: Path) -> Callable[[list[str]], Path]:
    return lambda statuses: write_inscopix(tmp_path / "traces.csv", miniscope, statuses, TIMES)


def test_inscopix_table(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    path = write_inscopix(tmp_path / "traces.csv", miniscope, STATUSES, TIMES + 0.01)
    recording = _read("inscopix", source_of, path, Modality.MINISCOPE)
    kept = [0, *range(3, 10)]
    np.testing.assert_allclose(_values(recording), miniscope.traces[kept].T, rtol=1e-5)
    assert recording.channels.id == tuple(f"C{i}" for i in kept)
    np.testing.assert_allclose(recording.channels.position[:, :2], miniscope.centroids[kept].round())
    assert recording.sample_time_s is not None
    assert recording.sample_time_s[0] == 0
    assert recording.signal is not None
    assert recording.signal.sampling_rate_hz == pytest.approx(30, abs=1e-3)
    more = _read("inscopix", source_of, path, Modality.MINISCOPE, statuses=["accepted", "undecided"])
    assert len(more.channels) == 9


def test_inscopix_gap_is_marked_in_the_shard(miniscope: Miniscope, source_of: Source, tmp_path: Path) -> None:
    times = TIMES + (TIMES >= 60) * 1.0
    path = write_inscopix(tmp_path / "traces.csv", miniscope, STATUSES, times)
    recording = _read("inscopix", source_of, path, Modality.MINISCOPE)
    shard = _shard(recording, tmp_path / "traces.zarr.zip")
    assert shard.recording.quality["dropped_frames"] == 30
    assert not shard.valid[(shard.time_s > 60.1) & (shard.time_s < 60.9)].any()


@pytest.mark.parametrize(
    ("statuses", "change", "said"),
    [
        (["undecided"] * 10, str, r"no cell is accepted \(10 undecided; reader option `statuses`\)"),
        (STATUSES, lambda text: text.replace("Time(s)/Cell Status", "Time"), "no cell traces of Inscopix"),
        (STATUSES, lambda text: text.replace("\n1.000000,", "\n,"), r"row 31 of the times in column 'Time\(s\)'"),
        (STATUSES, lambda text: text.replace("\n1.000000,", "\n0.5,"), "go back or stand still at row 31"),
        (STATUSES, lambda text: "\n".join(text.split("\n")[:2]), "0 timestamps"),
    ],
)
def test_inscopix_bad_input(
    inscopix: Callable[[list[str]], Path],
    source_of: Source,
    statuses: list[str],
    change: Callable[[str], str],
    said: str,
) -> None:
    path = inscopix(statuses)
    path.write_text(change(path.read_text()))
    with pytest.raises(Unreadable, match=said):
        _read("inscopix", source_of, path, Modality.MINISCOPE)


def test_inscopix_binary_is_refused_with_the_mend(source_of: Source, tmp_path: Path) -> None:
    (tmp_path / "cells.isxd").write_bytes(b"\0" * 100)
    with pytest.raises(Unreadable, match=r"cells\.isxd: the binary format of Inscopix.*export the cell set as CSV"):
        _read("inscopix", source_of, tmp_path / "cells.isxd", Modality.MINISCOPE)
