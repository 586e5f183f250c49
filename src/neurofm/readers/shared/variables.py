"""The variables of a file of any common kind, as plain containers and arrays, and a way to name one of them.

A file becomes mappings (structs, R lists with names, dicts, tables by column), lists (cells, R lists, object arrays)
and NumPy arrays. A path such as ``D.neuron*`` leads through them.
"""

from __future__ import annotations

import fnmatch
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io

from neurofm.readers.shared.common import opening
from neurofm.readers.shared.guarded_pickle import load_object_array, load_pickle, read_object_array
from neurofm.readers.shared.trodes import read_trodes
from neurofm.recording import Unreadable

_MOST_LISTED = 20


def load_variables(path: Path) -> Any:
    """Load everything in a file.

    Raises
    ------
    Unreadable
        For a damaged file, a suffix that is not known, or a pickle that would run a program.
    """
    loader = _LOADERS.get(path.suffix.lower())
    if loader is None:
        raise Unreadable(f"{path.name}: suffix {path.suffix!r} is none of {', '.join(_LOADERS)}")
    with opening(path):
        return _plain(loader(path))


def find(root: Any, path: str, *, file: str) -> Any:
    """Return what `path` leads to: names separated by dots; ``*`` takes all that fit, in the order of their numbers.

    A name after a list is looked up in each of its items, however deep; items without it are passed over.

    Raises
    ------
    Unreadable
        If there is no such variable; those of the file are listed with their shapes.
    """
    node = root
    for name in filter(None, path.split(".")):
        found = [item for holder in _holders(node) for item in _items(holder, name)]
        if not found:
            raise Unreadable(f"{file}: no variable {path!r}; it has {', '.join(listing(root)) or 'none'}")
        node = found[0] if isinstance(node, Mapping) and "*" not in name else found
    return node


def listing(root: Any) -> list[str]:
    """Name every variable with its shape; variables whose names differ by a number only are named once."""
    described: dict[str, list[str]] = {}
    for name, node in _leaves(root, ""):
        described.setdefault(re.sub(r"\d+", "*", name), []).append(f"{name} {_shape(node)}")
    lines = [
        f"{pattern} ({len(found)} times {found[0].partition(' ')[2]})" if len(found) > 2 else ", ".join(found)
        for pattern, found in described.items()
    ]
    return lines if len(lines) <= _MOST_LISTED else [*lines[:_MOST_LISTED], f"and {len(lines) - _MOST_LISTED} more"]


def _holders(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _holders(item)


def _items(holder: Mapping[str, Any], name: str) -> list[Any]:
    if "*" in name:
        names = sorted(fnmatch.filter(holder, name), key=lambda n: [int(p) if p.isdigit() else p for p in _parts(n)])
        return [holder[found] for found in names]
    return [holder[name]] if name in holder else []


def _parts(name: str) -> list[str]:
    return re.split(r"(\d+)", name)


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, item in node.items():
            yield from _leaves(item, f"{prefix}.{name}" if prefix else name)
    elif isinstance(node, list) and (first := next(_holders(node), None)) is not None:
        for name, item in first.items():
            yield from _leaves([item], f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, node


def _shape(node: Any) -> str:
    if isinstance(node, list):
        return f"list of {len(node)}" + (f" x {_shape(node[0])}" if node else "")
    if isinstance(node, np.ndarray):
        kind = "texts " if node.dtype.kind == "U" else ""
        return kind + "[" + ", ".join(map(str, node.shape)) + "]"
    return type(node).__name__


def _plain(value: Any) -> Any:
    """Turn whatever a library gives into mappings with text keys, lists and arrays of numbers or texts."""
    if isinstance(value, pd.DataFrame):
        return {str(name): _plain(value[name]) for name in value.columns}
    if isinstance(value, (pd.Series, pd.Categorical)):
        return _plain(np.asarray(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, (list, tuple)):
        return _plain_list(value)
    return np.asarray(value) if isinstance(value, (int, float, str, np.generic)) else value


def _plain_array(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.names:
        rows = [{name: _plain(row[name]) for name in array.dtype.names} for row in array.ravel(order="F")]
        return rows[0] if len(rows) == 1 else rows
    return _plain(array.ravel(order="F").tolist()) if array.dtype == object else array


def _plain_list(items: Sequence[Any]) -> Any:
    if items and all(isinstance(item, (int, float, np.number, np.bool_)) for item in items):
        return np.asarray(items)
    if items and all(isinstance(item, str) for item in items):
        return np.asarray(items, dtype=np.str_)
    return [_plain(item) for item in items]


def _load_mat(path: Path) -> Any:
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return {name: _hdf5(item, file) for name, item in file.items() if not name.startswith("#")}
    return {name: item for name, item in scipy.io.loadmat(path).items() if not name.startswith("__")}


def _hdf5(node: Any, file: Any) -> Any:
    """Return a variable of MATLAB 7.3: HDF5 with its axes reversed, cells as references, texts as code points."""
    if isinstance(node, h5py.Group):
        return {name: _hdf5(item, file) for name, item in node.items()}
    if node.attrs.get("MATLAB_empty"):
        return np.zeros((0, 0))
    value = node[()]
    if node.dtype == h5py.ref_dtype:
        return [_hdf5(file[reference], file) for reference in np.ravel(value)]
    if node.attrs.get("MATLAB_class") == b"char":
        return np.asarray("".join(map(chr, np.ravel(value))))
    return np.asarray(value).T


def _load_npz(path: Path) -> Any:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            found[member.removesuffix(".npy")] = read_object_array(io.BytesIO(archive.read(member)), name=path.name)
    return found


def _load_npy(path: Path) -> Any:
    return load_object_array(path)


def _load_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return load_pickle(file, name=path.name, tables=True)


def _load_rds(path: Path) -> Any:
    # Here, because it imports xarray, and only R users need it.
    import rdata  # noqa: PLC0415

    return rdata.read_rds(path)


_LOADERS: Mapping[str, Callable[[Path], Any]] = {
    ".mat": _load_mat,
    ".npz": _load_npz,
    ".npy": _load_npy,
    ".rds": _load_rds,
    ".pkl": _load_pickle,
    ".pickle": _load_pickle,
    ".videopositiontracking": read_trodes,
}
