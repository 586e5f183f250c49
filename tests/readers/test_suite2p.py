"""Suite2p: recorded traces in the program's own layout (see ophys_layouts.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurofm.readers import read_recording
from neurofm.recording import Modality, Unreadable
from tests.readers.ophys_layouts import write_suite2p
from tests.readers.ophys_reading import Source, read, shard_of, values_of


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


def test_suite2p_cells_are_those_of_the_nwb_file(plane: Path, two_photon: Path, source_of: Source) -> None:
    ours = read("suite2p", source_of, plane, Modality.CALCIUM, cells_only=False)
    theirs = read_recording("nwb", source_of(two_photon, Modality.CALCIUM), {})
    np.testing.assert_allclose(values_of(ours), values_of(theirs), rtol=1e-6)
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
    cells = read("suite2p", source_of, plane, Modality.CALCIUM)
    wanted = np.flatnonzero(iscell[:, 0] > 0)
    assert 0 < len(wanted) < len(iscell)
    assert cells.channels.id == tuple(f"roi-{i}" for i in wanted)
    np.testing.assert_array_equal(values_of(cells), np.load(plane)[wanted].T.astype(np.float64))
    sure = read("suite2p", source_of, plane, Modality.CALCIUM, min_probability=0.9)
    assert len(sure.channels) == int(((iscell[:, 0] > 0) & (iscell[:, 1] >= 0.9)).sum())
    spikes = read("suite2p", source_of, plane, Modality.CALCIUM, signal="spks")
    np.testing.assert_array_equal(values_of(spikes), np.load(plane.parent / "spks.npy")[wanted].T.astype(np.float64))
    assert not spikes.extra_signals


def test_suite2p_to_shard_without_neuropil(plane: Path, source_of: Source, tmp_path: Path) -> None:
    recording = read("suite2p", source_of, plane, Modality.CALCIUM)
    shard = shard_of(recording, tmp_path / "plane.zarr.zip")
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
        read("suite2p", source_of, own_plane, Modality.CALCIUM)
    assert not (own_plane.parent / "ran").exists()


def test_suite2p_cell_of_nan_costs_that_cell(own_plane: Path, source_of: Source, tmp_path: Path) -> None:
    cells = np.flatnonzero(np.load(own_plane.parent / "iscell.npy")[:, 0] > 0)
    traces = np.load(own_plane)
    # Cells that neuropil outshines have no dF/F, with or without it.
    dim = ~shard_of(read("suite2p", source_of, own_plane, Modality.CALCIUM), tmp_path / "all.zarr.zip").usable
    assert not dim[3]
    traces[cells[3]] = np.nan
    _replace(own_plane.parent, "F.npy", traces)
    shard = shard_of(read("suite2p", source_of, own_plane, Modality.CALCIUM), tmp_path / "nan.zarr.zip")
    assert np.flatnonzero(~shard.usable & ~dim).tolist() == [3]
    assert shard.valid.all()


def test_suite2p_combined_is_refused(own_plane: Path, source_of: Source) -> None:
    combined = own_plane.parent.rename(own_plane.parent.with_name("combined"))
    with pytest.raises(Unreadable, match=r"combined/F\.npy: joins planes .* plane0, plane1"):
        read("suite2p", source_of, combined / "F.npy", Modality.CALCIUM)
