"""Suite2p: fluorescence of one imaging plane, ``plane0/{F,Fneu,spks,iscell,stat,ops}.npy``.

Layout: ``suite2p.pipeline_s2p`` and ``suite2p.run_s2p`` 1.1 (Pachitariu 2017, 10.1101/061507). A recording is one
plane: planes are taken in turn, so they share no sample times, and ``combined/`` joins them as if they did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import build, opening
from neurofm.readers.shared.guarded_pickle import load_object_array
from neurofm.readers.shared.participants import participant_scalars
from neurofm.readers.shared.roi import FloatArray, cell_channels, time_by_roi
from neurofm.recording import Recording, Signal, Unreadable
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy")

_STATISTICS = ("skew", "compact", "footprint", "npix")
"""Columns of ``stat.npy`` that say how good a ROI is."""


class Options(Settings):
    """What of a plane is wanted."""

    signal: Literal["F", "spks"] = "F"
    """Fluorescence (its neuropil comes along for preprocessing to subtract), or deconvolved activity."""
    cells_only: bool = True
    """Leave out ROIs that the classifier, or a person after it, says are no cells."""
    min_probability: float = Field(default=0.0, ge=0, le=1)
    """Leave out ROIs that the classifier gives a smaller probability of being a cell."""
    rate_hz: float | None = Field(default=None, gt=0)
    """Frames of this plane per second, where ``ops.npy`` is not there or wrong."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one plane's cells.

    Parameters
    ----------
    source
        ``main`` is ``.../plane<N>/F.npy`` (or ``spks.npy``); the other files of its folder stand in
        ``recordings.extra``. Needed: ``iscell.npy`` and ``stat.npy``, ``ops.npy`` unless the rate is an option, and
        ``Fneu.npy`` beside ``F.npy``.
    options
        Which signal, which ROIs.

    Returns
    -------
    Recording
        `signal` [time, cell] in ``a.u.`` with ``neuropil`` in `extra_signals`, ROI centres (``med``) in pixels,
        ``iscell_probability`` and the ROIs' statistics in `quality`.

    Raises
    ------
    Unreadable
        For a missing, damaged or hostile file, files that do not fit each other, or if no ROI is a cell.
    """
    folder = source.path().parent
    if folder.name == "combined":
        raise Unreadable(
            f"combined/{source.path().name}: joins planes that were taken in turn; read plane0, plane1, .. instead"
        )
    stat = _objects(source, "stat.npy")
    iscell = _numbers(source, "iscell.npy")
    if iscell.shape != (len(stat), 2):
        raise Unreadable(f"iscell.npy: has shape {iscell.shape}, but stat.npy lists {len(stat)} ROIs")
    kept = np.flatnonzero((iscell[:, 1] >= options.min_probability) & ((iscell[:, 0] > 0) | (not options.cells_only)))
    if len(kept) == 0:
        raise Unreadable(
            f"iscell.npy: none of {len(stat)} ROIs is accepted as a cell (reader options `cells_only`, "
            "`min_probability`)"
        )
    rate_hz = options.rate_hz or _rate_hz(source)
    values = _traces(source, f"{options.signal}.npy", cells=len(stat))
    extra: dict[str, Signal] = {}
    if options.signal == "F":
        neuropil = _traces(source, "Fneu.npy", cells=len(stat))
        if neuropil.shape != values.shape:
            raise Unreadable(f"Fneu.npy: {len(neuropil)} frames, but F.npy has {len(values)}")
        extra["neuropil"] = Signal(values=neuropil[:, kept], sampling_rate_hz=rate_hz, units="a.u.")
    rois = [stat[i] for i in kept]
    quality = {"iscell": iscell[kept, 0], "iscell_probability": iscell[kept, 1]}
    quality |= {name: _column(rois, name) for name in _STATISTICS if all(name in roi for roi in rois)}
    return build(
        source,
        channels=cell_channels([f"roi-{i}" for i in kept], position=_centres(rois), quality=quality),
        signal=Signal(values=values[:, kept], sampling_rate_hz=rate_hz, units="a.u."),
        extra_signals=extra,
        scalars=participant_scalars(source),
    )


def _file(source: ReaderInput, name: str) -> Path:
    """Return a file of the plane's folder that the recording declares."""
    main = source.entry.files["main"]
    wanted = f"{main.rpartition('/')[0]}/{name}".lstrip("/")
    if wanted not in {*source.entry.files.values(), *source.entry.extra}:
        raise Unreadable(f"{wanted}: is not among the recording's files (`recordings.extra`)")
    return source.root / wanted


def _numbers(source: ReaderInput, name: str) -> npt.NDArray[Any]:
    path = _file(source, name)
    with opening(path):
        return np.asarray(np.load(path, allow_pickle=False))


def _traces(source: ReaderInput, name: str, *, cells: int) -> FloatArray:
    return time_by_roi(_numbers(source, name), cells=cells, where=name, listed_in="stat.npy")


def _objects(source: ReaderInput, name: str) -> list[dict[str, Any]]:
    """Return the dictionaries of a file that Suite2p pickles, without running what a pickle may ask for."""
    loaded = load_object_array(_file(source, name)).ravel()
    if not all(isinstance(one, dict) for one in loaded):
        raise Unreadable(f"{name}: is no array of dictionaries, as Suite2p writes it")
    return list(loaded)


def _rate_hz(source: ReaderInput) -> float:
    (ops,) = _objects(source, "ops.npy") or [{}]
    rate = ops.get("fs")
    if not isinstance(rate, int | float | np.number) or not 0 < float(rate) < np.inf:
        raise Unreadable(f"ops.npy: fs is {rate!r}, no frame rate (reader option `rate_hz`)")
    return float(rate)


def _column(rois: list[dict[str, Any]], name: str) -> FloatArray:
    return np.array([float(roi[name]) for roi in rois])


def _centres(rois: list[dict[str, Any]]) -> FloatArray | None:
    """Return [cell, 3] the ROIs' ``med``, which is (y, x), as (x, y, 0)."""
    if not all(len(roi.get("med", ())) == 2 for roi in rois):
        return None
    return np.array([[float(roi["med"][1]), float(roi["med"][0]), 0.0] for roi in rois])
