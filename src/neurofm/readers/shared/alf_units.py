"""Sorted units of one Neuropixels insertion in ALF files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurofm.readers.shared.alf_tree import SessionTree, load
from neurofm.readers.shared.allen_ccf import acronyms
from neurofm.readers.shared.common import unknown_positions
from neurofm.readers.shared.sorted_spikes import check_rising, check_same_length, sorted_spikes
from neurofm.recording import Channels, Spikes, Unreadable

_EARLIEST_S = -1.0
"""The second probe's clock is fitted to the first one's, so its first spikes may come out a little before 0."""
_ROW_NAMES = frozenset({"cluster_id", "cluster_id.1", "id", "index"})
_GOOD = {"good": 1.0, "mua": 0.0, "noise": 0.0, "unsorted": 0.0}


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """The unit table of an insertion, and when its units fired."""

    channels: Channels
    spikes: Spikes


def read_insertion(tree: SessionTree, *, collection: str) -> Insertion:
    """Read ``spikes``, ``clusters`` and ``channels`` of one insertion.

    Units are the rows of the cluster table, also those without a spike. The observation lasts from the whole second
    at or before the first spike (so that the bins of a session's insertions coincide) to the last spike: the sorted
    files do not state when recording began and ended.

    Parameters
    ----------
    tree
        The session.
    collection
        The spike sorting: ``alf/probe00/pykilosort``.

    Raises
    ------
    Unreadable
        If times and clusters differ in length, times go back or lie before the session, or the cluster table is
        shorter than the clusters named.
    """
    files = {a: tree.find("spikes", a, collection=collection) for a in ("times", "clusters")}
    if not files["clusters"]:
        raise Unreadable(f"{collection}/spikes.times: there is no spikes.clusters beside it")
    name = files["times"][0].name
    spikes = load([files["times"][0], files["clusters"][0]])
    time_s = np.asarray(spikes["times"], dtype=np.float64).ravel()
    cluster = np.asarray(spikes["clusters"]).ravel().astype(np.int64)
    check_same_length(len(time_s), len(cluster), name=name, unit_file=files["clusters"][0].name)
    check_rising(time_s, name=name, what="spike times")
    if len(time_s) and time_s[0] < _EARLIEST_S:
        raise Unreadable(f"{name}: a spike at {time_s[0]:g} s lies before the recording's beginning (0 s)")
    channels = _channels(tree, collection, cluster, name=files["clusters"][0].name)
    start_s, stop_s = (float(np.floor(time_s[0])), float(time_s[-1])) if len(time_s) else (0.0, 0.0)
    return Insertion(
        channels=channels, spikes=sorted_spikes(time_s, cluster, start_s=start_s, stop_s=stop_s, name=name)
    )


def _channels(tree: SessionTree, collection: str, cluster: npt.NDArray[np.int64], *, name: str) -> Channels:
    # Where the electrodes are is told beside the sorting, or once for the probe.
    places = (collection, collection.rpartition("/")[0])
    peak = tree.one("clusters", "channels", collections=places)
    metrics = tree.one("clusters", "metrics", collections=places)
    if len(cluster) and cluster.min() < 0:
        raise Unreadable(f"{name}: a spike of cluster {cluster.min()}, which cannot be")
    named = int(cluster.max()) + 1 if len(cluster) else 0
    n = named
    if peak is not None:
        peak = np.asarray(peak).ravel().astype(np.int64)
        n = len(peak)
        if n < named:
            raise Unreadable(
                f"{name}: a spike of cluster {named - 1}, but the unit table (clusters.channels) has {n} rows"
            )
    elif isinstance(metrics, pd.DataFrame):
        n = max(n, int(_row_of(metrics).max(initial=-1)) + 1)
    position, unit, space = _positions(tree, places, peak, n)
    return Channels(
        id=tuple(f"unit-{i}" for i in range(n)),
        position=position,
        position_unit=unit,
        space=space,
        region=_regions(tree, places, peak, n),
        quality=_quality(metrics, n) if isinstance(metrics, pd.DataFrame) else {},
    )


def _row_of(metrics: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the cluster of each row of the metrics, which leave out clusters without spikes."""
    if "cluster_id" in metrics.columns:
        return metrics["cluster_id"].to_numpy().astype(np.int64)
    return metrics.index.to_numpy().astype(np.int64)


def _quality(metrics: pd.DataFrame, n: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return the numeric metrics by the archive's names, and ``good``: 1 where the archive's own tests all passed.

    IBL's ``label`` is the share of its three tests (refractory violations, amplitude cutoff, median amplitude) that a
    unit passed; where it is missing, the sorter's ``ks2_label`` decides.
    """
    row = _row_of(metrics)
    inside = (row >= 0) & (row < n)
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for name in sorted(set(map(str, metrics.columns)) - _ROW_NAMES):
        values = metrics[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            columns[name] = np.full(n, np.nan)
            columns[name][row[inside]] = values.to_numpy(dtype=np.float64, na_value=np.nan)[inside]
    good = np.full(n, np.nan)
    if "label" in columns:
        known = np.isfinite(columns["label"])
        good[known] = columns["label"][known] >= 1
    elif "ks2_label" in metrics.columns:
        good[row[inside]] = [_GOOD.get(str(word), np.nan) for word in metrics["ks2_label"].to_numpy()[inside]]
    return columns | ({"good": good} if np.isfinite(good).any() else {})


def _regions(tree: SessionTree, places: tuple[str, str], peak: npt.NDArray[np.int64] | None, n: int) -> tuple[str, ...]:
    """Return the Allen acronym at each unit's loudest electrode; nothing where the track was not traced."""
    texts = tree.one("clusters", "acronym", collections=places)
    if texts is not None and len(texts) == n:
        return tuple(str(text) for text in texts)
    ids = tree.one("channels", "brainLocationIds_ccf_2017", collections=places)
    if ids is None or peak is None:
        return ()
    by_electrode = acronyms(ids)
    return tuple(by_electrode[electrode] if 0 <= electrode < len(by_electrode) else "" for electrode in peak)


def _positions(
    tree: SessionTree, places: tuple[str, str], peak: npt.NDArray[np.int64] | None, n: int
) -> tuple[npt.NDArray[np.float64], str, str]:
    """Return [unit, 3], its unit and space: micrometres from bregma (ML, AP, DV), else along and across the probe."""
    position = unknown_positions(n)
    if peak is None:
        return position, "", "unknown"
    for attribute, space in (("mlapdv", "bregma-mlapdv"), ("localCoordinates", "probe")):
        places_of = tree.one("channels", attribute, collections=places)
        if places_of is None or np.ndim(places_of) != 2:
            continue
        axes = min(np.shape(places_of)[1], 3)
        inside = (peak >= 0) & (peak < len(places_of))
        position[inside] = 0.0
        position[inside, :axes] = np.asarray(places_of, dtype=np.float64)[peak[inside], :axes]
        return position, "um", space
    return position, "", "unknown"
