"""Parcellated time series as tables: ``.npy``, ``.mat`` (v5 and v7.3), ``.tsv``, ``.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.io
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening, unknown_positions
from neurofm.readers.shared.participants import participant_scalars
from neurofm.recording import Channels, Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy", "h5py", "pandas")


class Options(Settings):
    """What a table does not say of itself."""

    tr_s: float = Field(gt=0)
    """Time from one sample to the next, seconds (the repetition time of fMRI)."""
    axes: Literal["channel_time", "time_channel"]
    """Which axis comes first."""
    atlas: str = Field(min_length=1)
    """Names the parcellation; begins the channel ids where the table has no header."""
    variable: str = ""
    """Which variable of a ``.mat`` file; may be left out where there is one matrix only."""
    header: bool = True
    """Whether a ``.tsv`` or ``.csv`` file begins with a row of channel names."""
    names: tuple[str, ...] = ()
    """Of all channels in their order, for tables without a header."""
    units: str = "a.u."


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one table as a recording.

    Parameters
    ----------
    source
        ``main`` is the table; a ``participants.tsv`` among the side files gives the scalars.
    options
        Orientation, repetition time and names.

    Returns
    -------
    Recording
        `signal` [time, channel] float64 in ``options.units``; no positions.

    Raises
    ------
    Unreadable
        For a damaged file, an unknown suffix, or something that is not a matrix of numbers.
    """
    path = source.path()
    with opening(path):
        values, names = _load(path, options)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise Unreadable(
            f"{path.name}: {values.dtype} array of shape {values.shape}, expected a matrix of real numbers"
        )
    if options.axes == "channel_time":
        values = values.T
    n = values.shape[1]
    if options.names and names:
        raise Unreadable(f"{path.name}: `names` and a header both name the channels; leave `names` out")
    if options.names and len(options.names) != n:
        raise Unreadable(f"{path.name}: {n} channels, but `names` has {len(options.names)}")
    channels = Channels(
        id=names or options.names or tuple(f"{options.atlas}-{i:03d}" for i in range(n)),
        position=unknown_positions(n),
        position_unit="",
        space=options.atlas,
    )
    signal = Signal(values=values.astype(np.float64), sampling_rate_hz=1 / options.tr_s, units=options.units)
    return build(source, channels=channels, signal=signal, scalars=participant_scalars(source))


def _load(path: Path, options: Options) -> tuple[npt.NDArray[np.generic], tuple[str, ...]]:
    """Return the matrix as the file has it, and channel names where it has them."""
    match path.suffix.lower():
        case ".npy":
            return np.load(path, allow_pickle=False), ()
        case ".mat":
            return _load_mat(path, options.variable), ()
        case ".tsv":
            return _load_text(path, "\t", options)
        case ".csv":
            return _load_text(path, ",", options)
        case suffix:
            raise Unreadable(f"{path.name}: suffix {suffix!r} is none of .npy, .mat, .tsv, .csv")


def _load_text(path: Path, delimiter: str, options: Options) -> tuple[npt.NDArray[np.generic], tuple[str, ...]]:
    if options.header and options.axes == "channel_time":
        raise Unreadable(
            f"{path.name}: a header names the columns, so they must be channels (`axes: time_channel`), "
            "or the file has none (`header: false`)"
        )
    frame = pd.read_csv(path, sep=delimiter, header=0 if options.header else None, na_values=["n/a"])
    names = tuple(str(name) for name in frame.columns) if options.header else ()
    return frame.to_numpy(), names


def _load_mat(path: Path, variable: str) -> npt.NDArray[np.generic]:
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            found = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim == 2}
            # MATLAB writes HDF5 with its axes reversed.
            return np.asarray(found[_choose(path, variable, tuple(found))][()]).T
    found_v5 = {name: shape for name, shape, kind in scipy.io.whosmat(path) if len(shape) == 2 and kind != "char"}
    name = _choose(path, variable, tuple(found_v5))
    return np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])


def _choose(path: Path, variable: str, found: tuple[str, ...]) -> str:
    if variable in found:
        return variable
    if not variable and len(found) == 1:
        return found[0]
    wanted = f"no matrix {variable!r}" if variable else "more or less than one matrix"
    raise Unreadable(f"{path.name}: {wanted}; it has {', '.join(found) or 'none'} (reader option `variable`)")
