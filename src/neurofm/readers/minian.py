"""Minian: denoised traces of a miniscope recording, as one Zarr group per variable or as one ``minian.nc``.

Layout: ``C.zarr/{C,unit_id,frame}``, ``A.zarr/A``, ``S.zarr/S`` as ``minian.utilities.save_minian`` writes them (Dong
2022, 10.7554/eLife.70661); releases before 1.0 put the same variables into one netCDF 4 file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.frame_times import FrameTimes, read_frame_times, side_file
from neurofm.readers.shared.nwb_ophys import nominal_rate_hz
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.roi import FloatArray, cell_channels, dense_centroids, time_by_roi
from neurofm.readers.shared.tracking import read_tracking
from neurofm.readers.shared.zarr_folder import NamedArray, read_zarr_array
from neurofm.recording import Recording, Signal, Target, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("zarr", "numcodecs", "h5py", "numpy", "pandas", "scipy")

TIMESTAMPS = ("timeStamps.csv", "neural_timestamp.csv")
POSITION = ("behavior_position.csv",)
POSITION_TIMESTAMPS = ("behavior_timestamp.csv",)

_Variable = Callable[[str, str], NamedArray | None]
"""From a group's and an array's name to the array; None if it is not there."""


class Options(Settings):
    """What of a minian data set is wanted, and what it does not say of itself."""

    variable: str = Field(default="C", pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """``C`` (denoised calcium), ``S`` (deconvolved), or another variable over unit and frame (``C_lp``, ``YrA``)."""
    frame_rate_hz: float | None = Field(default=None, gt=0)
    """The camera's rate, where there is no table of timestamps."""
    max_stray_timestamps: int = Field(default=0, ge=0)
    """So many lone frames may carry a time that does not fit in between their neighbours'; they get the mean."""
    bodypart: str = ""
    """Which tracked part is the animal's position; may be left out where the table has one."""
    min_likelihood: float = Field(default=0.0, ge=0, le=1)
    """Positions that the tracker was less sure of are missing."""
    position_unit: str = "px"
    position_per_pixel: float = Field(default=1.0, gt=0)
    """`position_unit` per pixel of the behaviour camera."""
    behaviour_offset_s: float = 0.0
    """Added to the behaviour's times, where its clock is known to be off against the miniscope's."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one variable with its cells' places, its frames' times and the animal's position.

    Parameters
    ----------
    source
        ``main`` is ``<folder>/C.zarr/.zgroup`` (the other files of its groups stand in ``recordings.extra``) or a
        ``minian.nc``. Roles, or side files of the names above: ``timestamps``, ``position``, ``position_timestamps``.
    options
        Which variable; scale and clock of the position.

    Returns
    -------
    Recording
        `signal` [time, cell] in ``a.u.``, time 0 at its first frame; `sample_time_s` where frames were stamped;
        centroids in pixels; target ``position`` on the same clock.

    Raises
    ------
    Unreadable
        For a missing or damaged file of the set, or one that does not fit the others.
    """
    main = source.path()
    variable = _netcdf(main) if main.name != ".zgroup" else _zarr_folders(source, main.parent.parent)
    where = options.variable if main.name != ".zgroup" else f"{options.variable}.zarr"
    where = f"{main.name}: {where}" if main.name != ".zgroup" else where
    traces = variable(options.variable, options.variable)
    if traces is None:
        raise Unreadable(f"{where}: the data set has no such variable (reader option `variable`)")
    cell, frame = (_coordinate(variable, options.variable, name, where) for name in ("unit_id", "frame"))
    values = traces.values.T if traces.dims == ("frame", "unit_id") else traces.values
    signal = time_by_roi(values, cells=len(cell), where=where, listed_in="unit_id")
    if len(signal) != len(frame):
        raise Unreadable(f"{where}: {len(signal)} frames, but its coordinate frame lists {len(frame)}")
    stamps = _stamps(source, "timestamps", TIMESTAMPS, max_stray=options.max_stray_timestamps)
    times = None if stamps is None else stamps.of(frame, traces=where)
    if times is None and options.frame_rate_hz is None:
        raise Unreadable(
            f"{where}: no table of timestamps ({' or '.join(TIMESTAMPS)}); name it with `recordings.roles.timestamps` "
            "or give the reader option `frame_rate_hz`"
        )
    zero_s = 0.0 if times is None else float(times[0])
    rate_hz = options.frame_rate_hz or nominal_rate_hz(_given(times), where)
    position = _position(source, options, zero_s=zero_s)
    return build(
        source,
        channels=cell_channels([f"unit-{one}" for one in cell], position=_centroids(variable, cell)),
        signal=Signal(values=signal, sampling_rate_hz=rate_hz, units="a.u."),
        sample_time_s=None if times is None else times - zero_s,
        targets={} if position is None else {"position": position},
        scalars=participant_scalars(source),
        quality={} if stamps is None else {"stray_timestamps": stamps.stray},
    )


def _given(times: FloatArray | None) -> FloatArray:
    assert times is not None
    return times


def _zarr_folders(source: ReaderInput, folder: Path) -> _Variable:
    declared = {*source.entry.files.values(), *source.entry.extra}

    def variable(group: str, name: str) -> NamedArray | None:
        path = folder / f"{group}.zarr"
        # What is not declared is not among the recording's digests, so a change of it would go unnoticed.
        if (path / ".zgroup").relative_to(source.root).as_posix() not in declared:
            return None
        return read_zarr_array(path, name)

    return variable


def _netcdf(path: Path) -> _Variable:
    def variable(_group: str, name: str) -> NamedArray | None:
        with opening(path), h5py.File(path) as file:
            if name not in file:
                return None
            item = file[name]
            dims = tuple(str(dim[0].name).rpartition("/")[2] if len(dim) else "" for dim in item.dims)
            return NamedArray(values=np.asarray(item[()]), dims=dims)

    return variable


def _coordinate(variable: _Variable, group: str, name: str, where: str) -> npt.NDArray[np.int64]:
    found = variable(group, name)
    if found is None or found.values.ndim != 1:
        raise Unreadable(f"{where}: its coordinate {name} is missing")
    return found.values.astype(np.int64)


def _centroids(variable: _Variable, cells: npt.NDArray[np.int64]) -> FloatArray | None:
    """Return the [cell, 3] centres of the cells' footprints; None where there are no footprints."""
    footprints = variable("A", "A")
    if footprints is None:
        return None
    listed = _coordinate(variable, "A", "unit_id", "A")
    if footprints.values.shape[:1] != listed.shape or footprints.values.ndim != 3:
        raise Unreadable(f"A: footprints of shape {footprints.values.shape} for {len(listed)} units")
    centres = dense_centroids(footprints.values)
    row = {int(unit): i for i, unit in enumerate(listed)}
    if missing := [int(unit) for unit in cells if int(unit) not in row]:
        raise Unreadable(f"A: no footprint of unit {missing[0]} ({len(missing)} units have none)")
    return centres[[row[int(unit)] for unit in cells]]


def _stamps(source: ReaderInput, role: str, names: tuple[str, ...], *, max_stray: int = 0) -> FrameTimes | None:
    path = side_file(source, role, names=names)
    return None if path is None else read_frame_times(path, max_stray=max_stray)


def _position(source: ReaderInput, options: Options, *, zero_s: float) -> Target | None:
    path = side_file(source, "position", names=POSITION)
    if path is None:
        return None
    stamps = _stamps(source, "position_timestamps", POSITION_TIMESTAMPS)
    if stamps is None:
        raise Unreadable(
            f"{path.name}: no table of its frames' times ({POSITION_TIMESTAMPS[0]}); name it with "
            "`recordings.roles.position_timestamps`"
        )
    tracked = read_tracking(path, bodypart=options.bodypart, min_likelihood=options.min_likelihood)
    times = stamps.of(tracked.frame, traces=path.name)
    return Target(
        values=tracked.xy * options.position_per_pixel,
        unit=options.position_unit,
        columns=("x", "y"),
        time_s=times - zero_s + options.behaviour_offset_s,
    )
