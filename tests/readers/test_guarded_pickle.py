"""Pickles are loaded without running what they may ask for."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurofm.readers.shared.guarded_pickle import load_object_array, load_pickle
from neurofm.recording import Unreadable


class _Hostile:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call[0], self.call[1:]


def _load(value: object, *, protocol: int = 4, tables: bool = False) -> object:
    return load_pickle(io.BytesIO(pickle.dumps(value, protocol=protocol)), name="lab.pkl", tables=tables)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_arrays_and_containers_come_back(protocol: int) -> None:
    value = {"a": [np.arange(6.0).reshape(2, 3), np.float32(2)], "b": ({1, 2}, b"\xff", None, "text", True)}
    back = _load(value, protocol=protocol)
    assert isinstance(back, dict)
    np.testing.assert_array_equal(back["a"][0], value["a"][0])
    assert back["b"] == value["b"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tables_come_back_only_where_asked_for(protocol: int) -> None:
    table = pd.DataFrame({"x": [1, 2.5], "who": ["a", "b"], "side": pd.Categorical(["l", "r"])}, index=[3, 4])
    back = _load(table, protocol=protocol, tables=True)
    assert isinstance(back, pd.DataFrame)
    pd.testing.assert_frame_equal(back, table)
    with pytest.raises(Unreadable, match=r"asks for pandas"):
        _load(table, protocol=protocol)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "touch {marker}"), "system"),
        ((eval, "open('{marker}', 'w')"), "eval"),
        ((getattr, "", "upper"), "getattr"),
        ((open, "{marker}", "w"), "open"),
        ((np.load, "{marker}"), "load"),
    ],
)
def test_anything_else_is_refused_and_named_before_it_runs(
    tmp_path: Path, protocol: int, call: tuple[object, ...], named: str
) -> None:
    marker = tmp_path / "ran"
    call = tuple(part.format(marker=marker) if isinstance(part, str) else part for part in call)
    # Hidden among harmless things, as a real one would be.
    with pytest.raises(Unreadable, match=rf"lab\.pkl: this pickle asks for [\w.]*\.{named}"):
        _load({"rates": np.zeros(3), "more": [_Hostile(*call)]}, protocol=protocol, tables=True)
    assert not marker.exists()


def test_codecs_are_not_a_way_around() -> None:
    hostile = b"c_codecs\nencode\n(Vabc\nVzlib_codec\ntR."
    with pytest.raises(pickle.UnpicklingError, match="zlib_codec"):
        load_pickle(io.BytesIO(hostile), name="lab.pkl")


def test_the_real_motor_cortex_pickle_loads(shared_data: Path) -> None:
    path = shared_data / "ephys" / "m1_chewie_myow" / "full-chewie-10032013-0.10.pkl"
    with path.open("rb") as file:
        loaded = load_pickle(file, name=path.name)
    assert isinstance(loaded, dict)
    assert len(loaded["data"]["firing_rates"]) == 159
    assert loaded["data"]["firing_rates"][0].shape == (11, 174)


def test_object_arrays_of_npy_files_are_guarded_too(tmp_path: Path) -> None:
    cells = np.array([{"med": [1, 2], "lam": np.ones(3)}, {"med": [3, 4], "lam": np.zeros(2)}], dtype=object)
    np.save(tmp_path / "stat.npy", cells, allow_pickle=True)
    np.save(tmp_path / "ops.npy", np.array({"fs": 10.0}, dtype=object), allow_pickle=True)
    np.save(tmp_path / "F.npy", np.eye(2))
    np.save(tmp_path / "bad.npy", np.array([_Hostile(os.system, "true")], dtype=object), allow_pickle=True)
    assert load_object_array(tmp_path / "stat.npy")[1]["med"] == [3, 4]
    assert load_object_array(tmp_path / "ops.npy").item()["fs"] == 10.0
    np.testing.assert_array_equal(load_object_array(tmp_path / "F.npy"), np.eye(2))
    with pytest.raises(Unreadable, match=r"bad\.npy: this pickle asks for \w+\.system"):
        load_object_array(tmp_path / "bad.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "stat.npy").read_bytes()[:-40])
    with pytest.raises(Unreadable, match=r"cut\.npy: not readable"):
        load_object_array(tmp_path / "cut.npy")
