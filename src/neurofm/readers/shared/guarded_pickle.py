"""Pickled arrays and tables without running what a pickle may ask for.

A pickle is a program: loaded by `pickle.load` it may call any function of any installed package. Here it may name
what rebuilds numbers, texts, containers, NumPy arrays and, where asked for, pandas tables. Anything else is refused
before it is imported (Python's documentation of `pickle.Unpickler.find_class`, "Restricting Globals").
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from neurofm.recording import Unreadable
from neurofm.recording.damage import reading

_Global = tuple[str, str]


def _text_as_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Stand for ``_codecs.encode``, which protocols below 3 call for bytes and which would take any codec."""
    if encoding not in {"latin1", "latin-1"}:
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_CONTAINERS: Mapping[_Global, _Global] = {
    **{
        (module, name): ("builtins", name)
        for module in ("builtins", "__builtin__")
        for name in ("bytearray", "complex", "dict", "float", "frozenset", "int", "list", "set", "slice", "tuple")
    },
    ("collections", "OrderedDict"): ("collections", "OrderedDict"),
    # Suite2p's settings say when and where they were made; another system's paths can be held, but not followed.
    **{("datetime", name): ("datetime", name) for name in ("date", "datetime", "timedelta", "timezone")},
    **{
        (module, f"{system}Path"): ("pathlib", f"Pure{system}Path")
        for module in ("pathlib", "pathlib._local")
        for system in ("Posix", "Windows")
    },
}
_ARRAYS: Mapping[_Global, _Global] = {
    ("numpy", "dtype"): ("numpy", "dtype"),
    ("numpy", "ndarray"): ("numpy", "ndarray"),
    # NumPy 2 calls `numpy.core` `numpy._core`; files of either are read by either.
    **{
        (f"numpy.{core}.{module}", name): (f"numpy._core.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    },
}
_TABLES: Mapping[_Global, _Global] = {
    known: known
    for known in (
        ("pandas", "Categorical"),
        ("pandas", "CategoricalDtype"),
        ("pandas", "DataFrame"),
        ("pandas", "Index"),
        ("pandas", "MultiIndex"),
        ("pandas", "RangeIndex"),
        ("pandas", "Series"),
        ("pandas", "StringDtype"),
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"),
        ("pandas.arrays", "ArrowStringArray"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.managers", "BlockManager"),
        ("pandas.core.internals.managers", "SingleBlockManager"),
        ("pandas.core.series", "Series"),
        # A column of texts is an Arrow array.
        ("pyarrow.lib", "_restore_array"),
        ("pyarrow.lib", "py_buffer"),
        ("pyarrow.lib", "type_for_alias"),
    )
}


class _Guarded(pickle.Unpickler):
    def __init__(self, file: IO[bytes], *, name: str, allowed: Mapping[_Global, _Global]) -> None:
        # Text of Python 2, which is how it wrote arrays, is bytes: latin1 keeps each one.
        super().__init__(file, encoding="latin1")
        self._name, self._allowed = name, allowed

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return what the pickle names, if it may be named."""
        if (module, name) == ("_codecs", "encode"):
            return _text_as_bytes
        if (module, name) not in self._allowed:
            raise Unreadable(
                f"{self._name}: this pickle asks for {module}.{name}, which is not an array, a table or a plain "
                "container; pickles can run any program, so nothing else is loaded"
            )
        real_module, real_name = self._allowed[module, name]
        found: Callable[..., Any] = getattr(import_module(real_module), real_name)
        return found


def load_pickle(file: IO[bytes], *, name: str, tables: bool = False) -> object:
    """Load one pickle from where `file` stands.

    Parameters
    ----------
    file
        Open for reading bytes; several pickles may follow each other in it.
    name
        The file's name, for the errors.
    tables
        Whether pandas tables are taken besides containers and arrays.

    Raises
    ------
    Unreadable
        If the pickle asks for anything that is not on the list; the text names it.
    Exception
        Whatever a damaged pickle makes the library raise: call inside `neurofm.recording.reading`.
    """
    allowed = {**_CONTAINERS, **_ARRAYS, **(_TABLES if tables else {})}
    loaded: object = _Guarded(file, name=name, allowed=allowed).load()
    return loaded


def load_object_array(path: Path, *, tables: bool = False) -> npt.NDArray[Any]:
    """Load a ``.npy`` file that may hold Python objects, as Suite2p's ``stat.npy`` and ``ops.npy`` do.

    Raises
    ------
    Unreadable
        For a damaged file, or one that asks for anything that is not on the list of `load_pickle`.
    """
    with reading(path), path.open("rb") as file:
        return read_object_array(file, name=path.name, tables=tables)


def read_object_array(file: IO[bytes], *, name: str, tables: bool = False) -> npt.NDArray[Any]:
    """Do as `load_object_array` with a file that is open at its beginning: a member of an ``.npz``."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.asarray(np.load(file, allow_pickle=False))
    loaded = load_pickle(file, name=name, tables=tables)
    return np.asarray(loaded, dtype=object).reshape(shape, order="F" if fortran_order else "C")
