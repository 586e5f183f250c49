"""One struct of a MATLAB file, v5 or v7.3, as a dictionary of arrays; objects of MATLAB classes are refused.

MATLAB writes objects of classes as opaque bytes that only it can read again (in v7.3 with ``MATLAB_object_decode`` 3
and a group ``#subsystem#``): nothing of them can be had here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io
from scipy import sparse
from scipy.io.matlab import MatlabObject, MatlabOpaque

from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable

Array = npt.NDArray[Any]
Value = Array | sparse.csc_array | Mapping[str, Any]
_NAMELESS = "None"
_OBJECT = 3
"""``MATLAB_object_decode`` of an object of a class."""


def read_struct(path: Path, names: tuple[str, ...]) -> dict[str, Value]:
    """Read the first of the structs called `names` that the file has, with the structs inside it.

    Returns
    -------
    dict
        Arrays in MATLAB's shape, sparse matrices as `scipy.sparse.csc_array`, structs of one element as dictionaries.
        Fields of other kinds (cells, struct arrays) are left out.

    Raises
    ------
    Unreadable
        If there is none, or what bears the name is an object of a class.
    """
    with opening(path):
        hdf5 = h5py.is_hdf5(path)
    return _read_v73(path, names) if hdf5 else _read_v5(path, names)


def _no_struct(path: Path, names: tuple[str, ...], found: list[str]) -> Unreadable:
    return Unreadable(f"{path.name}: no struct {' or '.join(names)}; it has {', '.join(found) or 'nothing'}")


def _no_object(path: Path, kind: str) -> Unreadable:
    return Unreadable(
        f"{path.name}: holds an object of MATLAB's class {kind or 'unknown'}, which only MATLAB can read; there, save "
        "a struct: results = neuron.obj2struct(); save('results.mat', 'results')"
    )


def _read_v5(path: Path, names: tuple[str, ...]) -> dict[str, Value]:
    with opening(path):
        # An object of a class has no name where scipy looks for it.
        loaded = scipy.io.loadmat(path, variable_names=[*names, _NAMELESS])
        wanted = next((loaded[name] for name in names if name in loaded), loaded.get(_NAMELESS))
        if wanted is None:
            raise _no_struct(path, names, sorted(name for name, _, _ in scipy.io.whosmat(path)))
    if isinstance(wanted, MatlabOpaque):
        raise _no_object(path, wanted["s2"][0].decode(errors="replace"))
    if isinstance(wanted, MatlabObject):
        raise _no_object(path, wanted.classname or "")
    fields = _from_v5(wanted)
    if not isinstance(fields, dict):
        raise Unreadable(f"{path.name}: {' or '.join(names)} is no struct of one element")
    return fields


def _from_v5(value: Any) -> Value | None:
    if sparse.issparse(value):
        return sparse.csc_array(cast("sparse.csc_matrix", value))
    if isinstance(value, np.ndarray) and value.dtype.names is not None and value.size == 1:
        inside = {name: _from_v5(value[name].ravel()[0]) for name in value.dtype.names}
        return {name: one for name, one in inside.items() if one is not None}
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.number):
        return value
    return None


def _read_v73(path: Path, names: tuple[str, ...]) -> dict[str, Value]:
    with opening(path), h5py.File(path) as file:
        found = sorted(name for name in file if not name.startswith("#"))
        name = next((one for one in names if one in file), "")
        if not name:
            raise _no_struct(path, names, found)
        item = file[name]
        kind = item.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if item.attrs.get("MATLAB_object_decode") == _OBJECT:
            raise _no_object(path, kind)
        fields = _from_v73(item)
    if not isinstance(fields, dict):
        raise Unreadable(f"{path.name}: {name} is no struct of one element")
    return fields


def _from_v73(item: h5py.Group | h5py.Dataset) -> Value | None:
    if isinstance(item, h5py.Dataset):
        if item.attrs.get("MATLAB_empty", 0) or not np.issubdtype(item.dtype, np.number):
            return None
        # MATLAB writes HDF5 with its axes reversed.
        return np.asarray(item[()]).T
    rows = item.attrs.get("MATLAB_sparse")
    if rows is not None:
        starts = np.asarray(item["jc"][()])
        data, row = (np.asarray(item[part][()]) if part in item else np.zeros(0) for part in ("data", "ir"))
        shape = (int(rows), len(starts) - 1)
        return sparse.csc_array((data.astype(np.float64), row.astype(np.int64), starts.astype(np.int64)), shape=shape)
    inside = {name: _from_v73(one) for name, one in item.items()}
    return {name: one for name, one in inside.items() if one is not None}
